"""Two networks on the same test images: what differs, and whether more than chance would."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from imgpipe.core.errors import PipelineError
from imgpipe.evaluation.metrics import score_resamples
from imgpipe.evaluation.predictions import Predictions

SIGNIFICANCE = 0.05
RESAMPLES = 1_000
_AT_ONCE_VALUES = 1 << 20  # of the weights of resamples, which bounds memory
# Of these a lower value is better.
_LOSSES = ("loss", "calibration_error")

Verdict = Literal["better", "worse", "no evidence either way"]


@dataclass(frozen=True)
class Difference:
    """One score of both networks; the interval holds 95 % of the differences in resamples."""

    score: str
    first: float
    second: float
    low: float
    high: float

    @property
    def change(self) -> float:
        """By how much the second one's is larger."""
        return self.second - self.first

    @property
    def verdict(self) -> Verdict:
        """Of the second network by this score: whether the interval lies on one side of zero."""
        if self.low <= 0 <= self.high:
            return "no evidence either way"
        return "better" if (self.low > 0) != (self.score in _LOSSES) else "worse"


@dataclass(frozen=True)
class Comparison:
    """The second of two networks beside the first, on N test images."""

    differences: list[Difference]
    won: NDArray[np.int64]
    """Indices of the images that only the second one is right about, its most confident first."""
    lost: NDArray[np.int64]
    """Indices of the images that only the first one is right about, its most confident first."""
    p_value: float
    """Of McNemar's exact test: how often two equally good networks would differ so much."""

    @property
    def verdict(self) -> Verdict:
        """Of the second network, by accuracy."""
        if self.p_value >= SIGNIFICANCE:
            return "no evidence either way"
        return "better" if len(self.won) > len(self.lost) else "worse"


def align(
    first: Predictions, second: Predictions, names: tuple[str, str]
) -> tuple[Predictions, Predictions]:
    """Return both in the order of the first one's images and classes.

    Raises:
        PipelineError: the test images or their classes are not the same; the line says why.
    """

    def refuse(reason: str) -> PipelineError:
        return PipelineError(f"{names[0]} and {names[1]} cannot be compared: {reason}")

    if sorted(first.classes) != sorted(second.classes):
        raise refuse(
            f"their classes differ: {', '.join(first.classes)}; and {', '.join(second.classes)}"
        )
    shared = set(first.identities) & set(second.identities)
    counts = len(first.identities), len(second.identities)
    if len(shared) < max(counts):
        raise refuse(
            f"their test sets differ: {counts[0]} and {counts[1]} images, {len(shared)} of them"
            " in both"
        )
    place = {identity: row for row, identity in enumerate(second.identities)}
    rows = [place[identity] for identity in first.identities]
    columns = [second.classes.index(name) for name in first.classes]
    # Of each class of the second one, its number in the first one.
    number = np.array([first.classes.index(name) for name in second.classes])
    aligned = Predictions(
        classes=first.classes,
        identities=first.identities,
        labels=number[second.labels][rows],
        probabilities=second.probabilities[rows][:, columns],
    )
    other = np.flatnonzero(aligned.labels != first.labels)
    if len(other):
        raise refuse(
            f"{len(other)} test images have another class in each, such as"
            f" {first.identities[other[0]]}"
        )
    return first, aligned


def compare_predictions(
    first: Predictions, second: Predictions, *, top_k: int, bins: int
) -> Comparison:
    """Compare two networks' predictions of the same images, in the same order (`align`).

    Accuracy is tested by McNemar's exact test (McNemar 1947, doi:10.1007/BF02295996), which looks
    at the images that only one of the networks is right about. The interval of each score's
    difference is the percentile interval of a paired bootstrap (Efron and Tibshirani 1993, An
    Introduction to the Bootstrap, chapter 13): the test images are drawn anew, the same for both.

    Args:
        top_k: how many guesses a "top k" accuracy allows.
        bins: of the calibration error.
    """
    labels = first.labels
    right = [each.probabilities.argmax(axis=1) == labels for each in (first, second)]
    won, lost = np.flatnonzero(~right[0] & right[1]), np.flatnonzero(right[0] & ~right[1])
    whole = np.ones((1, len(labels)))
    plain = [
        score_resamples(labels, each.probabilities, whole, top_k=top_k, bins=bins)
        for each in (first, second)
    ]
    resampled: dict[str, list[NDArray[np.float64]]] = {name: [] for name in plain[0]}
    for weights in _draw_resamples(len(labels)):
        scores = [
            score_resamples(labels, each.probabilities, weights, top_k=top_k, bins=bins)
            for each in (first, second)
        ]
        for name, parts in resampled.items():
            parts.append(scores[1][name] - scores[0][name])
    return Comparison(
        differences=[
            Difference(name, float(plain[0][name][0]), float(plain[1][name][0]), *_interval(parts))
            for name, parts in resampled.items()
        ],
        won=_most_confident_first(won, second),
        lost=_most_confident_first(lost, first),
        p_value=mcnemar_p_value(len(won), len(lost)),
    )


def score_intervals(
    predictions: Predictions, *, top_k: int, bins: int
) -> dict[str, tuple[float, float]]:
    """Return the 95 % interval of each score of one network, by the bootstrap.

    Arguments and source as of `compare_predictions`.
    """
    resampled: dict[str, list[NDArray[np.float64]]] = {}
    for weights in _draw_resamples(len(predictions.labels)):
        scores = score_resamples(
            predictions.labels, predictions.probabilities, weights, top_k=top_k, bins=bins
        )
        for name, values in scores.items():
            resampled.setdefault(name, []).append(values)
    return {name: _interval(parts) for name, parts in resampled.items()}


def _interval(parts: list[NDArray[np.float64]]) -> tuple[float, float]:
    low, high = np.percentile(np.concatenate(parts), [2.5, 97.5])
    return float(low), float(high)


def _most_confident_first(
    indices: NDArray[np.int64], predictions: Predictions
) -> NDArray[np.int64]:
    confidence = predictions.probabilities[indices].max(axis=1)
    ordered: NDArray[np.int64] = indices[np.argsort(-confidence, kind="stable")]
    return ordered


def mcnemar_p_value(won: int, lost: int) -> float:
    """Return the two-sided p-value of McNemar's exact test.

    That is, the probability that `won + lost` tosses of a fair coin come out so unevenly or more.
    """
    tosses = won + lost
    ways, of_any = 0, 1  # of_any: in how many ways k of the tosses are heads
    for heads in range(min(won, lost) + 1):
        ways += of_any
        of_any = of_any * (tosses - heads) // (heads + 1)
    p_value: float = 2 * ways / 2**tosses
    return min(1.0, p_value)


def _draw_resamples(examples: int) -> Iterator[NDArray[np.float64]]:
    """Yield how often each example is drawn in each resample, (R, N), some resamples at a time."""
    generator = np.random.default_rng(0)
    at_once = max(1, _AT_ONCE_VALUES // examples)
    for start in range(0, RESAMPLES, at_once):
        count = min(at_once, RESAMPLES - start)
        drawn = generator.integers(examples, size=(count, examples))
        yield np.stack([np.bincount(row, minlength=examples) for row in drawn]).astype(np.float64)
