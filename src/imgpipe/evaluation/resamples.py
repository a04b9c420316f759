"""Test examples with the quantities that metrics are computed from, for many resamples at once."""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from imgpipe.core.elementary import log


@dataclass(frozen=True)
class ScoredExamples:
    """N test examples of K classes with the probabilities that a network gives them."""

    labels: NDArray[np.int64]
    """(N,) in [0, K)."""
    probabilities: NDArray[np.float32]
    """(N, K), rows sum to 1."""
    top_k: int
    """Number of guesses that a "top k" accuracy allows."""
    bins: int
    """Number of bins of confidence."""

    @property
    def classes(self) -> int:
        """The number of classes, K."""
        return int(self.probabilities.shape[1])

    @cached_property
    def predicted(self) -> NDArray[np.int64]:
        """(N,): the class of largest probability; the first one if several are equal."""
        return np.asarray(self.probabilities.argmax(axis=1))

    @cached_property
    def correct(self) -> NDArray[np.bool_]:
        """(N,): whether the predicted class is the actual one."""
        return np.asarray(self.predicted == self.labels)

    @cached_property
    def confidence(self) -> NDArray[np.float64]:
        """(N,): the largest probability."""
        return np.asarray(self.probabilities.max(axis=1), dtype=np.float64)

    @cached_property
    def confidence_bin(self) -> NDArray[np.intp]:
        """(N,): the number of the bin (i / bins, (i + 1) / bins] that holds the confidence."""
        numbers = np.ceil(self.confidence * self.bins).astype(np.intp) - 1
        return np.clip(numbers, 0, self.bins - 1)

    @cached_property
    def cross_entropy(self) -> NDArray[np.float64]:
        """(N,): minus the logarithm of the probability of the actual class, in nats."""
        # If a network is certain and wrong, its loss would be infinite. scikit-learn uses the same
        # bound.
        smallest = np.finfo(self.probabilities.dtype).eps
        actual = self.probabilities[np.arange(len(self.labels)), self.labels]
        return -log(np.clip(actual, smallest, 1).astype(np.float64))

    @cached_property
    def in_top_k(self) -> NDArray[np.bool_]:
        """(N,): whether the actual class is among the `top_k` of largest probability."""
        guesses = np.argsort(self.probabilities, axis=1, kind="stable")[:, -self.top_k :]
        return np.asarray((guesses == self.labels[:, None]).any(axis=1))


@dataclass(frozen=True)
class Resamples:
    """R resamples of N examples.

    Each class has a column, not each pair of classes: memory grows with R x K, not R x K x K.
    """

    examples: ScoredExamples
    weights: NDArray[np.float64]
    """(R, N): how often each example is in each resample, whole numbers."""

    @classmethod
    def of_whole(cls, examples: ScoredExamples) -> "Resamples":
        """Return one resample that holds each example once."""
        return cls(examples, np.ones((1, len(examples.labels))))

    @cached_property
    def total(self) -> NDArray[np.float64]:
        """(R,): number of examples in each resample."""
        return np.asarray(self.weights.sum(axis=1))

    @cached_property
    def hits(self) -> NDArray[np.float64]:
        """(R, K): how many examples of each class are predicted correctly."""
        return self.count(self.examples.labels, self.weights * self.examples.correct)

    @cached_property
    def actual(self) -> NDArray[np.float64]:
        """(R, K): how many examples each class has."""
        return self.count(self.examples.labels, self.weights)

    @cached_property
    def answered(self) -> NDArray[np.float64]:
        """(R, K): for how many examples each class is predicted."""
        return self.count(self.examples.predicted, self.weights)

    def count(
        self, classes: NDArray[np.int64], weights: NDArray[np.float64]
    ) -> NDArray[np.float64]:
        """Return the sums (R, K) of weights (R, N) over the examples of each class (N,)."""
        known = self.examples.classes
        return np.stack([np.bincount(classes, weights=row, minlength=known) for row in weights])

    def share(self, chosen: NDArray[np.bool_]) -> NDArray[np.float64]:
        """Return the share (R,) of examples that are chosen (N,)."""
        return np.asarray((self.weights * chosen).sum(axis=1) / self.total)

    def mean_over_present(self, values: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return the mean (R,) of values (R, K) over the classes that are in the resample."""
        present = self.actual > 0
        means: NDArray[np.float64] = (values * present).sum(axis=1) / present.sum(axis=1)
        return means


def divide(part: NDArray[np.float64], whole: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the quotient, 0 if the whole is 0."""
    return np.divide(part, whole, out=np.zeros_like(part), where=whole > 0)
