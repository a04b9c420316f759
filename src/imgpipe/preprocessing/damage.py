"""Lost data in files that their decoders read without a word.

A PNG file has checksums, but Pillow does not compare the checksums of the pixels. The coded data of
WebP, AVIF and HEIC has none, and any bytes are pixels. But good data never has such long runs of
zero bytes as memory cards and broken copies leave. The bounds are at least twice as long as the
longest runs in plain pictures of 12 megapixels, at any quality.
"""

import struct
import zlib
from collections.abc import Iterator

from PIL import Image

from imgpipe.core.errors import UnreadableImageError

_LEAST_ZEROS = 64
_UNPACKED_AT_ONCE_BYTES = 1 << 20
_CHANNELS_OF_COLOR_TYPE = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}
# Of interlaced PNG files: the first column and row, and the steps to the next ones.
_PASSES = (
    (0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2)
)  # fmt: skip
_CODED_ITEMS = (b"av01", b"hvc1", b"hev1")


def check_content(content: bytes, file_format: str, pixels: int) -> None:
    """Check the coded data of a file with this number of pixels; of other formats, do nothing.

    Raises:
        UnreadableImageError: a part is missing, or was overwritten.
    """
    match file_format:
        case "PNG":
            _check_png(content)
        case "WEBP":
            _check_webp(content, pixels)
        case "AVIF" | "HEIF":
            for start, end in _find_coded_items(content):
                _check_zeros(content, start, end, _LEAST_ZEROS)


def _check_zeros(content: bytes, start: int, end: int, too_many: int) -> None:
    if end - start >= too_many and content.find(bytes(too_many), start, end) >= 0:
        raise UnreadableImageError("damaged: zeros in place of image data")


def _check_png(content: bytes) -> None:
    data = memoryview(content)
    for kind, start, end in _find_png_chunks(content):
        checksum = int.from_bytes(content[end : end + 4])
        if kind == b"IDAT" and zlib.crc32(data[start - 4 : end]) != checksum:
            raise UnreadableImageError("damaged: wrong checksum of the image data")


def _find_png_chunks(content: bytes) -> Iterator[tuple[bytes, int, int]]:
    """Yield kind, start and end of the content of each chunk before the last one."""
    end = 4
    while (kind := content[end + 8 : end + 12]) not in (b"IEND", b""):
        start = end + 12
        end = start + int.from_bytes(content[start - 8 : start - 4])
        yield kind, start, end


def check_png_rows(picture: Image.Image, content: bytes) -> None:
    """Check that a PNG file has all rows of its picture, which was loaded from it.

    Pillow takes the end of the data for the end of the picture, and leaves the other rows at zero.
    So the data is only unpacked again if one of the last two rows is zero: with interlacing, one of
    these is the last row of the file.

    Raises:
        UnreadableImageError: rows are missing.
    """
    width, height = picture.size
    last_rows = [picture.crop((0, row, width, row + 1)) for row in range(height)[-2:]]
    if height > 1 and all(row.getbbox(alpha_only=False) for row in last_rows):
        return
    needed_bytes = _count_unpacked_bytes(content[16:29])
    unpacker, unpacked_bytes = zlib.decompressobj(), 0
    for kind, start, end in _find_png_chunks(content):
        waiting = content[start:end] if kind == b"IDAT" else b""
        while waiting and unpacked_bytes < needed_bytes:
            unpacked_bytes += len(unpacker.decompress(waiting, _UNPACKED_AT_ONCE_BYTES))
            waiting = unpacker.unconsumed_tail
    if unpacked_bytes < needed_bytes:
        raise UnreadableImageError("damaged: image data is missing")


def _count_unpacked_bytes(header: bytes) -> int:
    """Return the size of the rows of a PNG file, each after a byte of its own."""
    width, height, bits, color_type, _, _, is_interlaced = struct.unpack(">IIBBBBB", header)
    pixel_bits = bits * _CHANNELS_OF_COLOR_TYPE[color_type]
    size_bytes = 0
    for left, top, right, down in _PASSES if is_interlaced else [(0, 0, 1, 1)]:
        columns, rows = -(-(width - left) // right), -(-(height - top) // down)
        if columns > 0 and rows > 0:
            size_bytes += rows * (1 + -(-columns * pixel_bits // 8))
    return size_bytes


def _check_webp(content: bytes, pixels: int) -> None:
    place = 12
    while kind := content[place : place + 4]:
        size = int.from_bytes(content[place + 4 : place + 8], "little")
        start, end = place + 8, place + 8 + size
        if kind == b"VP8 ":  # a block of 16 x 16 pixels that repeats others takes 0.02 bytes
            _check_zeros(content, start, end, _LEAST_ZEROS + pixels // 256 // 16)
        # A fast encoder repeats a pixel in a quarter of a byte.
        elif kind in (b"VP8L", b"ALPH"):  # codespell:ignore
            _check_zeros(content, start, end, _LEAST_ZEROS + pixels // 2)
        # A frame of an animation has chunks inside, after 16 bytes.
        place = start + 16 if kind == b"ANMF" else end + size % 2


def _find_coded_items(content: bytes) -> Iterator[tuple[int, int]]:
    """Yield start and end of the coded pictures in an ISO media file, by ISO/IEC 23008-12."""
    for kind, start, end in _find_boxes(content, 0, len(content)):
        if kind == b"meta":
            inner = {
                kind: (start, end) for kind, start, end in _find_boxes(content, start + 4, end)
            }
            if b"iinf" in inner and b"iloc" in inner:
                coded = _find_coded_ids(content, *inner[b"iinf"])
                for number, start, end in _find_items(content, *inner[b"iloc"]):
                    if number in coded:
                        yield start, end


def _find_boxes(content: bytes, place: int, stop: int) -> Iterator[tuple[bytes, int, int]]:
    """Yield kind, start and end of the content of each box between two places."""
    while place + 8 <= stop:
        size, kind = int.from_bytes(content[place : place + 4]), content[place + 4 : place + 8]
        start = place + 8
        if size == 1:
            size = int.from_bytes(content[start : start + 8])
            start += 8
        end = place + size if size else stop
        if end < start:
            return
        yield kind, start, end
        place = end


def _find_coded_ids(content: bytes, start: int, end: int) -> set[int]:
    """Return the numbers of the items with coded pixels, from the box iinf."""
    first = start + (6 if content[start : start + 1] == b"\0" else 8)
    found = set()
    for _, start, stop in _find_boxes(content, first, end):
        width = 2 if content[start : start + 1] == b"\2" else 4
        place = start + 4 + width + 2
        if place + 4 <= stop and content[place : place + 4] in _CODED_ITEMS:
            found.add(int.from_bytes(content[start + 4 : start + 4 + width]))
    return found


def _find_items(content: bytes, start: int, end: int) -> Iterator[tuple[int, int, int]]:
    """Yield number, start and end of each part of the items in the file, from the box iloc."""
    place = start

    def take(size: int) -> int:
        nonlocal place
        place += size
        return int.from_bytes(content[place - size : place])

    version = take(1)
    take(3)
    offset_size, length_size = divmod(take(1), 16)
    base_size, index_size = divmod(take(1), 16)
    if length_size == 0:  # the whole file is one item
        return
    wide = 4 if version == 2 else 2
    for _ in range(take(wide)):
        number = take(wide)
        in_file = version == 0 or take(2) % 16 == 0
        take(2)
        base = take(base_size)
        for _ in range(take(2)):
            if version:
                take(index_size)
            offset, length = take(offset_size), take(length_size)
            if in_file:
                yield number, base + offset, base + offset + length
        if place >= end:
            return
