"""The perceptual hash: near for copies, far for other pictures, equal on every machine."""

import io

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image, ImageEnhance
from support import make_smooth_picture

from imgpipe.preprocessing.image_hash import NO_HASH, hash_image


def hash_picture(picture: Image.Image) -> NDArray[np.uint64]:
    return hash_image(np.asarray(picture.resize((224, 224)).convert("RGB")))


def count_differences(first: NDArray[np.uint64], second: NDArray[np.uint64]) -> int:
    return int(np.bitwise_count(first ^ second).sum())


def compress(picture: Image.Image, quality: int) -> Image.Image:
    stream = io.BytesIO()
    picture.save(stream, "JPEG", quality=quality)
    return Image.open(stream)


@pytest.mark.parametrize(
    "change",
    [
        lambda picture: picture.resize((120, 120)),
        lambda picture: picture.resize((216, 216)),
        lambda picture: compress(picture, 40),
        lambda picture: picture.crop((3, 3, 237, 237)),
        lambda picture: ImageEnhance.Brightness(picture).enhance(0.9),
        lambda picture: picture.convert("L"),
    ],
    ids=["half", "0.9", "JPEG 40", "crop", "darker", "gray"],
)
def test_changed_copies_are_nearer_than_other_pictures(change) -> None:  # type: ignore[no-untyped-def]
    pictures = [make_smooth_picture(seed) for seed in range(20)]
    hashes = [hash_picture(picture) for picture in pictures]
    changed = [hash_picture(change(picture)) for picture in pictures]
    copies = [count_differences(*pair) for pair in zip(changed, hashes, strict=True)]
    others = [count_differences(a, b) for n, a in enumerate(hashes) for b in hashes[:n]]
    assert max(copies) <= 17 < min(others)


def test_the_hash_is_exactly_this() -> None:
    """Other bits on another processor, or after a change, would be other duplicates."""
    rows, columns = np.mgrid[:96, :80]
    image = ((rows * 7 + columns * 13 + rows * columns) % 251).astype(np.uint8)
    bits = np.unpackbits(hash_image(image[..., None]).view(np.uint8))
    assert len(bits) == 128
    means = np.asarray(Image.fromarray(image).resize((72, 72), Image.Resampling.BOX), np.int64)
    for row in range(8):
        for column in range(8):
            blocks = means[9 * row : 9 * row + 9]
            left = blocks[:, 8 * column : 8 * column + 8].sum()
            right = blocks[:, 8 * column + 8 : 8 * column + 16].sum()
            assert bits[8 * row + column] == (right > left)
            blocks = means[:, 9 * column : 9 * column + 9]
            upper = blocks[8 * row : 8 * row + 8].sum()
            lower = blocks[8 * row + 8 : 8 * row + 16].sum()
            assert bits[64 + 8 * row + column] == (lower > upper)


@pytest.mark.parametrize("color", [0, 128, 255])
def test_images_without_detail_have_no_hash(color: int) -> None:
    image = np.full((100, 100, 3), color, dtype=np.uint8)
    image[40:45, 30:60] = 255 - color
    np.testing.assert_array_equal(hash_image(image), NO_HASH)
