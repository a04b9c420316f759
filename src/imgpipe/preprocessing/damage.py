"""Lost data in files that their decoders read without a word.

A PNG file has checksums, but Pillow does not compare the checksums of the pixels. The coded data of
WebP, AVIF and HEIC has none, and any bytes are pixels. But good data never has such long runs of
zero bytes as memory cards and broken copies leave. The bounds are at least twice as long as the
longest runs in plain pictures of 12 megapixels, at any quality.
"""

import zlib
from collections.abc import Iterator

from imgpipe.core.errors import UnreadableImageError

_LEAST_ZEROS = 64
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
    place = 8
    while (kind := content[place + 4 : place + 8]) not in (b"IEND", b""):
        end = place + 8 + int.from_bytes(content[place : place + 4])
        checksum = int.from_bytes(content[end : end + 4])
        if kind == b"IDAT" and zlib.crc32(data[place + 4 : end]) != checksum:
            raise UnreadableImageError("damaged: wrong checksum of the image data")
        place = end + 4


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
