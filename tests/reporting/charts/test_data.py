import numpy as np
import pytest
from support import random_images, texts_in

from imgpipe.reporting.charts.data import draw_pixel_numbers, draw_samples, draw_variants

SHAPES = [(28, 28, 1), (40, 60, 3)]


@pytest.mark.parametrize("shape", SHAPES)
def test_samples_show_true_pixels_in_a_row_for_each_class(shape: tuple[int, int, int]) -> None:
    samples = {"cat": random_images(4, shape), "dog": random_images(2, shape)}
    figure = draw_samples(samples)
    assert {"cat", "dog"} <= set(texts_in(figure))
    shown = np.asarray(figure.axes[0].images[0].get_array())
    expected = samples["cat"][0] if shape[2] == 3 else samples["cat"][0][..., 0]
    assert (shown[: shape[0], : shape[1]] == expected).all()


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


@pytest.mark.parametrize("copies", [1, 4, 30])
def test_variants_stand_beside_their_originals(copies: int) -> None:
    originals = random_images(3, (28, 28, 1))
    figure = draw_variants(originals, [random_images(copies, (28, 28, 1)) for _ in originals])
    labels = texts_in(figure)
    assert "original" in labels
    assert "copy 1" in labels
