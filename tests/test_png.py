import zlib
from io import BytesIO

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from imgpipe.png import decode_png, encode_png


@settings(max_examples=50, deadline=None)
@given(
    height_px=st.integers(1, 20),
    width_px=st.integers(1, 20),
    channels=st.sampled_from([1, 3]),
    seed=st.integers(0, 2**31),
)
def test_what_is_written_is_read_here_and_by_others(
    height_px: int, width_px: int, channels: int, seed: int
) -> None:
    shape = (height_px, width_px, channels)
    image = np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)
    content = encode_png(image)
    assert (decode_png(content) == image).all()
    with Image.open(BytesIO(content)) as picture:
        assert picture.mode == ("L" if channels == 1 else "RGB")
        assert (np.asarray(picture).reshape(shape) == image).all()


def test_smooth_images_become_small() -> None:
    ramp = np.add.outer(np.arange(100), np.arange(100)).astype(np.uint8)
    image = np.stack([ramp, ramp // 2, 255 - ramp], axis=2)
    assert len(encode_png(image)) < image.nbytes / 10


def test_the_checksums_of_chunks_are_right() -> None:
    content = bytearray(encode_png(np.zeros((3, 3, 1), np.uint8)))
    content[-5] ^= 1  # in the checksum of the last chunk, IEND
    with pytest.raises(SyntaxError, match="broken PNG file"), Image.open(BytesIO(content)) as it:
        it.verify()


def test_another_writers_png_is_not_taken_for_ours() -> None:
    stream = BytesIO()
    image = np.arange(64, dtype=np.uint8).reshape(8, 8)
    Image.fromarray(image).save(stream, "PNG")
    with pytest.raises(ValueError, match="another filter than Up"):
        decode_png(stream.getvalue())


def test_damage_is_an_error() -> None:
    content = encode_png(np.random.default_rng(0).integers(0, 256, (9, 9, 3), dtype=np.uint8))
    with pytest.raises(zlib.error):
        decode_png(content[:60])
    with pytest.raises(ValueError, match="expected the chunk"):
        decode_png(content[:8] + content[20:])
