"""Logistic regression on features: the output layer of a pretrained network.

The fit minimizes the mean cross-entropy plus a penalty times the sum of w^2. The penalty applies to
the weights w of the layer, not to the biases. The problem is convex, so the result does not depend
on the start or on the order of the examples. All sums are exact, so an equal fit has the same bytes
on every processor.

The training loop of the other networks could fit the layer, too. With few images its validation
loss is higher (benchmarks/trials.md). scikit-learn's regression records no history.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from imgpipe.core.elementary import log
from imgpipe.core.exact_sums import ExactMatrix, dot, softmax, sum_exactly
from imgpipe.nn.transfer.lbfgs import minimize

_FOLD_STREAM = 5  # other random numbers than for the bootstrap sample
_GRADIENT_TOLERANCE = 1e-5
_SMALLEST_PROBABILITY = 1e-7


class Layer(NamedTuple):
    """A linear layer: logits = features @ kernel + bias."""

    kernel: NDArray[np.float64]
    """(F, outputs); for two classes one output, the logit of the second class."""
    bias: NDArray[np.float64]
    """(outputs,)."""

    def predict(self, features: ExactMatrix) -> NDArray[np.float64]:
        """Return the probability of each class, (N, K), for features (N, F)."""
        probabilities, _ = self.predict_with_logarithms(features)
        return probabilities

    def predict_with_logarithms(
        self, features: ExactMatrix
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Return the probability of each class, (N, K), and its natural logarithm."""
        logits = features.multiply(self.kernel) + self.bias
        if logits.shape[1] == 1:
            logits = np.concatenate([np.zeros_like(logits), logits], axis=1)
        return softmax(logits)

    def include_standardization(self, mean: NDArray[np.float32], scale: np.float32) -> "Layer":
        """Return the layer that does with features what this one does with standardized ones."""
        kernel = self.kernel / scale
        return Layer(kernel, self.bias - sum_exactly(mean[:, None] * kernel, axis=0))


@dataclass(frozen=True)
class Examples:
    """Examples of a fit."""

    features: ExactMatrix
    """(N, F)."""
    targets: NDArray[np.float64]
    """(N, K), the share of each class in the cross-entropy: one-hot vectors, or smoothed ones."""
    weights: NDArray[np.float64]
    """(N,), the weight of each example."""


@dataclass(frozen=True)
class LabeledFeatures:
    """Images of a split, with their features."""

    features: NDArray[np.float32]
    """(N, F)."""
    targets: NDArray[np.float64]
    """(N, K), see `Examples`."""
    weights: NDArray[np.float64]
    """(N,), the weight of each example; the mean is 1."""
    groups: NDArray[np.int64]
    """(N,), the number of the image that each example is a variant of."""

    def subset(self, chosen: NDArray[np.bool_]) -> "LabeledFeatures":
        """Return some of the examples; the weights are not scaled again."""
        return LabeledFeatures(
            self.features[chosen], self.targets[chosen], self.weights[chosen], self.groups[chosen]
        )

    def standardize(self, mean: NDArray[np.float32], scale: np.float32) -> Examples:
        """Return the examples with features minus `mean`, divided by `scale`."""
        features = ExactMatrix((self.features - mean) / scale)
        return Examples(features, self.targets, self.weights)


class CrossValidation(NamedTuple):
    """The chosen penalty, and what the cross-validation says about the training examples."""

    penalty: float
    log_loss: float | None
    """None if there was no cross-validation."""
    probabilities: NDArray[np.float32] | None
    """(N, K), of each example by the layer that was fitted to the other folds."""


@contextmanager
def one_thread() -> Iterator[None]:
    """Multiply matrices with one thread, because more threads are slower, and change no bit.

    BLAS divides even a product with one column (measured on two cores beside other work:
    cross-validation on 1,800 photographs 1.2 s of processor time instead of 8.2 s).
    """
    from threadpoolctl import threadpool_limits  # here: only pretrained networks need the package

    with threadpool_limits(1):
        yield


def fit_layer(
    examples: Examples,
    penalty: float,
    *,
    most_iterations: int,
    start: Layer | None = None,
    on_iteration: Callable[[Layer], object] | None = None,
) -> Layer:
    """Fit a linear layer.

    Args:
        examples: the training examples.
        penalty: factor of the sum of w^2, which is added to the mean cross-entropy.
        most_iterations: stop after this number of iterations, or earlier if the gradient is small.
        start: the first layer; by default all weights are 0.
        on_iteration: called with the layer after each iteration.
    """
    features, targets = examples.features, examples.targets
    width, classes = features.shape[1], targets.shape[1]
    outputs = 1 if classes == 2 else classes
    weights = examples.weights[:, None] / sum_exactly(examples.weights)

    def to_layer(values: NDArray[np.float64]) -> Layer:
        return Layer(values[:-outputs].reshape(width, outputs), values[-outputs:])

    def objective(values: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
        layer = to_layer(values)
        probabilities, logarithms = layer.predict_with_logarithms(features)
        loss = penalty * dot(layer.kernel, layer.kernel) - dot(weights * targets, logarithms)
        residuals = (weights * (probabilities - targets))[:, classes - outputs :]
        kernel = features.multiply_transposed(residuals) + 2 * penalty * layer.kernel
        return loss, np.concatenate([kernel.ravel(), sum_exactly(residuals, axis=0)])

    begin = np.zeros((width + 1) * outputs)
    if start is not None:
        begin = np.concatenate([start.kernel.ravel(), start.bias])
    found = minimize(
        objective,
        begin,
        gradient_tolerance=_GRADIENT_TOLERANCE,
        most_iterations=most_iterations,
        on_iteration=None
        if on_iteration is None
        else lambda values: on_iteration(to_layer(values)),
    )
    return to_layer(found)


def choose_penalty(
    examples: LabeledFeatures,
    penalties: Sequence[float],
    *,
    folds: int,
    seed: int,
    most_iterations: int,
) -> CrossValidation:
    """Choose the penalty of lowest log loss in a stratified cross-validation.

    All variants of an image are in one fold. If a class has fewer images than `folds`, there are as
    many folds as images. If a class has one image, there is no cross-validation: the strongest
    penalty is chosen.

    Args:
        examples: examples of the training split.
        penalties: the values to choose from, in ascending order.
        folds: the number of folds.
        seed: seed of the folds.
        most_iterations: the most iterations of each fit.
    """
    labels = examples.targets.argmax(axis=1)
    images, first = np.unique(examples.groups, return_index=True)
    per_class = np.bincount(labels[first], minlength=examples.targets.shape[1])
    folds = min(folds, int(per_class.min()))
    if folds < 2:
        return CrossValidation(penalties[-1], None, None)
    fold_of_image = _deal_into_folds(labels[first], folds, seed)
    fold = fold_of_image[np.searchsorted(images, examples.groups)]
    losses = np.zeros(len(penalties))
    layers: list[list[Layer]] = []  # of each fold, for each penalty
    for number in range(folds):
        fitted, held_out = examples.subset(fold != number), examples.subset(fold == number)
        mean, scale = fit_standardization(fitted.features)
        standardized, rest = (part.standardize(mean, scale) for part in (fitted, held_out))
        layer = None
        layers.append([])
        # Each fit starts from the layer of the next stronger penalty.
        for index in reversed(range(len(penalties))):
            layer = fit_layer(
                standardized, penalties[index], most_iterations=most_iterations, start=layer
            )
            losses[index] += dot(
                held_out.weights,
                cross_entropy(layer.predict(rest.features), labels[fold == number]),
            )
            layers[number].insert(0, layer.include_standardization(mean, scale))
    best = int(losses.argmin())
    log_loss = float(losses[best] / sum_exactly(examples.weights))
    probabilities = np.empty(examples.targets.shape, dtype=np.float32)
    for number, fitted_layers in enumerate(layers):
        held_out_features = ExactMatrix(examples.features[fold == number])
        probabilities[fold == number] = fitted_layers[best].predict(held_out_features)
    return CrossValidation(penalties[best], log_loss, probabilities)


def cross_entropy(
    probabilities: NDArray[np.float64], labels: NDArray[np.int64]
) -> NDArray[np.float64]:
    """Return the cross-entropy (N,) in nats of probabilities (N, K) for labels (N,)."""
    right = probabilities[np.arange(len(labels)), labels]
    losses: NDArray[np.float64] = -log(np.maximum(right, _SMALLEST_PROBABILITY))
    return losses


def fit_standardization(features: NDArray[np.float32]) -> tuple[NDArray[np.float32], np.float32]:
    """Return the mean (F,) of features, and the root of the mean square of their deviations."""
    mean = (sum_exactly(features, axis=0) / len(features)).astype(np.float32)
    scale = np.sqrt(sum_exactly(np.square(features - mean, dtype=np.float64)) / features.size)
    return mean, np.float32(scale or 1.0)


def _deal_into_folds(labels: NDArray[np.int64], folds: int, seed: int) -> NDArray[np.int64]:
    """Return the fold of each image, (N,): the images of each class are spread at random."""
    fold = np.empty(len(labels), dtype=np.int64)
    generator = np.random.default_rng([seed, _FOLD_STREAM])
    for label in np.unique(labels):
        images = generator.permutation(np.flatnonzero(labels == label))
        fold[images] = np.arange(len(images)) % folds
    return fold
