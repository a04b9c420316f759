from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from support import EVERY_TRANSFORMATION, PARAMS

from imgpipe.augmentation import affine
from imgpipe.augmentation.affine import draw_transforms, transform_images
from imgpipe.settings.augment import Augment

NOTHING = PARAMS.augment.model_copy(
    update={
        "rotation_range": 0.0,
        "width_shift_range": 0.0,
        "height_shift_range": 0.0,
        "zoom_range": 0.0,
        "horizontal_flip": False,
        "vertical_flip": False,
        "brightness_range": [1.0, 1.0],
        "fill_mode": "nearest",
        "cval": 0,
        "seed": 1,
    }
)
EVERYTHING = NOTHING.model_copy(update=EVERY_TRANSFORMATION)
IMAGES = np.random.default_rng(0).integers(0, 256, (64, 12, 17, 3), dtype=np.uint8)


def augment(settings: Augment, images: NDArray[np.uint8] = IMAGES) -> NDArray[np.uint8]:
    return affine.apply_randomly(images, settings, np.random.default_rng(5))


def change(**changes: Any) -> Augment:
    return NOTHING.model_copy(update=changes)


def test_settings_without_effect_change_nothing() -> None:
    assert (augment(NOTHING) == IMAGES).all()


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("rotation_range", 1.0),
        ("width_shift_range", 0.1),
        ("height_shift_range", 0.1),
        ("zoom_range", 0.1),
        ("horizontal_flip", True),
        ("vertical_flip", True),
        ("brightness_range", [0.9, 1.0]),
        ("brightness_range", [1.0, 1.1]),
    ],
)
def test_each_setting_changes_images(key: str, value: Any) -> None:
    assert (augment(change(**{key: value})) != IMAGES).any()


@pytest.mark.parametrize(("flip", "axis"), [("vertical_flip", 1), ("horizontal_flip", 2)])
def test_flips_mirror_about_every_second_image(flip: str, axis: int) -> None:
    result = augment(change(**{flip: True}))
    mirrored = (result == np.flip(IMAGES, axis)).all(axis=(1, 2, 3))
    unchanged = (result == IMAGES).all(axis=(1, 2, 3))
    assert (mirrored ^ unchanged).all()
    assert 20 <= mirrored.sum() <= 44


def test_brightness_multiplies_and_saturates() -> None:
    settings = change(brightness_range=[1.5, 1.5])
    expected = np.rint(np.minimum(IMAGES * np.float32(1.5), 255))
    assert (augment(settings) == expected).all()


def test_whole_shifts_move_pixels_and_fill_with_cval() -> None:
    settings = change(width_shift_range=0.5, fill_mode="constant", cval=7)
    count, height_px, width_px, _ = IMAGES.shape
    transforms = draw_transforms(settings, count, height_px, width_px, np.random.default_rng(5))
    transforms.shift_px[:] = (2, -3)
    result = transform_images(IMAGES, transforms, "constant", 7)
    assert (result[:, :-2, 3:] == IMAGES[:, 2:, :-3]).all()
    assert (result[:, -2:] == 7).all()
    assert (result[:, :, :3] == 7).all()


@pytest.mark.parametrize("fill_mode", ["constant", "nearest", "reflect"])
def test_scipy_resamples_to_the_same_values(fill_mode: str) -> None:
    """Keras's own transforms call scipy, image by image and channel by channel."""
    from scipy.ndimage import (
        affine_transform,
    )

    settings = EVERYTHING.model_copy(
        update={
            "horizontal_flip": False,
            "vertical_flip": False,
            "brightness_range": [1.0, 1.0],
            "fill_mode": fill_mode,
            "cval": 100,
        }
    )
    result = augment(settings)
    count, height_px, width_px, channels = IMAGES.shape
    transforms = draw_transforms(settings, count, height_px, width_px, np.random.default_rng(5))
    center = np.array([height_px, width_px]) / 2 - 0.5
    for index in range(count):
        matrix = transforms.matrix[index]
        offset = center + transforms.shift_px[index] - matrix @ center
        for channel in range(channels):
            expected = affine_transform(
                IMAGES[index, ..., channel].astype(np.float32),
                matrix,
                offset,
                order=1,
                mode=fill_mode,
                cval=100,
            )
            difference = np.abs(result[index, ..., channel] - expected)
            # Rounding to whole values, and float32 coordinates.
            assert (difference <= 0.51).mean() > 0.99
            if fill_mode != "constant":  # there, rounding decides which pixels are outside
                assert difference.max() < 0.6


def test_wrapping_repeats_the_image() -> None:
    settings = change(width_shift_range=0.5, fill_mode="wrap")
    count, height_px, width_px, _ = IMAGES.shape
    transforms = draw_transforms(settings, count, height_px, width_px, np.random.default_rng(5))
    transforms.shift_px[:] = (5, -4)
    result = transform_images(IMAGES, transforms, "wrap", 0)
    assert (result == np.roll(IMAGES, (-5, 4), axis=(1, 2))).all()


def test_draws_stay_within_their_ranges_and_reach_them() -> None:
    transforms = draw_transforms(EVERYTHING, 20_000, 100, 200, np.random.default_rng(0))
    zoom = np.linalg.norm(transforms.matrix, axis=1)  # the columns: rotation keeps their length
    assert zoom.min() == pytest.approx(0.7, abs=0.01)
    assert zoom.max() == pytest.approx(1.3, abs=0.01)
    angle = np.rad2deg(np.arctan2(transforms.matrix[:, 1, 0], transforms.matrix[:, 0, 0]))
    assert np.abs(angle).max() == pytest.approx(40, abs=0.1)
    distance = np.linalg.norm(transforms.shift_px, axis=1)
    assert distance.max() == pytest.approx(np.hypot(0.2 * 100, 0.3 * 200), abs=1.5)
    assert transforms.brightness.min() == pytest.approx(0.5, abs=0.01)
    assert transforms.brightness.max() == pytest.approx(1.5, abs=0.01)


def test_switching_one_kind_off_does_not_change_the_others() -> None:
    draws = [
        draw_transforms(settings, 10, 12, 17, np.random.default_rng(1))
        for settings in (EVERYTHING, EVERYTHING.model_copy(update={"vertical_flip": False}))
    ]
    assert (draws[0].matrix == draws[1].matrix).all()
    assert (draws[0].flip_horizontal == draws[1].flip_horizontal).all()
    assert (draws[0].brightness == draws[1].brightness).all()
    assert not draws[1].flip_vertical.any()


def test_an_image_does_not_depend_on_the_images_that_are_computed_with_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    together = augment(EVERYTHING)
    monkeypatch.setattr(affine, "_PIXELS_AT_ONCE", 1)
    assert (augment(EVERYTHING) == together).all()


# Keras's legacy module takes the function from a namespace that SciPy is about to drop.
@pytest.mark.filterwarnings("ignore:Please import `affine_transform`:DeprecationWarning")
@pytest.mark.tf
def test_keras_makes_the_same_picture() -> None:
    """Keras's own function makes the same picture from the same angle, shift and zoom.

    In that function an angle turns in the other direction, which does not matter, because both
    directions are equally likely. The image is square, because Keras does not find the center of
    other images.
    """
    from imgpipe.nn.common.runtime import keras

    generator = keras.src.legacy.preprocessing.image
    theta, shift_rows, shift_columns, zoom_rows, zoom_columns = 25.0, 2.0, -3.0, 0.9, 1.2
    settings = change(
        rotation_range=theta, height_shift_range=2 / 12, width_shift_range=3 / 12, zoom_range=0.2
    )

    class Fixed(np.random.Generator):
        """Draws the numbers that give the transformation above."""

        def random(self, *args: Any, **kwargs: Any) -> Any:
            signed = [1.0, 1.0, -1.0, -0.5, 1.0]
            return np.array([[*((np.array(signed) + 1) / 2), 1.0, 1.0, 0.0]])

    square = IMAGES[:1, :, :12]
    transforms = draw_transforms(settings, 1, 12, 12, Fixed(np.random.PCG64(0)))
    ours = transform_images(square, transforms, "nearest", 0)[0]
    theirs = generator.apply_affine_transform(
        square[0].astype(np.float32),
        theta=-theta,
        tx=shift_columns,
        ty=shift_rows,
        zx=zoom_columns,
        zy=zoom_rows,
        row_axis=0,
        col_axis=1,
        channel_axis=2,
        fill_mode="nearest",
    )
    assert np.abs(ours - theirs).max() < 0.6
