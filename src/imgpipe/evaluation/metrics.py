"""The metrics of a classifier: one registry entry each, computed for many resamples at once.

A new metric is a function of `Resamples` and an entry in `METRICS`; metrics/test.json, the model
card, `compare` and the charts follow. Own code, because scikit-learn takes one resample at a time,
and its import takes 1.2 s; the tests compare both.
"""

import math
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from imgpipe.evaluation.resamples import Resamples, ScoredExamples, divide
from imgpipe.evaluation.roc import roc_areas


def accuracy(resamples: Resamples) -> NDArray[np.float64]:
    """Return the share of examples whose predicted class is the actual one."""
    return resamples.share(resamples.examples.correct)


def loss(resamples: Resamples) -> NDArray[np.float64]:
    """Return the mean cross-entropy in nats."""
    # Not a matrix product, whose order of summation depends on the processor.
    losses = (resamples.weights * resamples.examples.cross_entropy).sum(axis=1)
    return np.asarray(losses / resamples.total)


def macro_precision(resamples: Resamples) -> NDArray[np.float64]:
    """Return the mean precision: of each class, the share of its predictions that are correct."""
    return resamples.mean_over_present(divide(resamples.hits, resamples.answered))


def macro_recall(resamples: Resamples) -> NDArray[np.float64]:
    """Return the mean recall: of each class, the share of its examples that are found."""
    return resamples.mean_over_present(divide(resamples.hits, resamples.actual))


def macro_f1(resamples: Resamples) -> NDArray[np.float64]:
    """Return the mean F1: of each class, the harmonic mean of precision and recall."""
    both = resamples.actual + resamples.answered
    return resamples.mean_over_present(divide(2 * resamples.hits, both))


def roc_auc(resamples: Resamples) -> NDArray[np.float64]:
    """Return the mean over the classes of the area under the curve of the class.

    It is NaN in a resample that holds one class only.
    """
    examples = resamples.examples
    areas = roc_areas(examples.labels, examples.probabilities, resamples.weights)
    classes = (~np.isnan(areas)).sum(axis=0)
    means = np.full(len(classes), np.nan)
    np.divide(np.nansum(areas, axis=0), classes, out=means, where=classes > 0)
    return means


def top_k_accuracy(resamples: Resamples) -> NDArray[np.float64] | None:
    """Return the share of examples whose class is among the k of largest probability."""
    if resamples.examples.classes <= resamples.examples.top_k:
        return None
    return resamples.share(resamples.examples.in_top_k)


def calibration_error(resamples: Resamples) -> NDArray[np.float64]:
    """Return the expected calibration error over equal bins of confidence.

    Source: Guo, Pleiss, Sun and Weinberger (2017), arXiv:1706.04599, section 2.
    """
    examples = resamples.examples
    gap = examples.correct - examples.confidence
    gaps = [
        np.bincount(examples.confidence_bin, weights=row * gap, minlength=examples.bins)
        for row in resamples.weights
    ]
    return np.asarray(np.abs(gaps).sum(axis=1) / resamples.total)


@dataclass(frozen=True)
class Metric:
    """One metric of a classifier."""

    name: str
    """Key in metrics/test.json; "{k}" stands for the value of `evaluate.top_k`."""
    label: str
    """What the model card calls the metric; "{k}" as in the name."""
    higher_is_better: bool
    is_proportion: bool
    """Whether the metric is a share of the examples, so that Wilson's interval applies."""
    compute: Callable[[Resamples], NDArray[np.float64] | None]
    """Returns (R,); None if the metric does not apply to the number of classes."""


METRICS = (
    Metric("accuracy", "accuracy", True, True, accuracy),
    Metric("loss", "loss (cross-entropy, nats)", False, False, loss),
    Metric("macro_precision", "precision, mean over the classes", True, False, macro_precision),
    Metric("macro_recall", "recall, mean over the classes", True, False, macro_recall),
    Metric("macro_f1", "F1, mean over the classes", True, False, macro_f1),
    Metric("roc_auc", "area under the ROC curve, mean over the classes", True, False, roc_auc),
    Metric(
        "top_{k}_accuracy",
        "share of images with the true class among the {k} likeliest",
        True,
        True,
        top_k_accuracy,
    ),
    Metric("calibration_error", "expected calibration error", False, False, calibration_error),
)
"""All metrics, in the order of metrics/test.json and of the model card."""

_NO_METRICS = ("accuracy_low", "accuracy_high", "images")  # keys beside the metrics


def find_metric(name: str) -> Metric:
    """Return the metric of a key of metrics/test.json, such as "top_3_accuracy".

    The returned name and label contain the number instead of "{k}".

    Raises:
        KeyError: no metric has this name.
    """
    for metric in METRICS:
        pattern = re.escape(metric.name).replace(re.escape("{k}"), r"(\d+)")
        if match := re.fullmatch(pattern, name):
            return _with_k(metric, match[1] if match.groups() else "")
    raise KeyError(name)


def metrics_among(scores: Iterable[str]) -> list[Metric]:
    """Return the metrics among the keys of metrics/test.json, in their order."""
    return [find_metric(name) for name in scores if name not in _NO_METRICS]


def _with_k(metric: Metric, k: object) -> Metric:
    return replace(metric, name=metric.name.format(k=k), label=metric.label.format(k=k))


def score_predictions(
    labels: NDArray[np.int64], probabilities: NDArray[np.float32], *, top_k: int, bins: int
) -> dict[str, float | int]:
    """Return the metrics of a whole test split, as metrics/test.json holds them.

    `accuracy_low` and `accuracy_high` are the ends of Wilson's 95 % interval; `images` is N.
    """
    count = len(labels)
    examples = ScoredExamples(labels, probabilities, top_k, bins)
    values = score_resamples(Resamples.of_whole(examples))
    low, high = wilson_interval(int(examples.correct.sum()), count)
    scores: dict[str, float | int] = {}
    for name, (value,) in values.items():
        scores[name] = float(value)
        if name == "accuracy":
            scores |= {"accuracy_low": low, "accuracy_high": high}
    return scores | {"images": count}


def score_resamples(
    resamples: Resamples, metrics: Sequence[Metric] | None = None
) -> dict[str, NDArray[np.float64]]:
    """Return the metrics that apply, by default of all, (R,) each, by name in metrics/test.json.

    Means over classes are over the classes that are in the resample.
    """
    computed = (
        (_with_k(metric, resamples.examples.top_k).name, metric.compute(resamples))
        for metric in (METRICS if metrics is None else metrics)
    )
    return {name: values for name, values in computed if values is not None}


def wilson_interval(successes: int, trials: int) -> tuple[float, float]:
    """Return the 95 % score interval of a proportion.

    Source: Wilson (1927), doi:10.1080/01621459.1927.10502953.
    """
    z = 1.959963984540054  # 97.5 % of a standard normal variable are below this value
    share = successes / trials
    center = (share + z * z / (2 * trials)) / (1 + z * z / trials)
    margin = z / (2 * trials)
    half_width = math.sqrt(share * (1 - share) / trials + margin * margin)
    half_width *= z / (1 + z * z / trials)
    # If all or no trials succeed, the share is an end of the interval; rounding may exclude it.
    low, high = max(0.0, center - half_width), min(1.0, center + half_width)
    return min(share, low), max(share, high)
