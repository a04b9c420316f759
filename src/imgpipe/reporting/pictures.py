"""The pictures in metrics/plots: one registry entry each.

A new picture is a function of `StageOutputs` and an entry in `PICTURES`; `plot` draws it, and the
model card shows it if the entry names a section of the card.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Literal

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from numpy.typing import NDArray

from imgpipe.console.messages import escape_unprintable
from imgpipe.evaluation.predictions import Predictions
from imgpipe.evaluation.tables import measure_reliability
from imgpipe.reporting.charts import data, results, views
from imgpipe.reporting.charts.style import MOST_ROWS, shorten
from imgpipe.reporting.stage_outputs import StageOutputs

_SHOWN_ORIGINALS = 6


def pixel_numbers(outputs: StageOutputs) -> Figure:
    """Draw a training image of the first class as numbers."""
    name, images = next(iter(_read_samples(outputs).items()))
    return data.draw_pixel_numbers(images[0], name)


def _read_samples(outputs: StageOutputs) -> dict[str, list[NDArray[np.uint8]]]:
    """Return training images (H, W, C) of each class that is shown; of other classes none."""
    info, count = outputs.info, outputs.params.plot.samples_per_class
    samples: dict[str, list[NDArray[np.uint8]]] = {name: [] for name in info.classes}
    shown = info.classes[:MOST_ROWS]
    for batch in outputs.records.read("train"):
        for image, label in zip(batch.images, batch.labels, strict=True):
            if label < len(shown) and len(samples[shown[label]]) < count:
                samples[shown[label]].append(image)
        if all(len(samples[name]) == count for name in shown):
            break
    return samples


def augmentation(outputs: StageOutputs) -> Figure | None:
    """Draw what augmentation makes of the first training images; None without augmentation."""
    copies = []
    if outputs.augmented.copies:
        variants = [outputs.records.shards("train"), *outputs.augmented.copies]
        shown = [next(shards[0].read()).images[:_SHOWN_ORIGINALS] for shards in variants]
        copies = list(zip(*shown, strict=True))
    examples = outputs.training_examples
    draws = [
        [image, *transformed]
        for image, transformed in zip(examples.images, examples.draws, strict=True)
        if len(transformed)
    ]
    return data.draw_augmentation(copies, draws) if copies or draws else None


def learning_curves(outputs: StageOutputs) -> Figure:
    """Draw loss and accuracy by epoch."""
    if outputs.params.method == "transfer":
        # The last iteration is used, even if an earlier one has a lower validation loss.
        note = (
            "An epoch is an iteration of L-BFGS; the model has the weights of the last one."
            " A loss may rise: the sum of loss and penalty falls."
        )
        return results.draw_learning_curves(outputs.history, None, note)
    note = (
        "Dropout and augmentation, if used, act in training only. Training is measured during an"
        " epoch,\nvalidation after the epoch. So validation can look better than training."
    )
    return results.draw_learning_curves(outputs.history, outputs.trained["best_epoch"], note)


def confusion(outputs: StageOutputs) -> Figure:
    """Draw the confusion matrix."""
    predictions = outputs.predictions
    count = len(predictions.classes)
    matrix = np.zeros((count, count), dtype=np.int64)
    np.add.at(matrix, (predictions.labels, predictions.predicted), 1)
    return results.draw_confusion(matrix, predictions.classes)


def reliability(outputs: StageOutputs) -> Figure:
    """Draw accuracy against confidence, and, if there is a temperature, also without it."""
    before = None
    if outputs.uncalibrated:
        bins = outputs.params.evaluate.calibration_bins
        before = pd.DataFrame(measure_reliability(outputs.uncalibrated, bins))
    return results.draw_reliability(
        outputs.reliability, outputs.scores["calibration_error"], before
    )


def mistakes(outputs: StageOutputs) -> Figure:
    """Draw the mistakes that the network is surest of.

    Raises:
        PipelineError: the predictions are about other images, or in another order.
    """
    predictions = outputs.predictions
    wrong, total = predictions.mistakes, f"on {len(predictions.labels)} test images"
    shown = wrong[: outputs.params.plot.mistakes]
    return results.draw_gallery(
        list(outputs.test_images[shown]),
        [
            f"{_describe_prediction(predictions, number)}\n{_find_name(predictions, number)}"
            for number in shown.tolist()
        ],
        f"The most confident of {len(wrong)} mistakes {total}"
        if len(wrong)
        else f"No mistake {total}",
    )


def activation_maps(outputs: StageOutputs) -> Figure:
    """Draw some test images with the evidence for their predicted classes."""
    predictions, seen = outputs.predictions, outputs.views
    captions = [_describe_prediction(predictions, number) for number in seen.numbers.tolist()]
    return views.draw_activation_maps(seen.images, seen.activation_maps, captions)


def _describe_prediction(predictions: Predictions, number: int) -> str:
    """Return actual class, predicted class and confidence of a test image, in two lines."""
    probabilities = predictions.probabilities[number]
    actual = shorten(predictions.classes[predictions.labels[number]])
    predicted = shorten(predictions.classes[probabilities.argmax()])
    if actual == predicted:
        return f"{actual}, correct\n({probabilities.max():.1%})"
    return f"{actual}, taken\N{NO-BREAK SPACE}for\n{predicted} ({probabilities.max():.1%})"


def _find_name(predictions: Predictions, number: int) -> str:
    """Return the name of the file of a test image, shortened."""
    name = PurePosixPath(predictions.identities[number]).name
    return shorten(escape_unprintable(name))


def feature_maps(outputs: StageOutputs) -> Figure | None:
    """Draw the strongest maps of some layers; None if the network has no layer with maps."""
    seen = outputs.views
    if not seen.feature_maps:
        return None
    return views.draw_feature_maps(seen.images[0], seen.feature_maps, seen.layers_with_maps)


@dataclass(frozen=True)
class Picture:
    """One picture of a run."""

    description: str
    """One line: the caption in the model card, and what documents say."""
    section: Literal["summary", "data", "training", "results"] | None
    """The section of the model card that shows the picture; None if no section does."""
    draw: Callable[[StageOutputs], Figure | None]
    """Returns None if the picture does not apply to the run."""


PICTURES = {
    "samples": Picture(
        "Training images of each class.",
        "data",
        lambda outputs: data.draw_samples(_read_samples(outputs)),
    ),
    "pixel_numbers": Picture("One image as the numbers that a computer sees.", None, pixel_numbers),
    "augmentation": Picture(
        "Training images, their augmented copies, and random transformations in training.",
        "training",
        augmentation,
    ),
    "learning_curves": Picture("Loss and accuracy by epoch.", "training", learning_curves),
    "confusion": Picture(
        "Confusion matrix: rows are the actual classes, columns the predicted ones.",
        "summary",
        confusion,
    ),
    "class_scores": Picture(
        "Precision, recall and F1 of each class.",
        None,
        lambda outputs: results.draw_class_scores(outputs.per_class),
    ),
    "roc": Picture(
        "ROC and precision-recall curves of each class against all others.",
        "results",
        lambda outputs: results.draw_roc(outputs.roc, outputs.per_class),
    ),
    "reliability": Picture("Accuracy against confidence.", "results", reliability),
    "mistakes": Picture("The mistakes that the network is surest of.", "results", mistakes),
    "kernels": Picture(
        "The weights of the first layer.",
        None,
        lambda outputs: views.draw_kernels(outputs.views.kernels),
    ),
    "activation_maps": Picture(
        "Test images, some mistakes among them, and where the evidence for the prediction is.",
        "results",
        activation_maps,
    ),
    "feature_maps": Picture("The strongest maps of some layers for one image.", None, feature_maps),
}
"""All pictures by the name of their file, in the order of the model card."""
