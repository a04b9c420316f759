from pathlib import Path

import matplotlib as mpl
import numpy as np
import pytest
from matplotlib.figure import Figure
from PIL import Image

from imgpipe.reporting.charts.results import draw_confusion
from imgpipe.reporting.charts.style import (
    encode_figure,
    save_figure,
    shorten,
    show_image,
    wrap_caption,
)

CONFUSION = np.array([[5, 1, 0], [0, 7, 2], [0, 0, 0]])


def draw(path: Path) -> bytes:
    save_figure(draw_confusion(CONFUSION, ["a", "b", "c"]), path, dpi=60)
    return path.read_bytes()


def test_a_picture_is_a_png_with_stable_bytes_and_no_trace_of_its_writer(tmp_path: Path) -> None:
    first = draw(tmp_path / "1.png")
    assert first == draw(tmp_path / "2.png")
    assert first == encode_figure(draw_confusion(CONFUSION, ["a", "b", "c"]), dpi=60)
    with Image.open(tmp_path / "1.png") as picture:
        assert picture.format == "PNG"
        assert "Software" not in picture.info


def test_a_persons_own_style_changes_no_picture(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = draw(tmp_path / "1.png")
    monkeypatch.setitem(mpl.rcParams, "figure.facecolor", "yellow")
    assert draw(tmp_path / "2.png") == plain


@pytest.mark.parametrize(
    ("side_px", "tile_px", "interpolation"),
    [(28, 0, "nearest"), (224, 0, "auto"), (224, 28, "nearest"), (2000, 224, "auto")],
)
def test_only_photographs_are_smoothed(side_px: int, tile_px: int, interpolation: str) -> None:
    axes = Figure().subplots()
    show_image(axes, np.zeros((side_px, side_px, 3), dtype=np.uint8), tile_px)
    assert axes.images[0].get_interpolation() == interpolation


def test_long_names_keep_both_ends() -> None:
    assert shorten("golden retriever dog") == "golden retriever dog"
    short = shorten("a bird with yellow feathers, female")
    assert (short, len(short)) == ("a bird wi..., female", 20)


def test_the_lines_of_a_caption_are_short() -> None:
    assert wrap_caption("3, taken for\n5 (99.0%)") == "3, taken for\n5 (99.0%)"
    assert wrap_caption("abcdefghijkl, taken\N{NO-BREAK SPACE}for") == (
        "abcdefghijkl,\ntaken\N{NO-BREAK SPACE}for"
    )
    name = "abcdefghijklmnopqrst"
    expected = f"{name},\ntaken\N{NO-BREAK SPACE}for\n{name}\n(99.0%)"
    assert wrap_caption(f"{name}, taken\N{NO-BREAK SPACE}for\n{name} (99.0%)") == expected
