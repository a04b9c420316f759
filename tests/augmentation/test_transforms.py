"""The registry: a transformation does not change the random numbers of the others."""

import zlib
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from imgpipe.augmentation.transforms import (
    TRANSFORMATIONS,
    Transformation,
    seed_generators,
    transform_batch,
)
from imgpipe.settings.augment import Augment

IMAGES = np.random.default_rng(0).integers(0, 256, (20, 9, 7, 1), dtype=np.uint8)


@pytest.fixture
def settings(params_value: dict[str, Any]) -> Augment:
    return Augment(**params_value["augment"])


@pytest.fixture
def without_effect(settings: Augment) -> Augment:
    return settings.model_copy(
        update={
            "rotation_range": 0.0,
            "width_shift_range": 0.0,
            "height_shift_range": 0.0,
            "zoom_range": 0.0,
        }
    )


class Noise:
    """Adds a random value to each image, and records the values."""

    def __init__(self) -> None:
        self.drawn: list[int] = []

    def __call__(
        self, images: NDArray[np.uint8], _: Augment, generator: np.random.Generator
    ) -> NDArray[np.uint8]:
        values = (1 + 255 * generator.random(len(images))).astype(np.uint8)
        self.drawn += values.tolist()
        return images + values[:, None, None, None]


def register(
    monkeypatch: pytest.MonkeyPatch, name: str, apply: Any, *, is_active: bool = True
) -> None:
    monkeypatch.setitem(
        TRANSFORMATIONS, name, Transformation("for a test", lambda _: is_active, apply)
    )


def transform(settings: Augment, shard: int = 0, copy: int = 1) -> NDArray[np.uint8]:
    return transform_batch(IMAGES, settings, seed_generators(settings, shard, copy))


def test_every_transformation_is_described() -> None:
    assert all(transformation.description for transformation in TRANSFORMATIONS.values())


def test_an_inactive_transformation_is_neither_seeded_nor_applied(
    monkeypatch: pytest.MonkeyPatch, settings: Augment
) -> None:
    before = transform(settings)

    def fail(*_: object) -> NDArray[np.uint8]:
        raise AssertionError("applied")

    register(monkeypatch, "new", fail, is_active=False)
    assert list(seed_generators(settings, 0, 1)) == ["affine"]
    assert (transform(settings) == before).all()


def test_without_an_active_transformation_the_images_are_not_copied(
    without_effect: Augment,
) -> None:
    assert transform(without_effect) is IMAGES


def test_an_added_transformation_leaves_the_random_numbers_of_the_others(
    monkeypatch: pytest.MonkeyPatch, settings: Augment, without_effect: Augment
) -> None:
    before = transform(settings)
    noise = Noise()
    register(monkeypatch, "noise", noise)
    changed = transform(settings)
    # The affine transformation comes first, with the bytes that it had; then the noise.
    assert (changed == before + np.array(noise.drawn, np.uint8)[:, None, None, None]).all()

    first, second = Noise(), Noise()
    register(monkeypatch, "noise", first)
    register(monkeypatch, "more noise", second)
    transform(without_effect)
    assert first.drawn == noise.drawn  # the affine transformation is off, and one more is on
    assert second.drawn != noise.drawn


@pytest.mark.parametrize(("shard", "copy", "seed"), [(1, 1, 1), (0, 2, 1), (0, 1, 2)])
def test_each_shard_copy_and_seed_has_random_numbers_of_its_own(
    monkeypatch: pytest.MonkeyPatch, settings: Augment, shard: int, copy: int, seed: int
) -> None:
    register(monkeypatch, "noise", Noise())
    assert (transform(settings) == transform(settings)).all()
    other = settings.model_copy(update={"seed": seed})
    differs = (transform(other, shard, copy) != transform(settings)).any(axis=(1, 2, 3))
    assert differs.all()


def test_batches_of_a_shard_continue_the_random_numbers(
    monkeypatch: pytest.MonkeyPatch, settings: Augment
) -> None:
    register(monkeypatch, "noise", Noise())
    generators = seed_generators(settings, 0, 1)
    parts = [transform_batch(part, settings, generators) for part in (IMAGES[:13], IMAGES[13:])]
    assert (np.concatenate(parts) == transform(settings)).all()


def test_the_random_numbers_of_an_entry_follow_from_its_name(
    monkeypatch: pytest.MonkeyPatch, without_effect: Augment
) -> None:
    noise = Noise()
    register(monkeypatch, "noise", noise)
    transform(without_effect, shard=5, copy=3)
    expected = np.random.default_rng([without_effect.seed, 3, 5, 3, zlib.crc32(b"noise")])
    assert noise.drawn == (1 + 255 * expected.random(len(IMAGES))).astype(np.uint8).tolist()
