"""Charts of how training went, and of how good the network is."""

from collections.abc import Mapping, Sequence

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

from imgpipe.reporting.charts.style import (
    GUIDE_COLOR,
    MOST_ROWS,
    SCORE_COLORS,
    TRAIN_COLOR,
    VALIDATION_COLOR,
    new_figure,
    show_image,
    styled,
)

_MOST_ANNOTATED = 15  # with more classes, the numbers in a confusion matrix become too small
_MOST_NAMED = 60  # with more classes, their names would overlap, or the chart grow without end


@styled
def draw_learning_curves(history: pd.DataFrame, best_epoch: int | None, note: str = "") -> Figure:
    """Draw loss, accuracy and error (1 - accuracy) by epoch, training beside validation.

    Args:
        history: columns epoch, loss, accuracy, validation_loss, validation_accuracy.
        best_epoch: a line marks this epoch; None for no line.
        note: stands in the title.
    """
    figure = new_figure(13, 4, f"Learning curves ({note})" if note else "Learning curves")
    for axes, (title, train, validation) in zip(
        figure.subplots(1, 3),
        [
            ("Loss (cross-entropy)", history["loss"], history["validation_loss"]),
            ("Accuracy", history["accuracy"], history["validation_accuracy"]),
            ("Error (1 - accuracy)", 1 - history["accuracy"], 1 - history["validation_accuracy"]),
        ],
        strict=True,
    ):
        marker = "o" if len(history) == 1 else None
        axes.plot(history["epoch"], train, TRAIN_COLOR, marker=marker, label="training")
        axes.plot(history["epoch"], validation, VALIDATION_COLOR, marker=marker, label="validation")
        if best_epoch is not None:
            axes.axvline(best_epoch, color=GUIDE_COLOR, linestyle=":", label="best epoch")
        axes.set(title=title, xlabel="epoch")
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.grid(visible=True)
    figure.axes[0].set_ylim(bottom=0)
    figure.axes[1].set_ylim(top=1)
    figure.axes[2].set_ylim(bottom=0)
    figure.axes[0].legend()
    return figure


@styled
def draw_confusion(confusion: NDArray[np.int64], classes: Sequence[str]) -> Figure:
    """Draw a confusion matrix (K, K) [actual, predicted]: counts, colored by share of the row.

    With more than 60 classes, the axes bear the numbers of the classes instead of their names.
    """
    count = len(classes)
    side_inch = min(14.0, 3.5 + 0.5 * count)
    accuracy = np.trace(confusion) / max(1, confusion.sum())
    figure = new_figure(
        side_inch + 1, side_inch, f"Confusion matrix, test split (accuracy {accuracy:.1%})"
    )
    axes = figure.subplots()
    share = confusion / np.maximum(1, confusion.sum(axis=1, keepdims=True))
    mesh = axes.imshow(share, cmap="Blues", vmin=0, vmax=1)
    figure.colorbar(mesh, label="share of the actual class", shrink=0.8)
    if count <= _MOST_NAMED:
        ticks = np.arange(count)
        long_names = max(map(len, classes)) > 3
        axes.set_xticks(
            ticks,
            classes,
            rotation=45 if long_names else 0,
            ha="right" if long_names else "center",
            rotation_mode="anchor" if long_names else "default",
        )
        axes.set_yticks(ticks, classes)
    axes.set(xlabel="predicted", ylabel="actual")
    if count <= _MOST_ANNOTATED:
        for (actual, predicted), images in np.ndenumerate(confusion):
            if images:
                color = "white" if share[actual, predicted] > 0.5 else "black"
                axes.text(predicted, actual, str(images), ha="center", va="center", color=color)
    return figure


@styled
def draw_class_scores(table: pd.DataFrame) -> Figure:
    """Draw precision, recall and F1 of each class as bars.

    With more than 60 classes, only the classes of lowest F1.

    Args:
        table: columns class, precision, recall, f1, images.
    """
    title = "Scores of each class, test split"
    if len(table) > _MOST_NAMED:
        title += f"\n(the {MOST_ROWS} classes of lowest F1 of {len(table)})"
        table = table.sort_values("f1", kind="stable").head(MOST_ROWS)
    figure = new_figure(8, 1.4 + 0.42 * len(table), title)
    axes = figure.subplots()
    positions = np.arange(len(table))
    for offset, color, score in zip(
        (-0.27, 0, 0.27), SCORE_COLORS, ("precision", "recall", "f1"), strict=True
    ):
        axes.barh(positions + offset, table[score], height=0.25, color=color, label=score)
    axes.set_yticks(
        positions, [f"{row['class']}  ({row['images']})" for _, row in table.iterrows()]
    )
    axes.invert_yaxis()
    lowest = float(table[["precision", "recall", "f1"]].min().min())
    left = np.floor(max(0.0, lowest - 0.05) * 10) / 10
    axes.set(xlim=(left, 1), xlabel="score", ylabel="class (test images)")
    axes.grid(visible=True, axis="x")
    axes.legend(loc="upper left", bbox_to_anchor=(1, 1))
    return figure


@styled
def draw_roc(points: pd.DataFrame, areas: Mapping[str, float]) -> Figure:
    """Draw the receiver operating characteristic of each class, and name its area.

    Args:
        points: columns class, false_positive_rate, true_positive_rate.
        areas: the area under the curve of each class.
    """
    curves = list(points.groupby("class", sort=False))
    shown = curves[:MOST_ROWS]
    title = "Receiver operating characteristic, test split"
    if len(shown) < len(curves):
        title += f" (the first {len(shown)} of {len(curves)} classes)"
    figure = new_figure(8.5, 6, title)
    axes = figure.subplots()
    colors = mpl.colormaps["tab20"](range(20)) if len(shown) > 1 else [TRAIN_COLOR]
    for color, (name, curve) in zip(colors, shown, strict=False):
        axes.plot(
            curve["false_positive_rate"], curve["true_positive_rate"], color=color,
            label=f"{name} ({areas[str(name)]:.4f})",
        )  # fmt: skip
    axes.plot([0, 1], [0, 1], "--", color=GUIDE_COLOR, label="chance (0.5)")
    axes.set(
        xlabel="false positive rate: share of the others taken for the class",
        ylabel="true positive rate: share of the class found",
        xlim=(-0.01, 1.01),
        ylim=(-0.01, 1.01),
        aspect="equal",
    )
    axes.grid(visible=True)
    axes.legend(title="class (area)", loc="upper left", bbox_to_anchor=(1, 1))
    return figure


@styled
def draw_reliability(table: pd.DataFrame, calibration_error: float) -> Figure:
    """Draw accuracy against confidence, and how many images have which confidence.

    Args:
        table: columns low, high, images, confidence, accuracy; a row for each bin.
    """
    figure = new_figure(
        6, 6.5, f"Reliability, test split (calibration error {calibration_error:.4f})"
    )
    upper, lower = figure.subplots(2, 1, height_ratios=[3, 1], sharex=True)
    filled = table[table["images"] > 0]
    width = float(table["high"].iloc[0] - table["low"].iloc[0])
    upper.bar(
        filled["low"], filled["accuracy"], width, align="edge", color=TRAIN_COLOR,
        edgecolor="white", label="accuracy in the bin",
    )  # fmt: skip
    upper.plot([0, 1], [0, 1], "--", color=GUIDE_COLOR, label="perfectly calibrated")
    upper.plot(
        filled["confidence"], filled["accuracy"], "o", color=VALIDATION_COLOR,
        label="at the bin's mean confidence",
    )  # fmt: skip
    upper.set(ylabel="accuracy", xlim=(0, 1), ylim=(0, 1.02))
    upper.legend(loc="upper left")
    upper.grid(visible=True)
    lower.bar(
        filled["low"], filled["images"], width, align="edge", color=GUIDE_COLOR, edgecolor="white"
    )
    lower.set(xlabel="confidence (largest probability)", ylabel="images", yscale="log")
    lower.set_ylim(bottom=0.5)  # so that a single image shows
    lower.grid(visible=True)
    return figure


@styled
def draw_gallery(
    images: Sequence[NDArray[np.uint8]], captions: Sequence[str], title: str
) -> Figure:
    """Draw images with a caption each."""
    columns = max(5, min(8, len(images)))
    rows = max(1, -(-len(images) // columns))
    figure = new_figure(1.45 * columns, 1.95 * rows + 0.6, title)
    grid = figure.subplots(rows, columns, squeeze=False).ravel()
    for axes in grid:
        axes.set_axis_off()
    for axes, image, caption in zip(grid, images, captions, strict=False):
        axes.set_axis_on()
        show_image(axes, image)
        axes.set_title(caption, fontsize=8)
    return figure
