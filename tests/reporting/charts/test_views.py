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
        colors = np.asarray(picture.convert("RGB")).reshape(-1, 3).astype(int)
    assert ((colors[:, 0] - colors[:, 2]) > 80).any()  # red for positive weights
    assert ((colors[:, 2] - colors[:, 0]) > 80).any()  # blue for negative ones


def test_color_kernels_are_drawn_in_color_each_on_its_own_scale() -> None:
    kernels = np.zeros((3, 1, 1, 3), dtype=np.float32)
    kernels[0, 0, 0] = [-8, 0, 8]
    kernels[1, 0, 0] = [0.5, 0, -0.25]
    kernels[2, 0, 0] = [1e-6, 0, 0]  # without effect
    picture = np.asarray(draw_kernels(kernels).axes[0].images[0].get_array())
    colors = [picture[0, 9 * number].tolist() for number in range(3)]
    assert colors[0] == [0, 0.5, 1]
    assert colors[1] == [1, 0.5, 0.25]
    assert colors[2] == pytest.approx([0.5, 0.5, 0.5], abs=0.001)


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
    image = random_images(1, (28, 28, 1))[0]
    figure = draw_feature_maps(image, layers, all_layers=2)
    title = "What each layer makes of one image: its strongest maps"
    assert {title, "first\n28 x 28 x 32", "second\n4 x 4 x 3"} <= set(texts_in(figure))
    save_figure(figure, tmp_path / "picture.png", dpi=60)
    title = "What 2 of 33 layers make of one image: their strongest maps"
    assert title in texts_in(draw_feature_maps(image, layers, all_layers=33))


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
