import numpy as np
import pytest
from numpy.typing import NDArray

from imgpipe.images import conform


def noise(*shape: int) -> NDArray[np.uint8]:
    return np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)


def test_an_image_of_the_right_shape_is_left_alone() -> None:
    image = noise(5, 7, 3)
    assert conform(image, (5, 7, 3), "bilinear") is image


@pytest.mark.parametrize("interpolation", ["nearest", "bilinear", "bicubic", "lanczos"])
@pytest.mark.parametrize("shape", [(10, 4, 1), (3, 20, 3), (5, 7, 1)])
@pytest.mark.parametrize("channels", [1, 3])
def test_shape_and_type(interpolation: str, shape: tuple[int, int, int], channels: int) -> None:
    result = conform(noise(5, 7, channels), shape, interpolation)
    assert result.shape == shape
    assert result.dtype == np.uint8


def test_grey_becomes_colour_by_repetition() -> None:
    image = noise(4, 4, 1)
    assert (conform(image, (4, 4, 3), "bilinear") == image).all()


def test_colour_becomes_grey_by_the_weights_of_itu_601() -> None:
    image = np.zeros((1, 3, 3), dtype=np.uint8)
    image[0, range(3), range(3)] = 255
    assert conform(image, (1, 3, 1), "nearest").ravel().tolist() == [76, 150, 29]


def test_nearest_repeats_pixels() -> None:
    image = noise(2, 2, 1)
    expected = image.repeat(3, axis=0).repeat(3, axis=1)
    assert (conform(image, (6, 6, 1), "nearest") == expected).all()


@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic", "lanczos"])
def test_shrinking_averages_so_that_fine_stripes_do_not_alias(interpolation: str) -> None:
    stripes = np.zeros((64, 64, 1), dtype=np.uint8)
    stripes[:, ::2] = 255
    shrunk = conform(stripes, (9, 9, 1), interpolation).astype(int)
    assert (np.abs(shrunk - 127.5) < 20).all()


def test_a_flat_image_stays_flat() -> None:
    flat = np.full((9, 5, 3), 200, dtype=np.uint8)
    assert (conform(flat, (4, 8, 3), "lanczos") == 200).all()
