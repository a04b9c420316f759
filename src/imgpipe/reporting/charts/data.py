"""Charts of what a network is trained on."""

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from imgpipe.reporting.charts.style import (
    MOST_ROWS,
    gap_px,
    middles,
    new_figure,
    show_image,
    styled,
    tile_images,
)

_NUMBERS_SIDE_PX = 28  # more numbers than this on a side cannot be read


@styled
def draw_samples(samples: Mapping[str, Sequence[NDArray[np.uint8]]]) -> Figure:
    """Draw a row of training images for each class."""
    shown = list(samples.items())[:MOST_ROWS]
    rows = [images for _, images in shown]
    columns = max(map(len, rows))
    height_px, width_px, _ = rows[0][0].shape
    title = "Training images, class by class"
    if len(shown) < len(samples):
        title += f" (the first {len(shown)} of {len(samples)} classes)"
    figure = new_figure(1.6 + 0.85 * columns, 0.6 + 0.85 * len(shown) * height_px / width_px, title)
    axes = figure.subplots()
    gap = gap_px(rows[0][0])
    show_image(axes, tile_images(rows, columns, gap, fill=255))
    axes.set_yticks(middles(len(rows), height_px, gap), [name for name, _ in shown])
    return figure


@styled
def draw_pixel_numbers(image: NDArray[np.uint8], class_name: str) -> Figure:
    """Draw one image beside the grid of numbers that a computer sees."""
    channel = image[..., 0]
    top, left = (max(0, (size - _NUMBERS_SIDE_PX) // 2) for size in channel.shape)
    numbers = channel[top : top + _NUMBERS_SIDE_PX, left : left + _NUMBERS_SIDE_PX]
    figure = new_figure(
        15, 9.4, f"What a computer sees: an image of class {class_name!r} as numbers"
    )
    picture, grid = figure.subplots(1, 2, width_ratios=[1, 2.4])
    show_image(picture, image)
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


@styled
def draw_variants(
    originals: Sequence[NDArray[np.uint8]], variants: Sequence[Sequence[NDArray[np.uint8]]]
) -> Figure:
    """Draw originals, a row for each, beside their augmented variants."""
    rows = [[original, *copies] for original, copies in zip(originals, variants, strict=True)]
    columns = min(11, len(rows[0]))
    height_px, width_px, _ = originals[0].shape
    figure = new_figure(
        max(5.0, 0.5 + columns),
        0.9 + len(rows) * height_px / width_px,
        "Training images and their variants",
    )
    axes = figure.subplots()
    gap = gap_px(originals[0])
    show_image(axes, tile_images(rows, columns, gap, fill=255))
    titles = ["original", *(f"copy {number}" for number in range(1, columns))]
    axes.set_xticks(middles(columns, width_px, gap), titles)
    axes.xaxis.tick_top()
    return figure
