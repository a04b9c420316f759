"""Scores of a classifier from its probabilities on a test split."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.metrics import (
    log_loss,
    precision_recall_fscore_support,
    roc_auc_score,
    top_k_accuracy_score,
)


@dataclass(frozen=True)
class ClassScores:
    """One row of the table of classes; precision and F1 are 0 where nothing was predicted."""

    name: str
    precision: float
    recall: float
    f1: float
    images: int


@dataclass(frozen=True)
class ReliabilityBin:
    """The examples whose confidence lies in (low, high]; means are 0 where there are none."""

    low: float
    high: float
    images: int
    confidence: float
    accuracy: float


def score_predictions(
    labels: NDArray[np.int64],
    probabilities: NDArray[np.float32],
    *,
    top_k: int,
    calibration_bins: int,
) -> dict[str, float | int]:
    """Return the scores of a whole test split, in the order in which they are best read.

    `accuracy_low` and `accuracy_high` bound Wilson's 95 % interval; `loss` is the mean
    cross-entropy in nats; `calibration_error` is the expected one over `measure_reliability`;
    `top_<k>_accuracy` is there where K > k, `roc_auc` where K = 2.

    Args:
        labels: (N,) in [0, K).
        probabilities: (N, K), rows sum to 1.
    """
    count, classes = probabilities.shape
    correct = int((probabilities.argmax(axis=1) == labels).sum())
    low, high = wilson_interval(correct, count)
    table = score_classes(labels, probabilities, [str(label) for label in range(classes)])
    bins = measure_reliability(labels, probabilities, calibration_bins)
    known = np.arange(classes)
    scores: dict[str, float | np.floating[Any]] = {
        "accuracy": correct / count,
        "accuracy_low": low,
        "accuracy_high": high,
        "loss": log_loss(labels, probabilities, labels=known),
        "macro_precision": np.mean([row.precision for row in table]),
        "macro_recall": np.mean([row.recall for row in table]),
        "macro_f1": np.mean([row.f1 for row in table]),
    }
    if classes > top_k:
        scores[f"top_{top_k}_accuracy"] = top_k_accuracy_score(
            labels, probabilities, k=top_k, labels=known
        )
    if classes == 2:
        scores["roc_auc"] = roc_auc_score(labels, probabilities[:, 1])
    scores["calibration_error"] = sum(
        part.images / count * abs(part.accuracy - part.confidence) for part in bins
    )
    return {name: float(value) for name, value in scores.items()} | {"images": count}


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
    """Return precision, recall and F1 of each class."""
    columns = precision_recall_fscore_support(
        labels, probabilities.argmax(axis=1), labels=np.arange(len(classes)), zero_division=0
    )
    return [
        ClassScores(name, float(precision), float(recall), float(f1), int(images))
        for name, precision, recall, f1, images in zip(classes, *columns, strict=True)
    ]


def measure_reliability(
    labels: NDArray[np.int64], probabilities: NDArray[np.float32], bins: int
) -> list[ReliabilityBin]:
    """Compare confidence with accuracy in equal bins of confidence.

    Source: Guo, Pleiss, Sun and Weinberger (2017), arXiv:1706.04599, section 2.
    """
    confidence = probabilities.max(axis=1).astype(np.float64)
    correct = probabilities.argmax(axis=1) == labels
    number = np.clip(np.ceil(confidence * bins).astype(int) - 1, 0, bins - 1)
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
