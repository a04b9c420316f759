"""Numbers and images → figures that are read at a glance, saved with stable bytes."""

from collections.abc import Callable, Mapping, Sequence
from functools import wraps
from io import BytesIO
from pathlib import Path
from typing import Any, ParamSpec

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, NullLocator, PercentFormatter
from numpy.typing import NDArray

from imgpipe.core.files import replace_file

TRAIN_COLOUR, VALIDATION_COLOUR = "#3b6fb6", "#d9772b"
SCORE_COLOURS = ("#3b6fb6", "#7aa6d8", "#1f3d63")
GUIDE_COLOUR = "#777777"

_STYLE: dict[Any, Any] = {
    "font.size": 10,
    "axes.titlesize": 11,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.axisbelow": True,
    "grid.color": "#e4e4e4",
    "legend.frameon": False,
}
_NUMBERS_SIDE_PX = 28  # more numbers than this on a side cannot be read
_MOST_ROWS = 20  # pictures with a row for each class show no more classes
_MOST_ANNOTATED = 15  # with more classes, the numbers in a confusion matrix become too small

P = ParamSpec("P")


def save_figure(figure: Figure, path: Path, dpi: int) -> None:
    """Write a figure as PNG, without the name and version of the software that wrote it."""
    content = encode_figure(figure, dpi)
    with replace_file(path) as partial:
        partial.write_bytes(content)


def encode_figure(figure: Figure, dpi: int) -> bytes:
    """Return a figure as the content of a PNG file."""
    content = BytesIO()
    figure.savefig(content, format="png", dpi=dpi, metadata={"Software": None})
    return content.getvalue()


def _styled(draw: Callable[P, Figure]) -> Callable[P, Figure]:
    @wraps(draw)
    def styled(*args: P.args, **kwargs: P.kwargs) -> Figure:
        with mpl.rc_context({**mpl.rcParamsDefault, **_STYLE}):
            return draw(*args, **kwargs)

    return styled


def _figure(width_inch: float, height_inch: float, title: str) -> Figure:
    figure = Figure(figsize=(width_inch, height_inch), layout="constrained")
    figure.suptitle(title, fontsize=13, fontweight="bold")
    return figure


def _tile(
    rows: Sequence[Sequence[NDArray[Any]]], columns: int, gap: int, fill: float
) -> NDArray[Any]:
    """Lay equally sized tiles (H, W, ...) out as one array, `gap` cells of `fill` between them.

    One array is drawn a hundred times faster than as many axes as there are tiles.
    """
    height, width, *rest = rows[0][0].shape
    canvas = np.full(
        (len(rows) * (height + gap) - gap, columns * (width + gap) - gap, *rest),
        fill,
        dtype=rows[0][0].dtype,
    )
    for row, tiles in enumerate(rows):
        for column, tile in enumerate(tiles[:columns]):
            top, left = row * (height + gap), column * (width + gap)
            canvas[top : top + height, left : left + width] = tile
    return canvas


def _middles(count: int, size: int, gap: int) -> NDArray[np.float64]:
    """Return where the middles of `count` tiles in a row lie."""
    return np.arange(count, dtype=np.float64) * (size + gap) + (size - 1) / 2


def _gap_px(image: NDArray[Any]) -> int:
    return max(1, round(0.12 * float(max(image.shape[:2]))))


def _show_image(axes: Axes, image: NDArray[np.uint8]) -> None:
    """Show one (H, W, 1 or 3) uint8 image at its true grey or colour values, without ticks."""
    picture = image[..., 0] if image.shape[2] == 1 else image
    axes.imshow(picture, cmap="gray", vmin=0, vmax=255, interpolation="nearest")
    _hide_frame(axes)
    axes.set(xticks=[], yticks=[])


def _hide_frame(axes: Axes) -> None:
    axes.spines[:].set_visible(False)
    axes.tick_params(length=0)


@_styled
def draw_samples(samples: Mapping[str, Sequence[NDArray[np.uint8]]]) -> Figure:
    """Draw a row of training images for each class."""
    shown = list(samples.items())[:_MOST_ROWS]
    rows = [images for _, images in shown]
    columns = max(map(len, rows))
    height_px, width_px, _ = rows[0][0].shape
    title = "Training images, class by class"
    if len(shown) < len(samples):
        title += f" (the first {len(shown)} of {len(samples)} classes)"
    figure = _figure(1.6 + 0.85 * columns, 0.6 + 0.85 * len(shown) * height_px / width_px, title)
    axes = figure.subplots()
    gap = _gap_px(rows[0][0])
    _show_image(axes, _tile(rows, columns, gap, fill=255))
    axes.set_yticks(_middles(len(rows), height_px, gap), [name for name, _ in shown])
    return figure


@_styled
def draw_pixel_numbers(image: NDArray[np.uint8], class_name: str) -> Figure:
    """Draw one image beside the grid of numbers that a computer sees."""
    channel = image[..., 0]
    top, left = (max(0, (size - _NUMBERS_SIDE_PX) // 2) for size in channel.shape)
    numbers = channel[top : top + _NUMBERS_SIDE_PX, left : left + _NUMBERS_SIDE_PX]
    figure = _figure(15, 9.4, f"What a computer sees: an image of class {class_name!r} as numbers")
    picture, grid = figure.subplots(1, 2, width_ratios=[1, 2.4])
    _show_image(picture, image)
    height_px, width_px, channels = image.shape
    picture.set_title(f"{height_px} x {width_px} pixels, {channels} channel{'s'[: channels - 1]}")
    grid.imshow(numbers, cmap="gray", vmin=0, vmax=255)
    part = "" if numbers.shape == channel.shape else "its middle, "
    grid.set(
        xticks=[], yticks=[], title=f"{part}{'red, ' if channels == 3 else ''}0 black to 255 white"
    )
    for (row, column), value in np.ndenumerate(numbers):
        label = grid.text(
            column, row, str(value), ha="center", va="center", fontsize=7,
            color="black" if value > 127 else "white",
        )  # fmt: skip
        label.set_in_layout(False)  # measuring 784 of them would take longer than drawing
    return figure


@_styled
def draw_variants(
    originals: Sequence[NDArray[np.uint8]], variants: Sequence[Sequence[NDArray[np.uint8]]]
) -> Figure:
    """Draw originals, a row for each, beside their augmented variants."""
    rows = [[original, *copies] for original, copies in zip(originals, variants, strict=True)]
    columns = min(11, len(rows[0]))
    height_px, width_px, _ = originals[0].shape
    figure = _figure(
        max(5.0, 0.5 + columns),
        0.9 + len(rows) * height_px / width_px,
        "Training images and their variants",
    )
    axes = figure.subplots()
    gap = _gap_px(originals[0])
    _show_image(axes, _tile(rows, columns, gap, fill=255))
    titles = ["original", *(f"copy {number}" for number in range(1, columns))]
    axes.set_xticks(_middles(columns, width_px, gap), titles)
    axes.xaxis.tick_top()
    if columns == 1:
        axes.set_xlabel("no augmented copies: augment.copies is 0")
    return figure


@_styled
def draw_learning_curves(history: pd.DataFrame, best_epoch: int) -> Figure:
    """Draw loss, accuracy and error (1 - accuracy) by epoch, training beside validation.

    Args:
        history: columns epoch, loss, accuracy, validation_loss, validation_accuracy.
    """
    figure = _figure(13, 4, "Learning curves")
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
        axes.plot(history["epoch"], train, TRAIN_COLOUR, marker=marker, label="training")
        axes.plot(
            history["epoch"], validation, VALIDATION_COLOUR, marker=marker, label="validation"
        )
        axes.axvline(best_epoch, color=GUIDE_COLOUR, linestyle=":", label="best epoch")
        axes.set(title=title, xlabel="epoch")
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.grid(visible=True)
    figure.axes[0].set_ylim(bottom=0)
    figure.axes[1].set_ylim(top=1)
    figure.axes[2].set_ylim(bottom=0)
    figure.axes[0].legend()
    return figure


@_styled
def draw_confusion(confusion: NDArray[np.int64], classes: Sequence[str]) -> Figure:
    """Draw a confusion matrix (K, K) [actual, predicted]: counts, coloured by share of the row."""
    count = len(classes)
    side_inch = min(14.0, 3.5 + 0.5 * count)
    accuracy = np.trace(confusion) / max(1, confusion.sum())
    figure = _figure(
        side_inch + 1, side_inch, f"Confusion matrix, test split (accuracy {accuracy:.1%})"
    )
    axes = figure.subplots()
    share = confusion / np.maximum(1, confusion.sum(axis=1, keepdims=True))
    mesh = axes.imshow(share, cmap="Blues", vmin=0, vmax=1)
    figure.colorbar(mesh, label="share of the actual class", shrink=0.8)
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
                colour = "white" if share[actual, predicted] > 0.5 else "black"
                axes.text(predicted, actual, str(images), ha="center", va="center", color=colour)
    return figure


@_styled
def draw_class_scores(table: pd.DataFrame) -> Figure:
    """Draw precision, recall and F1 of each class as bars.

    Args:
        table: columns class, precision, recall, f1, images.
    """
    figure = _figure(8, 1.4 + 0.42 * len(table), "Scores of each class, test split")
    axes = figure.subplots()
    positions = np.arange(len(table))
    for offset, colour, score in zip(
        (-0.27, 0, 0.27), SCORE_COLOURS, ("precision", "recall", "f1"), strict=True
    ):
        axes.barh(positions + offset, table[score], height=0.25, color=colour, label=score)
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


@_styled
def draw_roc(points: pd.DataFrame, areas: Mapping[str, float]) -> Figure:
    """Draw the receiver operating characteristic of each class, best known by its area.

    Args:
        points: columns class, false_positive_rate, true_positive_rate.
        areas: the area under the curve of each class.
    """
    curves = list(points.groupby("class", sort=False))
    shown = curves[:_MOST_ROWS]
    title = "Receiver operating characteristic, test split"
    if len(shown) < len(curves):
        title += f" (the first {len(shown)} of {len(curves)} classes)"
    figure = _figure(8.5, 6, title)
    axes = figure.subplots()
    colours = mpl.colormaps["tab20"](range(20)) if len(shown) > 1 else [TRAIN_COLOUR]
    for colour, (name, curve) in zip(colours, shown, strict=False):
        axes.plot(
            curve["false_positive_rate"], curve["true_positive_rate"], color=colour,
            label=f"{name} ({areas[str(name)]:.4f})",
        )  # fmt: skip
    axes.plot([0, 1], [0, 1], "--", color=GUIDE_COLOUR, label="chance (0.5)")
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


@_styled
def draw_gallery(
    images: Sequence[NDArray[np.uint8]], captions: Sequence[str], title: str
) -> Figure:
    """Draw images with a caption each."""
    columns = max(5, min(8, len(images)))
    rows = max(1, -(-len(images) // columns))
    figure = _figure(1.45 * columns, 1.95 * rows + 0.6, title)
    grid = figure.subplots(rows, columns, squeeze=False).ravel()
    for axes in grid:
        axes.set_axis_off()
    for axes, image, caption in zip(grid, images, captions, strict=False):
        axes.set_axis_on()
        _show_image(axes, image)
        axes.set_title(caption, fontsize=8)
    return figure


@_styled
def draw_reliability(table: pd.DataFrame, calibration_error: float) -> Figure:
    """Draw accuracy against confidence, and how many images have which confidence.

    Args:
        table: columns low, high, images, confidence, accuracy; a row for each bin.
    """
    figure = _figure(6, 6.5, f"Reliability, test split (calibration error {calibration_error:.4f})")
    upper, lower = figure.subplots(2, 1, height_ratios=[3, 1], sharex=True)
    filled = table[table["images"] > 0]
    width = float(table["high"].iloc[0] - table["low"].iloc[0])
    upper.bar(
        filled["low"], filled["accuracy"], width, align="edge", color=TRAIN_COLOUR,
        edgecolor="white", label="accuracy in the bin",
    )  # fmt: skip
    upper.plot([0, 1], [0, 1], "--", color=GUIDE_COLOUR, label="perfectly calibrated")
    upper.plot(
        filled["confidence"], filled["accuracy"], "o", color=VALIDATION_COLOUR,
        label="at the bin's mean confidence",
    )  # fmt: skip
    upper.set(ylabel="accuracy", xlim=(0, 1), ylim=(0, 1.02))
    upper.legend(loc="upper left")
    upper.grid(visible=True)
    lower.bar(
        filled["low"], filled["images"], width, align="edge", color=GUIDE_COLOUR, edgecolor="white"
    )
    lower.set(xlabel="confidence (largest probability)", ylabel="images", yscale="log")
    lower.set_ylim(bottom=0.5)  # so that a single image shows
    lower.grid(visible=True)
    return figure


@_styled
def draw_kernels(kernels: NDArray[np.float32]) -> Figure:
    """Draw the weights of the first layer, (F, h, w, C): blue negative, red positive."""
    shown = kernels[:64].mean(axis=3)
    limit = float(np.abs(shown).max()) or 1.0
    title = "What the first layer looks for"
    if kernels.shape[3] > 1:
        title += f" (mean over {kernels.shape[3]} channels)"
    _, height, width, _ = kernels.shape
    sees_rows = height == 1 < width
    if sees_rows:
        figure = _figure(9, 1.2 + 0.1 * len(shown), title)
        axes = figure.subplots()
        picture = shown[:, 0]
        axes.set(xlabel="pixel of a row", ylabel="unit")
    else:
        columns = 8
        rows = [shown[start : start + columns] for start in range(0, len(shown), columns)]
        figure = _figure(1.2 + columns, 0.7 + len(rows), title)
        axes = figure.subplots()
        # Each weight as a block of cells, so that the gaps can be narrower than a weight.
        tiles = [[np.kron(kernel, np.ones((8, 8), np.float32)) for kernel in row] for row in rows]
        picture = _tile(tiles, columns, _gap_px(tiles[0][0]), fill=np.nan)
        axes.set_axis_off()
    mesh = axes.imshow(
        picture, cmap="RdBu_r", vmin=-limit, vmax=limit, interpolation="nearest",
        aspect="auto" if sees_rows else "equal",
    )  # fmt: skip
    figure.colorbar(mesh, label="weight", shrink=0.8)
    return figure


@_styled
def draw_feature_maps(
    image: NDArray[np.uint8], layers: Sequence[tuple[str, NDArray[np.float32]]]
) -> Figure:
    """Draw one image, and below it the strongest maps that each layer makes of it.

    Args:
        layers: (layer name, (h, w, F) maps).
    """
    columns = 10
    figure = _figure(
        1.6 + columns,
        0.9 + 1.05 * (1 + len(layers)),
        "What each layer makes of one image: its strongest maps",
    )
    first, *others = figure.subplots(1 + len(layers), 1)
    _show_image(first, image)
    first.set_anchor("W")
    first.set_yticks([image.shape[0] / 2], ["image"])
    for axes, (name, maps) in zip(others, layers, strict=True):
        height, width, count = maps.shape
        strongest = np.argsort(-maps.max(axis=(0, 1)), kind="stable")[:columns]
        shown = maps[..., strongest]
        # Each map on its own scale: dark is its least, bright its most.
        low, high = shown.min(axis=(0, 1)), shown.max(axis=(0, 1))
        tiles = list(np.moveaxis((shown - low) / np.where(high > low, high - low, 1), 2, 0))
        gap = _gap_px(maps)
        axes.imshow(_tile([tiles], min(columns, count), gap, fill=np.nan), cmap="viridis")
        axes.set_anchor("W")
        _hide_frame(axes)
        axes.set(xticks=[])
        axes.set_yticks([(height - 1) / 2], [f"{name}\n{height} x {width} x {count}"])
    return figure


@_styled
def draw_activation_maps(
    images: NDArray[np.uint8], maps: NDArray[np.float32], captions: Sequence[str]
) -> Figure:
    """Draw images (N, H, W, C) above the same with their activation maps (N, h, w) laid over."""
    count, height_px, width_px, _ = images.shape
    figure = _figure(1.9 * count + 1.3, 4.6, "Where the evidence for the prediction lies")
    grid = figure.subplots(2, count, squeeze=False)
    overlay: Any = None
    for column, (image, values, caption) in enumerate(zip(images, maps, captions, strict=True)):
        _show_image(grid[0, column], image)
        grid[0, column].set_title(caption, fontsize=9)
        _show_image(grid[1, column], image)
        overlay = grid[1, column].imshow(
            values, cmap="inferno", alpha=0.65, vmin=0, vmax=1, interpolation="bilinear",
            extent=(-0.5, width_px - 0.5, height_px - 0.5, -0.5),
        )  # fmt: skip
    figure.colorbar(overlay, ax=grid, label="relative weight", shrink=0.6)
    return figure


@_styled
def draw_members(table: pd.DataFrame) -> Figure:
    """Draw accuracy and loss of an ensemble below those of its members.

    Args:
        table: a row for each member and a last one for the ensemble; columns accuracy,
            accuracy_low, accuracy_high, loss.
    """
    *members, ensemble = table.index
    places = np.arange(len(table))[::-1]
    colours = [SCORE_COLOURS[1]] * len(members) + [VALIDATION_COLOUR]
    figure = _figure(10, 1.6 + 0.3 * len(table), "Members and their average, test split")
    left, right = figure.subplots(1, 2, sharey=True)
    left.errorbar(
        table["accuracy"],
        places,
        xerr=[
            table["accuracy"] - table["accuracy_low"],
            table["accuracy_high"] - table["accuracy"],
        ],
        fmt="none", ecolor=GUIDE_COLOUR, elinewidth=1, capsize=3,
    )  # fmt: skip
    for axes, column in ((left, "accuracy"), (right, "loss")):
        axes.scatter(table[column], places, c=colours, zorder=3)
        axes.axvline(
            table[column].iloc[:-1].mean(), color=SCORE_COLOURS[1], linestyle=":",
            label="mean of the members",
        )  # fmt: skip
        axes.grid(visible=True, axis="x")
    left.set_yticks(places, [f"member {name}" for name in members] + [str(ensemble)])
    left.set(xlabel="accuracy, with its 95 % interval")
    right.set(xlabel="loss (cross-entropy)")
    right.legend(loc="best")
    return figure


@_styled
def draw_folds(table: pd.DataFrame, summary: Mapping[str, Mapping[str, float]]) -> Figure:
    """Draw each fold's scores as points, with mean and standard deviation over the folds.

    Args:
        table: a row for each fold, a column for each score.
        summary: mean and sd of each score to draw.
    """
    low_is_good = [name for name in summary if name in ("loss", "calibration_error")]
    high_is_good = [name for name in summary if name not in low_is_good]
    figure = _figure(
        2.5 + 1.25 * len(summary), 4.6, f"Scores of {len(table)} folds, mean and standard deviation"
    )
    left, right = figure.subplots(1, 2, width_ratios=[len(high_is_good), len(low_is_good)])
    spread = np.linspace(-0.18, 0.18, len(table))
    for axes, names in ((left, high_is_good), (right, low_is_good)):
        for place, name in enumerate(names):
            axes.scatter(place + spread, table[name], s=18, color=SCORE_COLOURS[1])
            axes.errorbar(
                place + 0.32, summary[name]["mean"], yerr=summary[name]["sd"], fmt="D",
                color=SCORE_COLOURS[2], markersize=5, capsize=4,
            )  # fmt: skip
        labels = [
            f"{name.replace('_', ' ')}\n{summary[name]['mean']:.4f}\nsd {summary[name]['sd']:.4f}"
            for name in names
        ]
        axes.set_xticks(np.arange(len(names)) + 0.1, labels, fontsize=8)
        axes.set_xlim(-0.5, len(names) - 0.3)
        axes.grid(visible=True, axis="y")
    left.set_title("more is better")
    right.set_title("less is better")
    right.set_ylim(bottom=0)
    return figure


@_styled
def draw_errors(errors: Mapping[str, Sequence[pd.DataFrame]], table: pd.DataFrame) -> Figure:
    """Draw training and validation error by epoch, a panel for each variant.

    Args:
        errors: for each variant its runs, one a seed; columns epoch, training_error,
            validation_error.
        table: a row for each variant; columns validation_error and validation_error_sd, at the
            epochs of lowest validation loss.
    """
    figure = _figure(2.9 * len(errors) + 0.6, 4.2, "What regularisation does")
    panels = figure.subplots(1, len(errors), sharey=True, squeeze=False)[0]
    for axes, (variant, runs) in zip(panels, errors.items(), strict=True):
        for column, colour, label in (
            ("training_error", TRAIN_COLOUR, "training"),
            ("validation_error", VALIDATION_COLOUR, "validation"),
        ):
            values = pd.concat([run.set_index("epoch")[column] for run in runs], axis=1)
            axes.plot(values, color=colour, alpha=0.25, linewidth=0.8)
            axes.plot(values.mean(axis=1), color=colour, label=label)
        best, sd = table.loc[variant, ["validation_error", "validation_error_sd"]]
        axes.set(title=f"{variant}\nvalidation error {best:.1%}, sd {sd:.1%}", xlabel="epoch")
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.grid(visible=True)
    # Logarithmic, for the differences are between small errors; linear below 1 %, for 0 is common.
    panels[0].set_yscale("symlog", linthresh=0.01)
    panels[0].set_yticks([0, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1], minor=False)
    panels[0].yaxis.set_minor_locator(NullLocator())
    panels[0].yaxis.set_major_formatter(PercentFormatter(1, decimals=1))
    panels[0].set(ylabel="error (1 - accuracy)", ylim=(0, 1))
    panels[0].legend(loc="upper right")
    figure.supxlabel(
        f"Mean over {len(runs)} seeds, each seed thin. The training error is measured while"
        " training: dropout and augmentation raise it. Titles: at the epoch of lowest validation"
        " loss.",
        fontsize=9,
    )
    return figure
