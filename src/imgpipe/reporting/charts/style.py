"""What all charts share: style, arrangement of images, and PNG files with stable bytes."""

import textwrap
from collections.abc import Sequence
from io import BytesIO
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from imgpipe.core.files import replace_file

TRAIN_COLOR, VALIDATION_COLOR = "#3b6fb6", "#d9772b"
SCORE_COLORS = ("#3b6fb6", "#d9772b", "#333333")
GUIDE_COLOR = "#777777"
NOTE_COLOR = "#444444"
LINE_COLORS = ("#0072b2", "#e69f00", "#009e73", "#cc79a7", "#d55e00", "#56b4e9", "#000000")
"""Distinguishable for color-blind readers, after Okabe and Ito (2008), Color Universal Design."""

_STYLE: dict[Any, Any] = {
    "font.size": 10,
    "axes.titlesize": 11,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.axisbelow": True,
    "grid.color": "#e4e4e4",
    "legend.frameon": False,
    "text.parse_math": False,  # a name with two "$" is no formula
}
MOST_ROWS = 20
"""Largest number of classes in a picture that has a row for each class."""
_MOST_CHARACTERS = 20  # longer names of classes would cover others, or leave no place for images
_MOST_VISIBLE_PX = 64  # images of more pixels on a side are reduced in most charts

styled = mpl.rc_context({**mpl.rcParamsDefault, **_STYLE})
"""Decorates a function that draws; a person's own settings of Matplotlib are ignored."""


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


def new_figure(width_inch: float, height_inch: float, title: str) -> Figure:
    """Return an empty figure with a title."""
    figure = Figure(figsize=(width_inch, height_inch), layout="constrained")
    figure.suptitle(title, fontsize=13, fontweight="bold")
    return figure


def shorten(name: str) -> str:
    """Return the name of a class, with "..." for the middle of a long name.

    Both ends are kept, because the names of related classes often begin with the same words.
    """
    if len(name) <= _MOST_CHARACTERS:
        return name
    kept = _MOST_CHARACTERS - 3
    return f"{name[: kept - kept // 2]}...{name[-(kept // 2) :]}"


def wrap_caption(caption: str) -> str:
    """Return a caption whose lines are not wider than the picture above or below it."""
    lines = (
        textwrap.fill(line, _MOST_CHARACTERS + 1, break_on_hyphens=False)
        for line in caption.split("\n")
    )
    return "\n".join(lines)


def tile_images(
    rows: Sequence[Sequence[NDArray[Any]]], columns: int, gap: int, fill: float
) -> NDArray[Any]:
    """Arrange equally sized tiles (H, W, ...) in one array, with `gap` cells of `fill` between.

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


def middles(count: int, size: int, gap: int) -> NDArray[np.float64]:
    """Return the positions of the middles of `count` tiles in a row."""
    return np.arange(count, dtype=np.float64) * (size + gap) + (size - 1) / 2


def gap_px(image: NDArray[Any]) -> int:
    """Return a fitting gap between tiles of this size, in pixels."""
    return max(1, round(0.12 * float(max(image.shape[:2]))))


def show_image(axes: Axes, image: NDArray[np.uint8], tile_px: int = 0) -> None:
    """Show one (H, W, 1 or 3) uint8 image at its true gray or color values, without ticks.

    Of a result of `tile_images`, `tile_px` is the side of a tile.
    """
    picture = image[..., 0] if image.shape[2] == 1 else image
    # Pixels of small images are squares; a photograph has more pixels than its place in the chart.
    small = (tile_px or max(image.shape[:2])) <= _MOST_VISIBLE_PX
    interpolation = "nearest" if small else "auto"
    axes.imshow(picture, cmap="gray", vmin=0, vmax=255, interpolation=interpolation)
    hide_frame(axes)
    axes.set(xticks=[], yticks=[])


def hide_frame(axes: Axes) -> None:
    """Hide the frame and the tick marks."""
    axes.spines[:].set_visible(False)
    axes.tick_params(length=0)
