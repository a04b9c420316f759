import numpy as np
import pytest

from imgpipe.normalization import PixelSums, fit_normalization

IMAGES = np.random.default_rng(0).integers(0, 256, (50, 6, 5, 3), dtype=np.uint8)


def sums(images: np.ndarray) -> PixelSums:
    return PixelSums.merge(PixelSums.of_image(image) for image in images)


def test_rescaling_maps_to_the_unit_interval() -> None:
    fitted = fit_normalization("rescale", sums(IMAGES))
    normalised = IMAGES * np.array(fitted.scale) + np.array(fitted.offset)
    assert fitted.scale == [1 / 255] * 3
    assert normalised.min() >= 0
    assert normalised.max() <= 1


def test_standardising_gives_each_channel_mean_0_and_deviation_1() -> None:
    fitted = fit_normalization("standardize", sums(IMAGES))
    normalised = IMAGES * np.array(fitted.scale) + np.array(fitted.offset)
    assert normalised.mean(axis=(0, 1, 2)) == pytest.approx([0, 0, 0], abs=1e-12)
    assert normalised.std(axis=(0, 1, 2)) == pytest.approx([1, 1, 1], abs=1e-12)


def test_the_order_of_summation_does_not_show() -> None:
    parts = [sums(part) for part in np.array_split(IMAGES[::-1], 7)]
    assert PixelSums.merge(parts) == sums(IMAGES)


def test_a_channel_without_variation_is_only_centred() -> None:
    fitted = fit_normalization("standardize", sums(np.full((3, 2, 2, 1), 9, dtype=np.uint8)))
    assert (fitted.scale, fitted.offset) == ([1.0], [-9.0])
