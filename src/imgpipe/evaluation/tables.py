"""Tables about a test split: scores of each class, ROC curves, reliability, mistakes; CSV."""

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np

from imgpipe.core.files import write_csv
from imgpipe.evaluation.predictions import Predictions
from imgpipe.evaluation.resamples import Resamples, ScoredExamples, divide
from imgpipe.evaluation.roc import roc_areas, roc_corners

MOST_MISTAKES = 1_000
"""Of metrics/mistakes.csv, which is in git; the table of predictions has all images."""


class ClassScores(NamedTuple):
    """The scores of one class; precision and F1 are 0 if the class is never predicted.

    `roc_auc` is the area under the receiver operating characteristic of this class against all
    others: the probability that an image of the class is given a larger probability of the class
    than an image of another class.
    """

    name: str
    precision: float
    recall: float
    f1: float
    roc_auc: float
    images: int


class RocPoint(NamedTuple):
    """One point of the receiver operating characteristic of a class against all others."""

    name: str
    false_positive_rate: float
    true_positive_rate: float


class ReliabilityBin(NamedTuple):
    """The images whose confidence lies in (low, high]; the means are 0 if the bin has none."""

    low: float
    high: float
    images: int
    confidence: float
    accuracy: float


class Mistake(NamedTuple):
    """An image whose most probable class is not the actual one."""

    file: str
    """The identity of the image, which leads back to its file."""
    actual: str
    predicted: str
    probability: float
    """Of the predicted class."""


def score_classes(predictions: Predictions) -> list[ClassScores]:
    """Return the scores of each class.

    Raises:
        ValueError: a class has no examples, or all of them.
    """
    labels, probabilities = predictions.labels, predictions.probabilities
    whole = Resamples.of_whole(ScoredExamples(labels, probabilities, top_k=1, bins=1))
    hits, actual, answered = whole.hits[0], whole.actual[0], whole.answered[0]
    if (actual == 0).any() or (actual == len(labels)).any():
        raise ValueError("a class has no examples, or all of them")
    columns = (
        divide(hits, answered),
        divide(hits, actual),
        divide(2 * hits, actual + answered),
        roc_areas(labels, probabilities, whole.weights)[:, 0],
        actual.astype(np.int64),
    )
    rows = zip(predictions.classes, *(column.tolist() for column in columns), strict=True)
    return [ClassScores(*row) for row in rows]


def measure_roc(predictions: Predictions) -> Iterator[RocPoint]:
    """Yield the corners of the receiver operating characteristic of each class against all others.

    Of two classes only the second one's curve, because the first one's is its mirror image.
    """
    chosen = range(len(predictions.classes)) if len(predictions.classes) > 2 else [1]
    for label in chosen:
        positive, score = predictions.labels == label, predictions.probabilities[:, label]
        for corner in roc_corners(positive, score):
            yield RocPoint(predictions.classes[label], *corner)


def measure_reliability(predictions: Predictions, bins: int) -> list[ReliabilityBin]:
    """Compare confidence with accuracy in equal bins of confidence.

    Source: Guo, Pleiss, Sun and Weinberger (2017), arXiv:1706.04599, section 2.
    """
    examples = ScoredExamples(predictions.labels, predictions.probabilities, top_k=1, bins=bins)
    rows = []
    for number in range(bins):
        inside = examples.confidence_bin == number
        images = int(inside.sum())
        rows.append(
            ReliabilityBin(
                low=number / bins,
                high=(number + 1) / bins,
                images=images,
                confidence=float(examples.confidence[inside].mean()) if images else 0.0,
                accuracy=float(examples.correct[inside].mean()) if images else 0.0,
            )
        )
    return rows


def list_mistakes(predictions: Predictions) -> Iterator[Mistake]:
    """Yield up to `MOST_MISTAKES` mistakes, the most confident first."""
    for number in predictions.mistakes[:MOST_MISTAKES].tolist():
        predicted = predictions.predicted[number]
        yield Mistake(
            predictions.identities[number],
            predictions.classes[predictions.labels[number]],
            predictions.classes[predicted],
            float(predictions.probabilities[number, predicted]),
        )


def write_class_scores(path: Path, predictions: Predictions) -> None:
    """Write `score_classes` as CSV."""
    write_csv(path, ["class", *ClassScores._fields[1:]], score_classes(predictions))


def write_roc(path: Path, predictions: Predictions) -> None:
    """Write `measure_roc` as CSV."""
    write_csv(path, ["class", *RocPoint._fields[1:]], measure_roc(predictions))


def write_reliability(path: Path, predictions: Predictions, bins: int) -> None:
    """Write `measure_reliability` as CSV."""
    write_csv(path, ReliabilityBin._fields, measure_reliability(predictions, bins))


def write_mistakes(path: Path, predictions: Predictions) -> None:
    """Write `list_mistakes` as CSV; a probability has the digits of float32."""
    rows = list_mistakes(predictions)
    write_csv(path, Mistake._fields, ([*row[:-1], f"{row.probability:.9g}"] for row in rows))
