import numpy as np
import pytest

from imgpipe.records.normalization import count_pixels, fit_normalization

IMAGES = np.random.default_rng(0).integers(0, 256, (50, 6, 5, 3), dtype=np.uint8)


def counts(images: np.ndarray) -> np.ndarray:
    return sum((count_pixels(image) for image in images), start=np.zeros((1, 256), np.int64))


def test_every_pixel_is_counted_in_its_channel() -> None:
    found = count_pixels(IMAGES[0])
    assert found.shape == (3, 256)
    for channel in range(3):
        for value in range(256):
            assert found[channel, value] == (IMAGES[0, ..., channel] == value).sum()


def test_rescaling_maps_to_the_unit_interval() -> None:
    fitted = fit_normalization("rescale", counts(IMAGES))
    normalised = IMAGES * np.array(fitted.scale) + np.array(fitted.offset)
    assert fitted.scale == [1 / 255] * 3
    assert normalised.min() >= 0
    assert normalised.max() <= 1


def test_standardising_gives_each_channel_mean_0_and_deviation_1() -> None:
    fitted = fit_normalization("standardize", counts(IMAGES))
    normalised = IMAGES * np.array(fitted.scale) + np.array(fitted.offset)
    assert normalised.mean(axis=(0, 1, 2)) == pytest.approx([0, 0, 0], abs=1e-12)
    assert normalised.std(axis=(0, 1, 2)) == pytest.approx([1, 1, 1], abs=1e-12)


def test_a_channel_without_variation_is_only_centred() -> None:
    fitted = fit_normalization("standardize", counts(np.full((3, 2, 2, 1), 9, dtype=np.uint8)))
    assert (fitted.scale, fitted.offset) == ([1.0], [-9.0])
