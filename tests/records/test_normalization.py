import numpy as np
import pytest
from numpy.typing import NDArray

from imgpipe.records.normalization import count_pixels, fit_normalization

IMAGES = np.random.default_rng(0).integers(0, 256, (50, 6, 5, 3), dtype=np.uint8)


def counts(images: NDArray[np.uint8]) -> NDArray[np.int64]:
    summed: NDArray[np.int64] = np.sum([count_pixels(image) for image in images], axis=0)
    return summed


def test_every_pixel_is_counted_in_its_channel() -> None:
    found = count_pixels(IMAGES[0])
    assert found.shape == (3, 256)
    for channel in range(3):
        for value in range(256):
            assert found[channel, value] == (IMAGES[0, ..., channel] == value).sum()


def test_rescaling_maps_to_the_unit_interval() -> None:
    fitted = fit_normalization("rescale", counts(IMAGES))
    normalized = IMAGES * np.array(fitted.scale) + np.array(fitted.offset)
    assert fitted.scale == [1 / 255] * 3
    assert normalized.min() >= 0
    assert normalized.max() <= 1


def test_standardizing_gives_each_channel_mean_0_and_deviation_1() -> None:
    fitted = fit_normalization("standardize", counts(IMAGES))
    normalized = IMAGES * np.array(fitted.scale) + np.array(fitted.offset)
    assert normalized.mean(axis=(0, 1, 2)) == pytest.approx([0, 0, 0], abs=1e-12)
    assert normalized.std(axis=(0, 1, 2)) == pytest.approx([1, 1, 1], abs=1e-12)


def test_a_channel_without_variation_is_only_centered() -> None:
    fitted = fit_normalization("standardize", counts(np.full((3, 2, 2, 1), 9, dtype=np.uint8)))
    assert (fitted.scale, fitted.offset) == ([1.0], [-9.0])
