import numpy as np
import pytest
from matplotlib.axes import Axes
from numpy.typing import NDArray
from support import random_images, texts_in

from imgpipe.reporting.charts.data import draw_augmentation, draw_pixel_numbers, draw_samples
from imgpipe.reporting.charts.style import gap_px

SHAPES = [(28, 28, 1), (40, 60, 3)]


@pytest.mark.parametrize("shape", SHAPES)
def test_samples_show_true_pixels_in_a_row_for_each_class(shape: tuple[int, int, int]) -> None:
    samples = {"cat": random_images(4, shape), "dog": random_images(2, shape)}
    figure = draw_samples(samples)
    assert {"cat", "dog"} <= set(texts_in(figure))
    shown = np.asarray(figure.axes[0].images[0].get_array())
    expected = samples["cat"][0] if shape[2] == 3 else samples["cat"][0][..., 0]
    assert (shown[: shape[0], : shape[1]] == expected).all()


@pytest.mark.parametrize("name", ["3", "a_class_with_a_name_that_is_longer_than_its_images"])
def test_samples_fill_the_picture(name: str) -> None:
    samples = {f"{number}_{name}": random_images(8, (40, 28, 3)) for number in range(12)}
    figure = draw_samples(samples)
    figure.draw_without_rendering()
    axes = figure.axes[0]
    assert axes.get_position().height > 0.85
    assert all(label.get_window_extent().x0 >= 0 for label in axes.get_yticklabels())


def test_more_classes_than_can_be_shown_are_announced() -> None:
    samples = {f"class {number}": random_images(1, (8, 8, 1)) for number in range(30)}
    assert "(the first 20 of 30 classes)" in " ".join(texts_in(draw_samples(samples)))


@pytest.mark.parametrize("shape", [(8, 9, 1), *SHAPES])
def test_pixel_numbers_are_the_pixels(shape: tuple[int, int, int]) -> None:
    (image,) = random_images(1, shape)
    figure = draw_pixel_numbers(image, "cat")
    numbers = [int(text) for text in texts_in(figure) if text.isdigit()]
    top, left = max(0, (shape[0] - 28) // 2), max(0, (shape[1] - 28) // 2)
    expected = image[top : top + 28, left : left + 28, 0]
    assert numbers == expected.ravel().tolist()


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("copies", [1, 4, 30])
def test_copies_stand_beside_their_originals(copies: int, shape: tuple[int, int, int]) -> None:
    rows = [random_images(1 + copies, shape) for _ in range(3)]
    figure = draw_augmentation(rows, [])
    labels = texts_in(figure)
    assert {"original", "copy 1", "made once, by `augment`:\neach epoch shows one of them"} <= set(
        labels
    )
    assert "copy 11" not in labels  # more would not fit
    assert not any("random" in label for label in labels)
    assert_shown_at(figure.axes[0], rows[0][1], column=1)


@pytest.mark.parametrize("copies", [0, 3])
def test_random_transformations_stand_beside_the_image_of_the_epoch(copies: int) -> None:
    shape = (40, 60, 3)
    rows = [random_images(5, shape) for _ in range(6)]
    figure = draw_augmentation([random_images(1 + copies, shape)] * 6 if copies else [], rows)
    labels = texts_in(figure)
    assert {"random 1", "random 4"} <= set(labels)
    assert "random 5" not in labels
    assert ("in epoch 1" in labels) == ("copy 3" in labels) == bool(copies)
    assert "original" in labels
    assert any(label.startswith("made anew in each step of `train`") for label in labels)
    assert_shown_at(figure.axes[-1], rows[0][4], column=4)


def assert_shown_at(axes: Axes, image: NDArray[np.uint8], column: int) -> None:
    """Check the image in a column of the first row."""
    height_px, width_px, channels = image.shape
    left = column * (width_px + gap_px(image))
    shown = np.asarray(axes.images[0].get_array())[:height_px, left : left + width_px]
    assert (shown == (image if channels == 3 else image[..., 0])).all()
