"""The registry of random image transformations.

To add a transformation: write its function, its settings in `imgpipe/settings/augment.py` and
recipes/defaults.yaml, and an entry of `TRANSFORMATIONS` below; docs/choices.md has all steps. Each
entry has random numbers of its own, so adding or switching off one does not change the random
numbers of the others.
"""

import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from imgpipe.augmentation import affine
from imgpipe.settings.augment import Augment

_STREAM = 3  # makes these random numbers differ from the numbers of `preprocess`
_FIRST = "affine"


@dataclass(frozen=True)
class Transformation:
    """A random transformation of images."""

    description: str
    """One line for the documentation."""
    is_active: Callable[[Augment], bool]
    """Whether it changes any image under these settings; if not, it is not applied."""
    apply: Callable[[NDArray[np.uint8], Augment, np.random.Generator], NDArray[np.uint8]]
    """Transforms (N, H, W, C) uint8 to the same shape; draws random numbers image by image."""


TRANSFORMATIONS: dict[str, Transformation] = {
    _FIRST: Transformation(
        "rotation, shift, zoom, flips and brightness, with a single interpolation",
        affine.is_active,
        affine.apply_randomly,
    ),
}
"""All transformations by name, in the order in which they are applied."""


def seed_generators(settings: Augment, shard: int, copy: int) -> dict[str, np.random.Generator]:
    """Return a generator of random numbers for each active transformation of a shard's copy.

    Args:
        settings: the section `augment` of params.yaml.
        shard: number of the shard in its split, from 0.
        copy: number of the augmented copy, from 1.
    """
    generators = {}
    for name, transformation in TRANSFORMATIONS.items():
        if transformation.is_active(settings):
            # The first transformation is older than the registry: its seed has no name, so that
            # the bytes of earlier runs stay the same.
            own = [] if name == _FIRST else [zlib.crc32(name.encode())]
            seed = [settings.seed, _STREAM, shard, copy, *own]
            generators[name] = np.random.default_rng(seed)
    return generators


def transform_batch(
    images: NDArray[np.uint8], settings: Augment, generators: Mapping[str, np.random.Generator]
) -> NDArray[np.uint8]:
    """Apply the active transformations to the next images of a shard.

    Args:
        images: (N, H, W, C).
        settings: the section `augment` of params.yaml.
        generators: from `seed_generators`; the same ones for all batches of a shard, in order.

    Returns:
        (N, H, W, C), the input itself if no transformation is active.
    """
    for name, generator in generators.items():
        images = TRANSFORMATIONS[name].apply(images, settings, generator)
    return images
