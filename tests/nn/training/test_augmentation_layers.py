"""Random transformations in training."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from support import (
    EASY_PARAMS,
    PARAMS,
    build_network,
    change_params,
    make_easy_images,
    save_network,
    train_easily,
)

pytestmark = pytest.mark.tf

RANDOM: dict[str, Any] = {
    "training__random_flip": "both",
    "training__random_rotation_deg": 90.0,
    "training__random_translation_frac": 0.3,
    "training__random_zoom_frac": 0.4,
    "training__random_contrast_frac": 0.5,
}


def transform(
    images: NDArray[np.uint8], *, training: bool = True, **changes: Any
) -> NDArray[np.float32]:
    """Return the images that a network gets after the random transformations."""
    from imgpipe.nn.common.runtime import keras
    from imgpipe.nn.training.augmentation_layers import add_random_layers

    pixels = keras.Input(images.shape[1:], dtype="uint8")
    unchanged = keras.Model(pixels, keras.layers.Rescaling(1.0, dtype="float32")(pixels))
    model = add_random_layers(unchanged, change_params(arithmetic="native", **changes).training)
    return np.asarray(model(images, training=training))


@pytest.mark.parametrize(("key", "value"), RANDOM.items())
def test_each_transformation_changes_images_only_in_training(key: str, value: Any) -> None:
    images, _ = make_easy_images(30)
    changed = transform(images, **{key: value})
    assert changed.shape == images.shape
    assert changed.min() >= 0
    assert changed.max() <= 255
    assert (changed == changed.round()).all()  # whole numbers, as in the records
    assert (changed != images).any(axis=(1, 2, 3)).mean() > 0.6
    assert (transform(images, training=False, **{key: value}) == images).all()


def test_flips_translation_and_contrast_give_the_expected_pixels() -> None:
    ramp = np.tile(np.arange(10, 250, 20, dtype=np.uint8)[None, :, None], (64, 12, 1, 1))
    ramp = ramp.reshape(64, 12, 12, 1)  # values rise from 10 at the left to 230 at the right
    flipped = transform(ramp, training__random_flip="horizontal")
    assert {(image == ramp[0, :, ::-1]).all() for image in flipped} == {True, False}
    assert all((image == ramp[0]).all() or (image == ramp[0, :, ::-1]).all() for image in flipped)
    assert (transform(ramp, training__random_flip="vertical") == ramp).all()
    shifted = transform(ramp, training__random_translation_frac=0.25)
    assert shifted[:, 6, 6].min() >= 70  # a quarter of 12 pixels is 3 steps of 20 from 130
    assert shifted[:, 6, 6].max() <= 190
    assert shifted[:, 6, 6].std() > 20
    assert shifted.min() == 10  # the nearest pixel fills points outside: no new value
    assert shifted.max() == 230
    contrast = transform(ramp, training__random_contrast_frac=0.5)
    spread = contrast.std(axis=(1, 2, 3)) / ramp[0].std()
    assert 0.45 < spread.min() < 0.8 < 1.2 < spread.max() < 1.55


def test_rotation_and_zoom_reach_the_limits_in_their_settings() -> None:
    images = np.zeros((200, 41, 41, 1), dtype=np.uint8)
    images[:, 17:24, 27:34] = 200  # to the right of the middle
    rows, columns = np.mgrid[:41, :41] - 20

    def mean_of(places: np.ndarray, changed: np.ndarray) -> np.ndarray:
        return np.asarray((changed[..., 0] * places).sum(axis=(1, 2)) / changed.sum(axis=(1, 2, 3)))

    turned = transform(images, training__random_rotation_deg=60.0)
    angles = np.degrees(np.arctan2(mean_of(rows, turned), mean_of(columns, turned)))
    assert -61 < angles.min() < -50
    assert 50 < angles.max() < 61
    zoomed = transform(images, training__random_zoom_frac=0.2)
    factors = 10 / mean_of(columns, zoomed)  # the block was 10 pixels from the middle
    assert 0.79 < factors.min() < 0.85
    assert 1.15 < factors.max() < 1.21


def test_pixels_are_rounded_to_the_nearest_number() -> None:
    gray = np.full((64, 12, 12, 1), 101, dtype=np.uint8)
    changes = {key: value for key, value in RANDOM.items() if "contrast" not in key}
    assert (transform(gray, **changes) == 101).all()
    steps = np.tile(np.array([100, 101], dtype=np.uint8), (64, 12, 6))[..., None]
    shifted = transform(steps, training__random_translation_frac=0.3)
    assert abs(shifted[:, 3:9, 4:8].mean() - 100.5) < 0.1  # truncation would give a lower mean


def test_without_transformations_the_network_is_returned() -> None:
    from imgpipe.nn.training.augmentation_layers import add_random_layers

    model = build_network("mlp")
    assert add_random_layers(model, PARAMS.training) is model


def test_transformations_repeat_with_their_seed_and_differ_from_each_other() -> None:
    from imgpipe.nn.training.augmentation_layers import add_random_layers

    images, _ = make_easy_images(30)
    first = transform(images, **RANDOM)
    assert (first == transform(images, **RANDOM)).all()
    assert (first != transform(images, **RANDOM, training__seed=2)).any()
    model = add_random_layers(
        build_network("mlp"), change_params(arithmetic="native", **RANDOM).training
    )
    seeds = [layer.seed for layer in model.layers if hasattr(layer, "seed")]
    assert len(seeds) == len(set(seeds)) == 6  # each of the two flips is a layer


@pytest.mark.parametrize("precision", ["float32", "mixed_bfloat16"])
def test_the_trained_model_has_no_transformations(
    precision: str, set_precision: Callable[[str], None], tmp_path: Path
) -> None:
    from imgpipe.nn.inference.loading import load_model

    set_precision(precision)
    params = change_params(
        EASY_PARAMS, arithmetic="native", training__random_translation_frac=0.1, training__epochs=6
    )
    model, history = train_easily(params)
    assert max(epoch.validation_accuracy for epoch in history) > 0.8
    save_network(model, tmp_path / "model.keras")
    names = [layer.name for layer in load_model(tmp_path / "model.keras").layers]
    assert names == [layer.name for layer in model.layers]
    assert not any("random" in name for name in names)
