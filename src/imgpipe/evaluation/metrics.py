"""Scores of a classifier from its probabilities on a test split."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class ClassScores:
    """One row of the table of classes; precision and F1 are 0 where nothing was predicted.

    `roc_auc` is the area under the receiver operating characteristic of this class against all
    others: the probability that an image of the class is given a larger probability of it than an
    image of another class.
    """

    name: str
    precision: float
    recall: float
    f1: float
    roc_auc: float
    images: int


@dataclass(frozen=True)
class RocPoint:
    """One point of the receiver operating characteristic of a class against all others."""

    name: str
    false_positive_rate: float
    true_positive_rate: float


@dataclass(frozen=True)
class ReliabilityBin:
    """The examples whose confidence lies in (low, high]; means are 0 where there are none."""

    low: float
    high: float
    images: int
    confidence: float
    accuracy: float


def score_predictions(
    labels: NDArray[np.int64], probabilities: NDArray[np.float32], *, top_k: int, bins: int
) -> dict[str, float | int]:
    """Return the scores of a whole test split, in the order in which they are best read.

    `accuracy_low` and `accuracy_high` bound Wilson's 95 % interval; the others are those of
    `score_resamples`, whose arguments these are.
    """
    count = len(labels)
    whole = np.ones((1, count))
    scores = score_resamples(labels, probabilities, whole, top_k=top_k, bins=bins)
    correct = int((probabilities.argmax(axis=1) == labels).sum())
    low, high = wilson_interval(correct, count)
    # From the count, which is exact.
    result = {"accuracy": correct / count, "accuracy_low": low, "accuracy_high": high}
    result |= {name: float(value[0]) for name, value in scores.items() if name not in result}
    return result | {"images": count}


def score_resamples(
    labels: NDArray[np.int64],
    probabilities: NDArray[np.float32],
    weights: NDArray[np.float64],
    *,
    top_k: int,
    bins: int,
) -> dict[str, NDArray[np.float64]]:
    """Return the scores of each of R resamples of the examples.

    `loss` is the mean cross-entropy in nats; `macro_...` and `roc_auc` are means over the classes
    that are in the resample; `calibration_error` is the expected one, over bins of confidence;
    `top_<k>_accuracy` is there where K > k.

    Args:
        labels: (N,) in [0, K).
        probabilities: (N, K), rows sum to 1.
        weights: (R, N), how often each example is in each resample.
        top_k: how many guesses a "top k" accuracy allows.
        bins: of the calibration error.

    Returns:
        (R,) of each score.
    """
    classes = probabilities.shape[1]
    examples = np.arange(len(labels))
    predicted = probabilities.argmax(axis=1)
    total = weights.sum(axis=1)
    # A network that is certain and wrong would have an infinite loss. As scikit-learn bounds them.
    smallest = np.finfo(probabilities.dtype).eps
    loss = -np.log(np.clip(probabilities[examples, labels], smallest, 1).astype(np.float64))
    scores = {
        "accuracy": weights @ (predicted == labels) / total,
        # Not a matrix product, whose order of summation depends on the number of processors.
        "loss": (weights * loss).sum(axis=1) / total,
    }

    confusion = _confusion(labels, probabilities, weights)
    hits: NDArray[np.float64] = confusion.diagonal(axis1=1, axis2=2)
    actual, answered = confusion.sum(axis=2), confusion.sum(axis=1)
    present = actual > 0
    for name, rates in (
        ("macro_precision", _ratio(hits, answered)),
        ("macro_recall", _ratio(hits, actual)),
        ("macro_f1", _ratio(2 * hits, actual + answered)),
    ):
        scores[name] = (rates * present).sum(axis=1) / present.sum(axis=1)

    areas = np.stack(
        [_roc_areas(labels == label, probabilities[:, label], weights) for label in range(classes)]
    )
    scores["roc_auc"] = np.asarray(np.nanmean(areas, axis=0))
    if classes > top_k:
        guesses = np.argsort(probabilities, axis=1, kind="stable")[:, -top_k:]
        guessed = (guesses == labels[:, None]).any(axis=1)
        scores[f"top_{top_k}_accuracy"] = weights @ guessed / total

    confidence, number = _bin_confidence(probabilities, bins)
    gap = (predicted == labels) - confidence
    gaps = [np.bincount(number, weights=row * gap, minlength=bins) for row in weights]
    scores["calibration_error"] = np.abs(gaps).sum(axis=1) / total
    return scores


def wilson_interval(successes: int, trials: int) -> tuple[float, float]:
    """Return the 95 % score interval of a proportion.

    Source: Wilson (1927), doi:10.1080/01621459.1927.10502953.
    """
    z = 1.959963984540054  # 97.5 % of a standard normal variable lie below
    share = successes / trials
    centre = (share + z * z / (2 * trials)) / (1 + z * z / trials)
    half_width = math.sqrt(share * (1 - share) / trials + (z / (2 * trials)) ** 2)
    half_width *= z / (1 + z * z / trials)
    return max(0.0, centre - half_width), min(1.0, centre + half_width)


def score_classes(
    labels: NDArray[np.int64], probabilities: NDArray[np.float32], classes: Sequence[str]
) -> list[ClassScores]:
    """Return the scores of each class.

    Raises:
        ValueError: a class has no examples, or all of them.
    """
    count, known = len(labels), len(classes)
    whole = np.ones((1, count))
    confusion = _confusion(labels, probabilities, whole)[0]
    hits, actual, answered = confusion.diagonal(), confusion.sum(axis=1), confusion.sum(axis=0)
    if (actual == 0).any() or (actual == count).any():
        raise ValueError("a class has no examples, or all of them")
    areas = [
        float(_roc_areas(labels == label, probabilities[:, label], whole)[0])
        for label in range(known)
    ]
    precision, recall = _ratio(hits, answered), _ratio(hits, actual)
    f1 = _ratio(2 * hits, actual + answered)
    columns = (column.tolist() for column in (precision, recall, f1, np.array(areas), actual))
    return [
        ClassScores(name, precision, recall, f1, roc_auc, int(images))
        for name, precision, recall, f1, roc_auc, images in zip(classes, *columns, strict=True)
    ]


def measure_roc(
    labels: NDArray[np.int64], probabilities: NDArray[np.float32], classes: Sequence[str]
) -> list[RocPoint]:
    """Return the receiver operating characteristic of each class against all others.

    From (0, 0) to (1, 1), corners only. Of two classes the second alone, because the first one's
    is its mirror image.
    """
    chosen = range(len(classes)) if len(classes) > 2 else [1]
    return [
        RocPoint(classes[label], float(false_positive), float(true_positive))
        for label in chosen
        for false_positive, true_positive in _roc_corners(labels == label, probabilities[:, label])
    ]


def _roc_corners(positive: NDArray[np.bool_], score: NDArray[np.float32]) -> NDArray[np.float64]:
    """Return (P, 2), false and true positive rates, where the curve begins, turns and ends."""
    order = np.argsort(-score, kind="stable")
    ends = np.append(np.flatnonzero(np.diff(score[order])), len(order) - 1)  # of equal scores
    true_positives = np.concatenate([[0], np.cumsum(positive[order])[ends]])
    false_positives = np.concatenate([[0], ends + 1]) - true_positives
    right, up = np.diff(false_positives), np.diff(true_positives)
    turns = right[:-1] * up[1:] != right[1:] * up[:-1]
    kept = np.concatenate([[True], turns, [True]])
    counts = np.stack([false_positives, true_positives], axis=1)[kept]
    rates: NDArray[np.float64] = counts / counts[-1]
    return rates


def measure_reliability(
    labels: NDArray[np.int64], probabilities: NDArray[np.float32], bins: int
) -> list[ReliabilityBin]:
    """Compare confidence with accuracy in equal bins of confidence.

    Source: Guo, Pleiss, Sun and Weinberger (2017), arXiv:1706.04599, section 2.
    """
    confidence, number = _bin_confidence(probabilities, bins)
    correct = probabilities.argmax(axis=1) == labels
    result = []
    for index in range(bins):
        inside = number == index
        images = int(inside.sum())
        result.append(
            ReliabilityBin(
                low=index / bins,
                high=(index + 1) / bins,
                images=images,
                confidence=float(confidence[inside].mean()) if images else 0.0,
                accuracy=float(correct[inside].mean()) if images else 0.0,
            )
        )
    return result


def _confusion(
    labels: NDArray[np.int64], probabilities: NDArray[np.float32], weights: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Return how often each class was predicted for each, (R, K, K) [actual, predicted]."""
    classes = probabilities.shape[1]
    pairs = labels * classes + probabilities.argmax(axis=1)
    counts = [np.bincount(pairs, weights=row, minlength=classes**2) for row in weights]
    return np.stack(counts).astype(np.float64).reshape(-1, classes, classes)


def _bin_confidence(
    probabilities: NDArray[np.float32], bins: int
) -> tuple[NDArray[np.float64], NDArray[np.intp]]:
    """Return the confidence of each prediction, (N,), and in which of equal bins it lies."""
    confidence = probabilities.max(axis=1).astype(np.float64)
    return confidence, np.clip(np.ceil(confidence * bins).astype(np.intp) - 1, 0, bins - 1)


def _ratio(part: NDArray[np.float64], whole: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the quotient, 0 where there is nothing."""
    return np.divide(part, whole, out=np.zeros_like(part), where=whole > 0)


def _roc_areas(
    positive: NDArray[np.bool_], score: NDArray[np.float32], weights: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Return the area under the receiver operating characteristic in each resample, (R,).

    It is the probability that a positive example has a larger score than a negative one; of equal
    scores half are taken for larger. NaN where a resample has only one of the two.
    """
    order = np.argsort(score, kind="stable")
    starts = np.flatnonzero(np.diff(score[order], prepend=-1.0))  # of runs of equal scores
    sorted_weights, sorted_positive = weights[:, order], positive[order]
    positives = np.add.reduceat(sorted_weights * sorted_positive, starts, axis=1)
    negatives = np.add.reduceat(sorted_weights * ~sorted_positive, starts, axis=1)
    below = np.cumsum(negatives, axis=1) - negatives / 2
    pairs = positives.sum(axis=1) * negatives.sum(axis=1)
    with np.errstate(invalid="ignore"):
        areas: NDArray[np.float64] = np.where(
            pairs > 0, (positives * below).sum(axis=1) / pairs, np.nan
        )
    return areas
