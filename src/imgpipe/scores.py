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
    roc_curve,
    top_k_accuracy_score,
)


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
    labels: NDArray[np.int64],
    probabilities: NDArray[np.float32],
    *,
    top_k: int,
    table: Sequence[ClassScores],
    reliability: Sequence[ReliabilityBin],
) -> dict[str, float | int]:
    """Return the scores of a whole test split, in the order in which they are best read.

    `accuracy_low` and `accuracy_high` bound Wilson's 95 % interval; `loss` is the mean
    cross-entropy in nats; `macro_...` and `roc_auc` are means over the classes;
    `calibration_error` is the expected one; `top_<k>_accuracy` is there where K > k.

    Args:
        labels: (N,) in [0, K).
        probabilities: (N, K), rows sum to 1.
        top_k: how many guesses a "top k" accuracy allows.
        table: from `score_classes`.
        reliability: from `measure_reliability`.
    """
    count, classes = probabilities.shape
    correct = int((probabilities.argmax(axis=1) == labels).sum())
    low, high = wilson_interval(correct, count)
    known = np.arange(classes)
    scores: dict[str, float | np.floating[Any]] = {
        "accuracy": correct / count,
        "accuracy_low": low,
        "accuracy_high": high,
        "loss": log_loss(labels, probabilities, labels=known),
        "macro_precision": np.mean([row.precision for row in table]),
        "macro_recall": np.mean([row.recall for row in table]),
        "macro_f1": np.mean([row.f1 for row in table]),
        "roc_auc": np.mean([row.roc_auc for row in table]),
    }
    if classes > top_k:
        scores[f"top_{top_k}_accuracy"] = top_k_accuracy_score(
            labels, probabilities, k=top_k, labels=known
        )
    scores["calibration_error"] = sum(
        part.images / count * abs(part.accuracy - part.confidence) for part in reliability
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
    """Return the scores of each class.

    Raises:
        ValueError: a class has no examples, or all of them.
    """
    columns = precision_recall_fscore_support(
        labels, probabilities.argmax(axis=1), labels=np.arange(len(classes)), zero_division=0
    )
    return [
        ClassScores(
            name,
            float(precision),
            float(recall),
            float(f1),
            float(roc_auc_score(labels == label, probabilities[:, label])),
            int(images),
        )
        for label, (name, precision, recall, f1, images) in enumerate(
            zip(classes, *columns, strict=True)
        )
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
        for false_positive, true_positive in zip(
            *roc_curve(labels == label, probabilities[:, label])[:2], strict=True
        )
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
