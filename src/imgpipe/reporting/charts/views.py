"""Charts of what a network sees."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from imgpipe.reporting.charts.style import (
    gap_px,
    hide_frame,
    new_figure,
    show_image,
    styled,
    tile_images,
)


@styled
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
        figure = new_figure(9, 1.2 + 0.1 * len(shown), title)
        axes = figure.subplots()
        picture = shown[:, 0]
        axes.set(xlabel="pixel of a row", ylabel="unit")
    else:
        columns = 8
        rows = [shown[start : start + columns] for start in range(0, len(shown), columns)]
        figure = new_figure(1.2 + columns, 0.7 + len(rows), title)
        axes = figure.subplots()
        # Each weight as a block of cells, so that the gaps can be narrower than a weight.
        tiles = [[np.kron(kernel, np.ones((8, 8), np.float32)) for kernel in row] for row in rows]
        picture = tile_images(tiles, columns, gap_px(tiles[0][0]), fill=np.nan)
        axes.set_axis_off()
    mesh = axes.imshow(
        picture, cmap="RdBu_r", vmin=-limit, vmax=limit, interpolation="nearest",
        aspect="auto" if sees_rows else "equal",
    )  # fmt: skip
    figure.colorbar(mesh, label="weight", shrink=0.8)
    return figure


@styled
def draw_feature_maps(
    image: NDArray[np.uint8], layers: Sequence[tuple[str, NDArray[np.float32]]]
) -> Figure:
    """Draw one image, and below it the strongest maps that each layer makes of it.

    Args:
        layers: (layer name, (h, w, F) maps).
    """
    columns = 10
    figure = new_figure(
        1.6 + columns,
        0.9 + 1.05 * (1 + len(layers)),
        "What each layer makes of one image: its strongest maps",
    )
    first, *others = figure.subplots(1 + len(layers), 1)
    show_image(first, image)
    first.set_anchor("W")
    first.set_yticks([image.shape[0] / 2], ["image"])
    for axes, (name, maps) in zip(others, layers, strict=True):
        height, width, count = maps.shape
        strongest = np.argsort(-maps.max(axis=(0, 1)), kind="stable")[:columns]
        shown = maps[..., strongest]
        # Each map on its own scale: dark is its least, bright its most.
        low, high = shown.min(axis=(0, 1)), shown.max(axis=(0, 1))
        tiles = list(np.moveaxis((shown - low) / np.where(high > low, high - low, 1), 2, 0))
        gap = gap_px(maps)
        axes.imshow(tile_images([tiles], min(columns, count), gap, fill=np.nan), cmap="viridis")
        axes.set_anchor("W")
        hide_frame(axes)
        axes.set(xticks=[])
        axes.set_yticks([(height - 1) / 2], [f"{name}\n{height} x {width} x {count}"])
    return figure


@styled
def draw_activation_maps(
    images: NDArray[np.uint8], maps: NDArray[np.float32], captions: Sequence[str]
) -> Figure:
    """Draw images (N, H, W, C) above the same with their activation maps (N, h, w) laid over."""
    count, height_px, width_px, _ = images.shape
    figure = new_figure(1.9 * count + 1.3, 4.6, "Where the evidence for the prediction lies")
    grid = figure.subplots(2, count, squeeze=False)
    overlay: Any = None
    for column, (image, values, caption) in enumerate(zip(images, maps, captions, strict=True)):
        show_image(grid[0, column], image)
        grid[0, column].set_title(caption, fontsize=9)
        show_image(grid[1, column], image)
        overlay = grid[1, column].imshow(
            values, cmap="inferno", alpha=0.65, vmin=0, vmax=1, interpolation="bilinear",
            extent=(-0.5, width_px - 0.5, height_px - 0.5, -0.5),
        )  # fmt: skip
    figure.colorbar(overlay, ax=grid, label="relative weight", shrink=0.6)
    return figure
