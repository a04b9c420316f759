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
    shorten,
    show_image,
    styled,
    tile_images,
)

_NUMBERS_SIDE_PX = 28  # more numbers than this on a side cannot be read
_MOST_COLUMNS = 11
_TITLE_WIDTH_INCH = 5.8


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
    names = [shorten(name) for name, _ in shown]
    names_width_inch = 0.2 + 0.08 * max(map(len, names))
    width_inch = max(_TITLE_WIDTH_INCH, names_width_inch + 0.85 * columns)
    figure = new_figure(width_inch, 0.6 + 0.85 * len(shown) * height_px / width_px, title)
    axes = figure.subplots()
    gap = gap_px(rows[0][0])
    show_image(axes, tile_images(rows, columns, gap, fill=255), max(height_px, width_px))
    axes.set_yticks(middles(len(rows), height_px, gap), names)
    axes.set_anchor("W")  # otherwise the layout does not leave enough room for the names
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
    picture.set_title(f"{width_px} x {height_px} pixels, {channels} channel{'s'[: channels - 1]}")
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
def draw_augmentation(
    copies: Sequence[Sequence[NDArray[np.uint8]]], draws: Sequence[Sequence[NDArray[np.uint8]]]
) -> Figure:
    """Draw training images, a row for each, beside what augmentation makes of them.

    Args:
        copies: of each image, the original and its augmented copies; empty without copies.
        draws: of each image, its variant in epoch 1 and random transformations of the variant;
            empty without random transformations.
    """
    blocks = []
    if copies:
        title = "made once, by `augment`:\neach epoch shows one of them"
        blocks.append((copies, "original", "copy", title))
    if draws:
        title = "made anew in each step of `train`,\nfrom the first of the row"
        blocks.append((draws, "in epoch 1" if copies else "original", "random", title))
    columns = [min(_MOST_COLUMNS, len(rows[0])) for rows, *_ in blocks]
    widths_inch = [max(4, count) for count in columns]  # room for the titles
    image = blocks[0][0][0][0]
    height_px, width_px, _ = image.shape
    gap = gap_px(image)
    figure = new_figure(
        0.8 * len(blocks) + sum(widths_inch),
        1.5 + max(len(rows) for rows, *_ in blocks) * height_px / width_px,
        "Training images and their augmentation",
    )
    grid = figure.subplots(1, len(blocks), width_ratios=widths_inch, squeeze=False)
    for axes, count, (rows, first, name, title) in zip(grid[0], columns, blocks, strict=True):
        show_image(axes, tile_images(rows, count, gap, fill=255), max(height_px, width_px))
        axes.set_anchor("N")
        axes.set_title(title)
        labels = [first, *(f"{name} {number}" for number in range(1, count))]
        axes.set_xticks(middles(count, width_px, gap), labels)
        axes.xaxis.tick_top()
    return figure
