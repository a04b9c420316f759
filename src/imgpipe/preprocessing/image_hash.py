"""A perceptual hash: copies of a picture that were resized, compressed or cut a little are near.

Each bit says whether one block of the picture is brighter than the block before it, to the left or
above: a difference hash, of 8 x 8 blocks in both directions. All sums are of integers, so the hash
is the same on every processor. Own code, because the package imagehash computes other hashes with
floating-point numbers, and needs SciPy and PyWavelets.
"""

import numpy as np
from numpy.typing import NDArray
from PIL import Image

HASH_BITS = 128
LEAST_SIDE_PX = 64
"""Smaller images have too little detail: many different digits or shirts of 28 x 28 are near."""
NO_HASH = np.zeros(2, dtype=np.uint64)
"""Of an image without detail, such as a blank page: it is near to no image."""

_BLOCKS = 8
_SIDE = _BLOCKS * (_BLOCKS + 1)  # can be divided into 8 and into 9 blocks
_LEAST_SET_BITS = 24  # photographs have 26 or more; a plain area with some dots has fewer


def can_hash(*sides_px: int) -> bool:
    """Return whether images with these sides have enough detail for a hash."""
    return min(sides_px) >= LEAST_SIDE_PX


def hash_image(image: NDArray[np.uint8]) -> NDArray[np.uint64]:
    """Return the hash of an image (H, W, C) with 1 or 3 channels; `NO_HASH` without detail.

    Returns:
        (2,), the 128 bits.
    """
    picture = Image.fromarray(image[..., 0] if image.shape[-1] == 1 else image)
    gray = picture.convert("L").resize((_SIDE, _SIDE), Image.Resampling.BOX)
    pixels = np.asarray(gray, dtype=np.int32)
    few, many = (_BLOCKS, _BLOCKS + 1), (_BLOCKS + 1, _BLOCKS)
    rightward = np.diff(pixels.reshape(*few, *many).sum(axis=(1, 3)), axis=1)
    downward = np.diff(pixels.reshape(*many, *few).sum(axis=(1, 3)), axis=0)
    bits = np.packbits([rightward > 0, downward > 0])
    return bits.view("<u8") if np.bitwise_count(bits).sum() >= _LEAST_SET_BITS else NO_HASH
