"""Charts of what a network sees."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from imgpipe.reporting.charts.style import (
    gap_px,
    hide_frame,
    new_figure,
    show_image,
    styled,
    tile_images,
    wrap_caption,
)

_KERNELS_IN_ROW = 8
_WITHOUT_EFFECT = 1e-3  # share of the largest weight of all kernels


@styled
def draw_kernels(kernels: NDArray[np.float32]) -> Figure:
    """Draw the weights of the first layer, (F, h, w, C).

    With one channel, and for layers that see rows, blue is negative and red is positive. Kernels of
    three channels are drawn as color images, where gray is 0.
    """
    _, height, width, channels = kernels.shape
    sees_rows = height == 1 < width
    if channels == 3 and not sees_rows:
        return _draw_color_kernels(kernels)
    shown = kernels[:64].mean(axis=3)
    limit = float(np.abs(shown).max()) or 1.0
    title = "What the first layer looks for"
    if channels > 1:
        title += f" (mean over {channels} channels)"
    if sees_rows:
        figure = new_figure(9, 1.2 + 0.1 * len(shown), title)
        axes = figure.subplots()
        picture = shown[:, 0]
        axes.set(xlabel="pixel of a row", ylabel="unit")
    else:
        picture, rows = _tile_kernels(shown, fill=np.nan)
        figure = new_figure(1.2 + _KERNELS_IN_ROW, 0.7 + rows * height / width, title)
        axes = figure.subplots()
        axes.set_axis_off()
    mesh = axes.imshow(
        picture, cmap="RdBu_r", vmin=-limit, vmax=limit, interpolation="nearest",
        aspect="auto" if sees_rows else "equal",
    )  # fmt: skip
    figure.colorbar(mesh, label="weight", shrink=0.8)
    return figure


def _draw_color_kernels(kernels: NDArray[np.float32]) -> Figure:
    shown = kernels[:64]
    # Each kernel on its own scale, because the sizes of kernels can differ a hundredfold. A kernel
    # without effect, all of whose weights are almost 0, stays gray.
    largest = np.abs(shown).max(axis=(1, 2, 3), keepdims=True)
    scale = np.maximum(largest, _WITHOUT_EFFECT * float(largest.max()) or 1.0)
    picture, rows = _tile_kernels(0.5 + 0.5 * shown / scale, fill=1.0)
    figure = new_figure(
        1.2 + _KERNELS_IN_ROW,
        0.7 + rows * kernels.shape[1] / kernels.shape[2],
        "What the first layer looks for (gray is 0; each kernel on its own scale)",
    )
    axes = figure.subplots()
    axes.imshow(picture, interpolation="nearest")
    axes.set_axis_off()
    return figure


def _tile_kernels(kernels: NDArray[np.float32], fill: float) -> tuple[NDArray[np.float32], int]:
    """Arrange kernels (F, h, w, ...) in one array; return the array and the number of rows."""
    # Each weight as a block of cells, so that the gaps can be narrower than a weight.
    tiles = list(kernels.repeat(8, axis=1).repeat(8, axis=2))
    starts = range(0, len(tiles), _KERNELS_IN_ROW)
    rows = [tiles[start : start + _KERNELS_IN_ROW] for start in starts]
    return tile_images(rows, _KERNELS_IN_ROW, gap_px(tiles[0]), fill), len(rows)


@styled
def draw_feature_maps(
    image: NDArray[np.uint8], layers: Sequence[tuple[str, NDArray[np.float32]]], all_layers: int
) -> Figure:
    """Draw one image, and below it the strongest maps that layers make of it.

    Args:
        image: (H, W, C).
        layers: (layer name, (h, w, F) maps).
        all_layers: number of layers of the network that have maps.
    """
    columns = 10
    title = "What each layer makes of one image: its strongest maps"
    if len(layers) < all_layers:
        title = f"What {len(layers)} of {all_layers} layers make of one image: their strongest maps"
    rows = 1 + len(layers)
    cell_height = image.shape[0] / image.shape[1]  # in cell widths
    figure = new_figure(1.6 + columns, 0.7 + 1.08 * rows * cell_height, title)
    first, *others = figure.subplots(rows, 1)
    _show_tiles(first, [image[..., 0] if image.shape[2] == 1 else image], cell_height, columns)
    first.set_yticks([cell_height / 2], ["image"])
    for axes, (name, maps) in zip(others, layers, strict=True):
        height, width, count = maps.shape
        strongest = np.argsort(-maps.max(axis=(0, 1)), kind="stable")[:columns]
        tiles = [maps[..., number] for number in strongest]
        _show_tiles(axes, tiles, cell_height, columns)
        axes.set_yticks([cell_height / 2], [f"{name}\n{height} x {width} x {count}"])
    return figure


def _show_tiles(
    axes: Axes, tiles: Sequence[NDArray[Any]], cell_height: float, columns: int
) -> None:
    """Show tiles in a row of cells of width 1; tiles may differ in their numbers of pixels.

    Each map (h, w) has its own scale: dark is its least value, bright its largest. An image
    (H, W, 3) or (H, W) uint8 is shown as it is.
    """
    for column, tile in enumerate(tiles):
        left = 1.1 * column
        colors: dict[str, Any] = {"cmap": "viridis"}
        if tile.dtype == np.uint8:
            colors = {"cmap": "gray", "vmin": 0, "vmax": 255}
        extent = (left, left + 1, cell_height, 0)
        axes.imshow(tile, interpolation="nearest", extent=extent, **colors)
    axes.set(xlim=(0, 1.1 * columns - 0.1), ylim=(cell_height, 0), aspect="equal", xticks=[])
    hide_frame(axes)


@styled
def draw_activation_maps(
    images: NDArray[np.uint8], maps: NDArray[np.float32], captions: Sequence[str]
) -> Figure:
    """Draw images (N, H, W, C) above the same with their activation maps (N, h, w) laid over."""
    count, height_px, width_px, _ = images.shape
    wrapped = [wrap_caption(caption) for caption in captions]
    lines = 1 + max(caption.count("\n") for caption in wrapped)
    figure = new_figure(
        1.9 * count + 1.3,
        3.8 * height_px / width_px + 0.16 * lines + 0.6,
        "Where the evidence for the prediction lies",
    )
    grid = figure.subplots(2, count, squeeze=False)
    overlay: Any = None
    for column, (image, values, caption) in enumerate(zip(images, maps, wrapped, strict=True)):
        show_image(grid[0, column], image)
        grid[0, column].set_title(caption, fontsize=9)
        show_image(grid[1, column], image)
        overlay = grid[1, column].imshow(
            values, cmap="inferno", alpha=0.65, vmin=0, vmax=1, interpolation="bilinear",
            extent=(-0.5, width_px - 0.5, height_px - 0.5, -0.5),
        )  # fmt: skip
    figure.colorbar(overlay, ax=grid, label="relative weight", shrink=0.6)
    return figure
