"""Charts of how training went, and of how good the network is."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, NullLocator, StrMethodFormatter
from numpy.typing import NDArray

from imgpipe.evaluation.metrics import wilson_interval
from imgpipe.reporting.charts.style import (
    GUIDE_COLOR,
    LINE_COLORS,
    MOST_ROWS,
    NOTE_COLOR,
    SCORE_COLORS,
    TRAIN_COLOR,
    VALIDATION_COLOR,
    new_figure,
    shorten,
    show_image,
    styled,
    wrap_caption,
)

_MOST_ANNOTATED = 15  # with more classes, the numbers in a confusion matrix become too small
_DASHES = ("-", "--", "-.", ":")  # not as many as colors, so that all pairs of both occur
_MOST_NAMED = 60  # the names of more classes would overlap, or make the chart too long


@styled
def draw_learning_curves(history: pd.DataFrame, best_epoch: int | None, note: str) -> Figure:
    """Draw the loss and the accuracy of training and validation by epoch.

    Args:
        history: columns epoch, loss, accuracy, validation_loss, validation_accuracy.
        best_epoch: a line marks this epoch; None for no line.
        note: text below the curves.
    """
    figure = new_figure(11, 4.6, "Learning curves")
    loss, accuracy = figure.subplots(1, 2)
    marker = "o" if len(history) == 1 else None
    for axes, score, title in (
        (loss, "loss", "Loss (cross-entropy)"),
        (accuracy, "accuracy", "Accuracy"),
    ):
        # The wider line below stays visible if both are equal. Not clipped at an accuracy of 1.
        for column, color, width, label in (
            (score, TRAIN_COLOR, 3, "training"),
            (f"validation_{score}", VALIDATION_COLOR, 1.5, "validation"),
        ):
            axes.plot(
                history["epoch"], history[column], color=color, linewidth=width, marker=marker,
                label=label, clip_on=False,
            )  # fmt: skip
        if best_epoch is not None:
            axes.axvline(best_epoch, color=GUIDE_COLOR, linestyle=":", label="best epoch")
        axes.set(title=title, xlabel="epoch")
        axes.set_xticks(_epoch_ticks(int(history["epoch"].max())))
        axes.grid(visible=True)
    loss.set_ylim(bottom=0)
    accuracy.set_ylim(top=1)
    loss.legend()
    figure.supxlabel(note, fontsize=9, color=NOTE_COLOR)
    return figure


def _epoch_ticks(last: int) -> list[int]:
    """Return round numbers of epochs up to the last one, and the first epoch."""
    ticks = [int(tick) for tick in MaxNLocator(nbins=8, integer=True).tick_values(1, last)]
    step = ticks[1] - ticks[0]
    return [1, *(tick for tick in ticks if 1 + step / 2 < tick <= last)]


@styled
def draw_confusion(confusion: NDArray[np.int64], classes: Sequence[str]) -> Figure:
    """Draw a confusion matrix (K, K) [actual, predicted]: counts, colored by share of the row.

    With more than 60 classes, the axes bear the numbers of the classes instead of their names.
    """
    count, names = len(classes), [shorten(name) for name in classes]
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
        slanted: dict[str, Any] = {"rotation": 45, "ha": "right", "rotation_mode": "anchor"}
        axes.set_xticks(ticks, names, **(slanted if max(map(len, names)) > 3 else {}))
        axes.set_yticks(ticks, names)
    axes.set(xlabel="predicted", ylabel="actual")
    if count <= _MOST_ANNOTATED:
        for (actual, predicted), images in np.ndenumerate(confusion):
            if images:
                color = "white" if share[actual, predicted] > 0.5 else "black"
                axes.text(predicted, actual, str(images), ha="center", va="center", color=color)
    return figure


@styled
def draw_class_scores(table: pd.DataFrame) -> Figure:
    """Draw precision, recall and F1 of each class as dots.

    With more than 60 classes, only the classes of lowest F1.

    Args:
        table: columns class, precision, recall, f1, images.
    """
    title = "Scores of each class, test split"
    if len(table) > _MOST_NAMED:
        title += f"\n(the {MOST_ROWS} classes of lowest F1 of {len(table)})"
        table = table.sort_values("f1", kind="stable").head(MOST_ROWS)
    scores = table[["precision", "recall", "f1"]].rename(columns={"f1": "F1"})
    figure = new_figure(8, 1.5 + 0.36 * len(table), title)
    axes = figure.subplots()
    positions = np.arange(len(table))
    axes.hlines(positions, scores.min(axis=1), scores.max(axis=1), color=GUIDE_COLOR, linewidth=1)
    for score, color, marker, size in zip(scores, SCORE_COLORS, "<>o", (10, 10, 5), strict=True):
        # Not clipped, so that the marker of a perfect score is drawn whole.
        axes.plot(
            scores[score], positions, marker, color=color, markersize=size, label=score,
            clip_on=False,
        )  # fmt: skip
    axes.set_yticks(
        positions, [f"{shorten(row['class'])}  ({row['images']})" for _, row in table.iterrows()]
    )
    axes.set(ylim=(len(table) - 0.5, -0.5), xlabel="score", ylabel="class (test images)")
    left = np.floor(max(0.0, float(scores.min().min()) - 0.02) * 20) / 20
    axes.set_xlim(left, 1)
    axes.grid(visible=True)
    axes.legend(loc="upper left", bbox_to_anchor=(1.02, 1))
    return figure


@styled
def draw_roc(points: pd.DataFrame, table: pd.DataFrame) -> Figure:
    """Draw the curves of each class against all others: ROC, and precision against recall.

    Precision follows from the ROC curve and the numbers of images. With many classes, only the
    classes of smallest area.

    Args:
        points: columns class, false_positive_rate, true_positive_rate: the corners of the curves.
        table: columns class, roc_auc, images: a row for each class.
    """
    corners = dict(list(points.groupby("class", sort=False)))
    # Of two classes, one has curves; a class without test images has none.
    with_curves = table[table["class"].isin(list(corners))]
    shown = with_curves.sort_values("roc_auc", kind="stable").head(MOST_ROWS)
    title = "Curves of each class against all others, test split"
    if len(table) == 2 and len(with_curves) == 1:
        (name,) = with_curves["class"]
        (other,) = set(table["class"]) - {name}
        title = f"Curves of class {shorten(name)} against {shorten(other)}, test split"
    if len(shown) < len(with_curves):
        title += f"\n(the {len(shown)} classes of smallest ROC area of {len(table)})"
    figure = new_figure(12.6, 5.6, title)
    roc, precision_recall = figure.subplots(1, 2)
    total, farthest = int(table["images"].sum()), 0.0
    for number, row in enumerate(shown.sort_index(kind="stable").to_dict("records")):
        curve = corners[row["class"]]
        false_rates, true_rates = _follow_lines(
            curve["false_positive_rate"].to_numpy(), curve["true_positive_rate"].to_numpy()
        )
        found = true_rates * row["images"]
        answered = found + false_rates * (total - row["images"])
        # Without an answer there is no precision: the curve begins with the value after it.
        precision = np.divide(found, answered, out=np.zeros(len(found)), where=answered > 0)
        precision[0] = precision[1]
        # Color and dashes change from line to line: one is enough to find a line.
        color, style = LINE_COLORS[number % len(LINE_COLORS)], _DASHES[number % len(_DASHES)]
        label = f"{shorten(row['class'])} ({row['roc_auc']:.4f})"
        if label.startswith("_"):  # Matplotlib leaves such a label out of the legend
            label = " " + label
        roc.plot(false_rates, true_rates, style, color=color, linewidth=1.8, label=label)
        precision_recall.plot(true_rates, precision, style, color=color, linewidth=1.8)
        for score in (1 - false_rates, precision):
            farthest = max(farthest, 1 - np.minimum(score, true_rates).max())
    roc.plot([0, 1], [0, 1], color="#aaaaaa", linewidth=1)
    # Curves of a good network are close to a corner: show the part in which they differ.
    side = next((side for side in (0.05, 0.1, 0.2, 0.5) if farthest < side / 2), 1.0)
    margin = 0.015 * side
    roc.set(
        title="ROC; the diagonal is chance" if side == 1 else "ROC, the upper left corner",
        xlabel="false positive rate: share of the others taken for the class",
        ylabel="true positive rate: share of the class found",
        xlim=(-margin, side),
    )
    precision_recall.set(
        title="Precision and recall" + ("" if side == 1 else ", the upper right corner"),
        xlabel="recall: share of the class found",
        ylabel="precision: share of the answers that are right",
        xlim=(1 - side, 1 + margin),
    )
    for axes in (roc, precision_recall):
        axes.set(ylim=(1 - side, 1 + margin), aspect="equal")
        axes.grid(visible=True)
    figure.legend(title="class (ROC area)", loc="outside right upper")
    return figure


def _follow_lines(*coordinates: NDArray[np.float64]) -> list[NDArray[np.float64]]:
    """Return coordinates along the straight lines between corners, 20 points for each line.

    Where a ROC curve is straight, the curve of precision against recall is not.
    """
    shares = np.arange(20) / 20
    # Not NumPy's `interp`: a compiler may contract its product and sum on some processors.
    return [
        np.append((values[:-1, None] + np.diff(values)[:, None] * shares).ravel(), values[-1])
        for values in coordinates
    ]


@styled
def draw_reliability(
    table: pd.DataFrame, calibration_error: float, before: pd.DataFrame | None = None
) -> Figure:
    """Draw the accuracy of each bin of confidence, with its interval, and the images in each bin.

    Args:
        table: columns low, high, images, confidence, accuracy; a row for each bin.
        calibration_error: for the title.
        before: a table of the same columns, without temperature scaling; None if there is none.
    """
    figure = new_figure(
        6.4, 6.8, f"Reliability, test split (calibration error {calibration_error:.4f})"
    )
    upper, lower = figure.subplots(2, 1, height_ratios=[3, 1], sharex=True)
    filled = table[table["images"] > 0]
    count, accuracy = filled["images"].to_numpy(), filled["accuracy"].to_numpy()
    intervals = [
        wilson_interval(round(share * images), images)
        for share, images in zip(accuracy.tolist(), count.tolist(), strict=True)
    ]
    low, high = np.array(intervals).T
    upper.plot([0, 1], [0, 1], "--", color=GUIDE_COLOR, label="perfectly calibrated")
    upper.vlines(
        filled["confidence"], low, high, color="black", linewidth=1.5, label="95 % interval",
        zorder=4,
    )  # fmt: skip
    upper.scatter(
        filled["confidence"], accuracy, 45 + 155 * count / count.max(), color=TRAIN_COLOR,
        edgecolor="white", zorder=3, label="accuracy (larger: more images)", clip_on=False,
    )  # fmt: skip
    if before is not None:
        filled_before = before[before["images"] > 0]
        upper.plot(
            filled_before["confidence"], filled_before["accuracy"], "x--", color=VALIDATION_COLOR,
            linewidth=1, label="without temperature scaling", clip_on=False,
        )  # fmt: skip
    upper.set(ylabel="accuracy", xlim=(0, 1), ylim=(0, 1))
    upper.grid(visible=True)
    width = float(table["high"].iloc[0] - table["low"].iloc[0])
    bars = lower.bar(
        filled["low"], count, width, align="edge", color=GUIDE_COLOR, edgecolor="white"
    )
    lower.bar_label(bars, fontsize=8)
    lower.set(xlabel="confidence (largest probability)", ylabel="images", yscale="log")
    lower.yaxis.set_major_formatter(StrMethodFormatter("{x:,.0f}"))
    lower.yaxis.set_minor_locator(NullLocator())
    lower.set_ylim(0.5, 5 * count.max())  # so that a single image shows
    figure.legend(
        loc="outside lower center",
        ncols=2 if before is not None else 3,
        markerscale=0.6,
        fontsize=9,
    )
    return figure


@styled
def draw_gallery(
    images: Sequence[NDArray[np.uint8]], captions: Sequence[str], title: str
) -> Figure:
    """Draw images (H, W, C) of one size with a caption each; without images, only the title."""
    if not images:
        return new_figure(1.45 * 5, 0.4, title)
    columns = max(5, min(8, len(images)))
    rows = -(-len(images) // columns)
    wrapped = [wrap_caption(caption) for caption in captions]
    lines = 1 + max(caption.count("\n") for caption in wrapped)
    height_inch = 1.4 * images[0].shape[0] / images[0].shape[1] + 0.14 * lines + 0.2
    figure = new_figure(1.45 * columns, height_inch * rows + 0.4, title)
    grid = figure.subplots(rows, columns, squeeze=False).ravel()
    for axes in grid:
        axes.set_axis_off()
    for axes, image, caption in zip(grid, images, wrapped, strict=False):
        axes.set_axis_on()
        show_image(axes, image)
        axes.set_title(caption, fontsize=8)
    return figure
