"""PNG files of uint8 images, for records: written and read without an imaging library.

So the stages that only read records do not depend on one, and run again only when records change.
Each row is stored as its difference from the row above (filter 2, "Up"), which is as fast to undo
as to do and within 5 % of the smallest choice of filters for photographs.

Source: https://www.w3.org/TR/png-3/ (signature, chunks IHDR, IDAT and IEND, filter types).
"""

import struct
import zlib

import numpy as np
from numpy.typing import NDArray

_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_HEADER = struct.Struct(">2I5B")  # width, height, bits, colour, compression, filters, interlacing
_COLOUR_OF_CHANNELS = {1: 0, 3: 2}
_UP = 2
_LEVEL = 3  # of zlib's 9: a third of the time of the default 6 for 2 % more bytes


def encode_png(image: NDArray[np.uint8]) -> bytes:
    """Return an image (H, W, 1 or 3) uint8 as a PNG file, without loss."""
    height_px, width_px, channels = image.shape
    rows = image.reshape(height_px, -1)
    lines = np.empty((height_px, 1 + rows.shape[1]), np.uint8)
    lines[:, 0] = _UP
    lines[0, 1:] = rows[0]
    np.subtract(rows[1:], rows[:-1], out=lines[1:, 1:])
    header = _HEADER.pack(width_px, height_px, 8, _COLOUR_OF_CHANNELS[channels], 0, 0, 0)
    return b"".join(
        (
            _SIGNATURE,
            _chunk(b"IHDR", header),
            _chunk(b"IDAT", zlib.compress(lines.tobytes(), _LEVEL)),
            _chunk(b"IEND", b""),
        )
    )


def decode_png(content: bytes | memoryview) -> NDArray[np.uint8]:
    """Return the image (H, W, C) of a PNG file that `encode_png` has written.

    Raises:
        ValueError: the content is damaged, or has not been written by `encode_png`.
    """
    start = len(_SIGNATURE)
    header, start = _read_chunk(content, start, b"IHDR")
    packed, _ = _read_chunk(content, start, b"IDAT")
    width_px, height_px, _, colour, *_ = _HEADER.unpack(header)
    channels = {value: key for key, value in _COLOUR_OF_CHANNELS.items()}[colour]
    lines = np.frombuffer(zlib.decompress(packed), np.uint8).reshape(height_px, -1)
    if (lines[:, 0] != _UP).any():
        raise ValueError("a PNG file with another filter than Up")
    rows = np.add.accumulate(lines[:, 1:], axis=0, dtype=np.uint8)
    return rows.reshape(height_px, width_px, channels)


def _chunk(kind: bytes, content: bytes) -> bytes:
    size, crc = struct.pack(">I", len(content)), struct.pack(">I", zlib.crc32(kind + content))
    return b"".join((size, kind, content, crc))


def _read_chunk(
    content: bytes | memoryview, start: int, kind: bytes
) -> tuple[bytes | memoryview, int]:
    """Return the content of the chunk that begins at `start`, and where the next one begins.

    Its checksum is left to the record's own.
    """
    size, found = struct.unpack_from(">I4s", content, start)
    if found != kind:
        raise ValueError(f"expected the chunk {kind!r} of a PNG file; found {found!r}")
    return content[start + 8 : start + 8 + size], start + 12 + size
