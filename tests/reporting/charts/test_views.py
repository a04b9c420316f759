from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from support import random_images, texts_in

from imgpipe.reporting.charts.style import save_figure
from imgpipe.reporting.charts.views import draw_activation_maps, draw_feature_maps, draw_kernels

GENERATOR = np.random.default_rng(0)
SHAPES = [(28, 28, 1), (40, 60, 3)]


@pytest.mark.parametrize("shape", [(32, 3, 3, 1), (5, 3, 3, 3), (512, 28, 28, 1)])
def test_kernels_of_any_number_can_be_drawn(
    shape: tuple[int, int, int, int], tmp_path: Path
) -> None:
    kernels = GENERATOR.normal(size=shape).astype(np.float32)
    path = tmp_path / "picture.png"
    save_figure(draw_kernels(kernels), path, dpi=60)
    with Image.open(path) as picture:
        colours = np.asarray(picture.convert("RGB")).reshape(-1, 3).astype(int)
    assert ((colours[:, 0] - colours[:, 2]) > 80).any()  # red for positive weights
    assert ((colours[:, 2] - colours[:, 0]) > 80).any()  # blue for negative ones


def test_weights_for_a_row_of_pixels_are_drawn_a_unit_a_line() -> None:
    kernels = GENERATOR.normal(size=(100, 1, 28, 1)).astype(np.float32)
    axes = draw_kernels(kernels).axes[0]
    assert axes.get_ylabel() == "unit"
    drawn = np.asarray(axes.images[0].get_array())
    assert (drawn == kernels[:64, 0, :, 0]).all()


def test_feature_maps_name_their_layers(tmp_path: Path) -> None:
    layers = [
        ("first", GENERATOR.random((28, 28, 32)).astype(np.float32)),
        ("second", np.zeros((4, 4, 3), dtype=np.float32)),
    ]
    figure = draw_feature_maps(random_images(1, (28, 28, 1))[0], layers)
    assert {"first\n28 x 28 x 32", "second\n4 x 4 x 3"} <= set(texts_in(figure))
    save_figure(figure, tmp_path / "picture.png", dpi=60)


@pytest.mark.parametrize("shape", SHAPES)
def test_activation_maps_lie_over_their_images(shape: tuple[int, int, int], tmp_path: Path) -> None:
    shown = np.stack(random_images(3, shape))
    maps = GENERATOR.random((3, 7, 7)).astype(np.float32)
    figure = draw_activation_maps(shown, maps, ["a", "b", "c"])
    assert {"a", "b", "c"} <= set(texts_in(figure))
    overlay = figure.axes[3].images[1]
    assert (np.asarray(overlay.get_array()) == maps[0]).all()
    assert tuple(overlay.get_extent()) == (-0.5, shape[1] - 0.5, shape[0] - 0.5, -0.5)
    save_figure(figure, tmp_path / "picture.png", dpi=60)
