"""Two networks on shared test images: how they differ, and whether chance explains it."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from imgpipe.core.errors import PipelineError
from imgpipe.evaluation.metrics import find_metric, score_resamples, wilson_interval
from imgpipe.evaluation.predictions import Predictions
from imgpipe.evaluation.resamples import Resamples, ScoredExamples

SIGNIFICANCE = 0.05
SMALLEST_SHARED_FRAC = 0.5
"""Of the larger of two test sets: runs with a smaller shared part are not compared."""
INTERVAL_RESAMPLES = 1_000
COMPARISON_RESAMPLES = 2_500
"""More, because the corrected intervals need percentiles of a fraction of one percent."""
_AT_ONCE_VALUES = 1 << 20  # weights of resamples; so many fit into the cache of a processor

Verdict = Literal["better", "worse", "no evidence either way"]


@dataclass(frozen=True)
class Difference:
    """One metric of two networks, and how much the difference varies over resamples."""

    score: str
    """Name of the metric in metrics/test.json."""
    first: float
    second: float
    low: float
    """Lower end of the 95 % interval of the difference."""
    high: float
    corrected_low: float
    """Lower end of the wider interval, which is corrected for the number of metrics."""
    corrected_high: float

    @property
    def change(self) -> float:
        """How much the value of the second network is larger."""
        return self.second - self.first

    @property
    def verdict(self) -> Verdict:
        """Verdict on the second network by this metric, from the corrected interval."""
        if self.corrected_low <= 0 <= self.corrected_high:
            return "no evidence either way"
        increases = self.corrected_low > 0
        return "better" if increases == find_metric(self.score).higher_is_better else "worse"


@dataclass(frozen=True)
class Comparison:
    """The second of two networks against the first, on N test images."""

    differences: list[Difference]
    won: NDArray[np.int64]
    """Indices of the images that only the second network gets right, its most confident first."""
    lost: NDArray[np.int64]
    """Indices of the images that only the first network gets right, its most confident first."""
    p_value: float
    """How often two equally good networks differ this much or more, by McNemar's exact test."""

    @property
    def verdict(self) -> Verdict:
        """Verdict on the second network, by accuracy."""
        if self.p_value >= SIGNIFICANCE:
            return "no evidence either way"
        return "better" if len(self.won) > len(self.lost) else "worse"


def align(
    first: Predictions, second: Predictions, names: tuple[str, str]
) -> tuple[Predictions, Predictions]:
    """Return both tables for their shared images, in the order of `first`.

    An image is shared if both tables have it with the same class. The classes are in the order of
    `first`, too.

    Raises:
        PipelineError: the classes differ, or the images in both are less than
            `SMALLEST_SHARED_FRAC` of the larger test set, or all of one class.
    """

    def refuse(reason: str) -> PipelineError:
        return PipelineError(f"{names[0]} and {names[1]} cannot be compared: {reason}")

    if sorted(first.classes) != sorted(second.classes):
        raise refuse(
            f"their classes differ: {', '.join(first.classes)}; and {', '.join(second.classes)}"
        )
    columns = [second.classes.index(name) for name in first.classes]
    # The label in `first` of each class of `second`.
    number = np.array([first.classes.index(name) for name in second.classes])
    other_labels = number[second.labels]
    place = {identity: row for row, identity in enumerate(second.identities)}
    pairs = [
        (row, place[identity])
        for row, identity in enumerate(first.identities)
        if identity in place and other_labels[place[identity]] == first.labels[row]
    ]
    counts = len(first.identities), len(second.identities)
    if len(pairs) < SMALLEST_SHARED_FRAC * max(counts):
        raise refuse(
            f"their test sets differ: {counts[0]} and {counts[1]} images, {len(pairs)} of them in"
            " both with the same class; at least half of the larger test set is needed"
        )
    rows, other_rows = np.array(pairs).T
    identities, labels = [first.identities[row] for row in rows], first.labels[rows]
    if len(present := np.unique(labels)) == 1:
        name = first.classes[present[0]]
        raise refuse(f"their test sets differ: the images in both are all of class {name!r}")
    probabilities = first.probabilities[rows], second.probabilities[other_rows][:, columns]
    return (
        Predictions(first.classes, identities, labels, probabilities[0]),
        Predictions(first.classes, identities, labels, probabilities[1]),
    )


def compare_predictions(
    first: Predictions, second: Predictions, *, top_k: int, bins: int
) -> Comparison:
    """Compare the second network's predictions of the same images with the first one's (`align`).

    Accuracy is tested by McNemar's exact test (McNemar 1947, doi:10.1007/BF02295996), which looks
    at the images that only one of the networks gets right. The interval of each metric's difference
    is the percentile interval of a paired bootstrap (Efron and Tibshirani 1993, An Introduction to
    the Bootstrap, chapter 13): the test images are drawn anew, the same images for both networks.

    With m metrics, some 95 % interval excludes 0 by chance in up to m x 5 % of comparisons of
    equally good networks. So the verdict on one metric uses the interval of level 1 - 0.05 / m
    (Bonferroni; Dunn 1961, doi:10.1080/01621459.1961.10482090).
    """
    both = _score_both(first, second, top_k, bins)
    won = np.flatnonzero(~both[0].correct & both[1].correct)
    lost = np.flatnonzero(both[0].correct & ~both[1].correct)
    return Comparison(
        differences=_measure_differences(both, score_resamples),
        won=_most_confident_first(won, second),
        lost=_most_confident_first(lost, first),
        p_value=mcnemar_p_value(len(won), len(lost)),
    )


def compare_calibration(first: Predictions, second: Predictions, *, bins: int) -> list[Difference]:
    """Return the differences in loss and calibration error, measured as `compare_predictions` does.

    It is faster, because it leaves the other metrics out.
    """
    metrics = [find_metric(name) for name in ("loss", "calibration_error")]
    score = partial(score_resamples, metrics=metrics)
    return _measure_differences(_score_both(first, second, 1, bins), score)


def _score_both(
    first: Predictions, second: Predictions, top_k: int, bins: int
) -> tuple[ScoredExamples, ScoredExamples]:
    return (
        ScoredExamples(first.labels, first.probabilities, top_k, bins),
        ScoredExamples(first.labels, second.probabilities, top_k, bins),
    )


def _measure_differences(
    both: tuple[ScoredExamples, ScoredExamples],
    score: Callable[[Resamples], dict[str, NDArray[np.float64]]],
) -> list[Difference]:
    """Return the difference in each metric; `score` returns the metrics of resamples."""
    whole = [score(Resamples.of_whole(each)) for each in both]
    changes: dict[str, list[NDArray[np.float64]]] = {name: [] for name in whole[0]}
    for weights in _draw_resamples(len(both[0].labels), COMPARISON_RESAMPLES):
        scores = [score(Resamples(each, weights)) for each in both]
        for name, parts in changes.items():
            parts.append(scores[1][name] - scores[0][name])
    return [
        Difference(
            name,
            float(whole[0][name][0]),
            float(whole[1][name][0]),
            *_interval(parts, SIGNIFICANCE),
            *_interval(parts, SIGNIFICANCE / len(changes)),
        )
        for name, parts in changes.items()
    ]


def score_intervals(
    predictions: Predictions, *, top_k: int, bins: int
) -> dict[str, tuple[float, float]]:
    """Return the 95 % interval of each metric of one network.

    For a proportion it is Wilson's: if all images are right, resamples of them do not vary, and a
    bootstrap interval would have no width. For the other metrics it is the bootstrap's, with the
    source and arguments of `compare_predictions`.
    """
    count = len(predictions.labels)
    examples = ScoredExamples(predictions.labels, predictions.probabilities, top_k, bins)
    resampled: dict[str, list[NDArray[np.float64]]] = {}
    for weights in _draw_resamples(count, INTERVAL_RESAMPLES):
        for name, values in score_resamples(Resamples(examples, weights)).items():
            resampled.setdefault(name, []).append(values)
    intervals = {name: _interval(parts, SIGNIFICANCE) for name, parts in resampled.items()}
    for name, (value,) in score_resamples(Resamples.of_whole(examples)).items():
        if find_metric(name).is_proportion:
            intervals[name] = wilson_interval(round(value * count), count)
    return intervals


def _interval(parts: list[NDArray[np.float64]], outside: float) -> tuple[float, float]:
    """Return the interval that leaves out a share of the values, half of the share at each end.

    Resamples without a value (NaN) do not count.
    """
    tail_percent = 100 * outside / 2
    low, high = np.nanpercentile(np.concatenate(parts), [tail_percent, 100 - tail_percent])
    return float(low), float(high)


def _most_confident_first(
    indices: NDArray[np.int64], predictions: Predictions
) -> NDArray[np.int64]:
    confidence = predictions.probabilities[indices].max(axis=1)
    ordered: NDArray[np.int64] = indices[np.argsort(-confidence, kind="stable")]
    return ordered


def mcnemar_p_value(won: int, lost: int) -> float:
    """Return the two-sided p-value of McNemar's exact test.

    It is the probability that `won + lost` tosses of a fair coin are at least as uneven.
    """
    tosses = won + lost
    ways, of_any = 0, 1  # of_any: in how many ways k of the tosses are heads
    for heads in range(min(won, lost) + 1):
        ways += of_any
        of_any = of_any * (tosses - heads) // (heads + 1)
    p_value: float = 2 * ways / (1 << tosses)
    return min(1.0, p_value)


def _draw_resamples(examples: int, resamples: int) -> Iterator[NDArray[np.float64]]:
    """Yield how often each example is drawn in each resample, (R, N), some resamples at a time."""
    generator = np.random.default_rng(0)
    at_once = max(1, _AT_ONCE_VALUES // examples)
    for start in range(0, resamples, at_once):
        count = min(at_once, resamples - start)
        drawn = generator.integers(examples, size=(count, examples))
        yield np.stack([np.bincount(row, minlength=examples) for row in drawn]).astype(np.float64)
