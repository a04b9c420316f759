"""Writers of image files of any kind, also of kinds that no library writes."""

import struct
import zlib
from collections.abc import Iterable, Mapping, Sequence
from itertools import accumulate
from typing import Any

import numpy as np
from numpy.typing import NDArray

Numbers = NDArray[Any]

# TIFF.

SHORT, LONG, FLOAT, DOUBLE, UNDEFINED = 3, 4, 11, 12, 7
_LETTER_OF_TYPE = {1: "B", SHORT: "H", LONG: "I", UNDEFINED: "B", FLOAT: "f", DOUBLE: "d"}
Tags = Mapping[int, tuple[int, Sequence[float]]]
"""Type and values of each tag."""


def tiff_file(
    samples: Numbers,
    photometric: int | None,
    bits: int,
    *,
    sample_format: int = 1,
    order: str = "<",
    extra: Sequence[int] = (),
    planar: int = 1,
    fill: int = 1,
    rows: int | None = None,
    tile: int | None = None,
    compression: int = 1,
    predictor: int = 1,
    tags: Tags | None = None,
) -> bytes:
    """Write samples (H, W, C) as a TIFF file.

    Args:
        samples: whole numbers of `bits` bits, or floating-point numbers.
        photometric: the tag PhotometricInterpretation; None for a file without it.
        bits: of each sample.
        sample_format: 1 unsigned, 2 signed, 3 floating-point.
        order: of the bytes: "<" little-endian, ">" big-endian.
        extra: the tag ExtraSamples.
        planar: 1 interleaved channels, 2 a plane for each.
        fill: order of the bits in a byte: 1 highest first, 2 lowest first.
        rows: of each strip; None for a single one.
        tile: side of each tile in pixels; None for strips.
        compression: 1 none, 8 deflate, 32773 PackBits.
        predictor: 2 stores differences between neighbors.
        tags: other tags.
    """
    height, width, channels = samples.shape
    planes = [samples[..., [k]] for k in range(channels)] if planar == 2 else [samples]
    step = tile or rows or height
    blocks = [
        _tile_of(plane, top, left, tile) if tile else plane[top : top + step]
        for plane in planes
        for top in range(0, height, step)
        for left in (range(0, width, tile) if tile else [0])
    ]
    pieces = [_compress(pack(_predict(b, predictor), bits, order), compression) for b in blocks]
    if fill == 2:  # of the bytes in the file
        pieces = [_reverse_bits(piece) for piece in pieces]
    entries: dict[int, tuple[int, Sequence[float]]] = {
        256: (SHORT, [width]), 257: (SHORT, [height]), 258: (SHORT, [bits] * channels),
        259: (SHORT, [compression]), 277: (SHORT, [channels]), 284: (SHORT, [planar]),
        266: (SHORT, [fill]), 339: (SHORT, [sample_format] * channels), 317: (SHORT, [predictor]),
    }  # fmt: skip
    if photometric is not None:
        entries[262] = (SHORT, [photometric])
    if extra:
        entries[338] = (SHORT, extra)
    if tile:
        entries |= {322: (SHORT, [tile]), 323: (SHORT, [tile])}
    else:
        entries[278] = (SHORT, [step])
    entries |= tags or {}
    offsets, counts = (324, 325) if tile else (273, 279)
    entries[counts] = (LONG, [len(piece) for piece in pieces])
    entries[offsets] = (LONG, [0] * len(pieces))
    start = len(_directory(entries, order))
    entries[offsets] = (LONG, list(accumulate(map(len, pieces), initial=start))[:-1])
    return _directory(entries, order) + b"".join(pieces)


def _directory(entries: Tags, order: str) -> bytes:
    """Return the head of a TIFF file, up to its pixels."""
    fields, data = b"", b""
    start = 8 + 2 + 12 * len(entries) + 4
    for tag, (kind, values) in sorted(entries.items()):
        content = struct.pack(f"{order}{len(values)}{_LETTER_OF_TYPE[kind]}", *values)
        if len(content) > 4:
            place = struct.pack(f"{order}I", start + len(data))
            data += content + bytes(len(content) % 2)
        else:
            place = content.ljust(4, b"\0")
        fields += struct.pack(f"{order}HHI", tag, kind, len(values)) + place
    head = {"<": b"II", ">": b"MM"}[order] + struct.pack(f"{order}HIH", 42, 8, len(entries))
    return head + fields + bytes(4) + data


def _tile_of(plane: Numbers, top: int, left: int, side: int) -> Numbers:
    tile = np.zeros((side, side, plane.shape[2]), dtype=plane.dtype)
    part = plane[top : top + side, left : left + side]
    tile[: part.shape[0], : part.shape[1]] = part
    return tile


def _predict(block: Numbers, predictor: int) -> Numbers:
    if predictor == 1:
        return block
    return np.concatenate([block[:, :1], block[:, 1:] - block[:, :-1]], axis=1)


def pack(block: Numbers, bits: int, order: str) -> bytes:
    """Return the bytes of a block; every row of numbers of other sizes begins a new byte."""
    if bits % 8 == 0 and bits in (8, 16, 32, 64):
        return block.astype(block.dtype.newbyteorder(order)).tobytes()  # type: ignore[arg-type]
    return b"".join(_pack_row(row, bits) for row in block.reshape(len(block), -1))


def _pack_row(row: Iterable[int], bits: int) -> bytes:
    digits = "".join(f"{int(value):0{bits}b}" for value in row)
    digits += "0" * (-len(digits) % 8)
    return int(digits, 2).to_bytes(len(digits) // 8)


def _reverse_bits(content: bytes) -> bytes:
    bits = np.unpackbits(np.frombuffer(content, np.uint8))
    return np.packbits(bits, bitorder="little").tobytes()


def _compress(content: bytes, compression: int) -> bytes:
    if compression == 8:
        return zlib.compress(content)
    if compression == 32773:
        parts = (content[start : start + 128] for start in range(0, len(content), 128))
        return b"".join(bytes([len(part) - 1]) + part for part in parts)
    return content


# PNG.

GRAY, COLOR, PALETTE, GRAY_ALPHA, COLOR_ALPHA = 0, 2, 3, 4, 6


def png_file(
    samples: Numbers, bits: int, color_type: int, chunks: Mapping[bytes, bytes] | None = None
) -> bytes:
    """Write samples (H, W, C) of `bits` bits as a PNG file, with other chunks before the pixels."""
    height, width, _ = samples.shape
    rows = (b"\0" + pack(row[np.newaxis], bits, ">") for row in samples)
    header = struct.pack(">IIBBBBB", width, height, bits, color_type, 0, 0, 0)
    parts = {
        b"IHDR": header,
        **(chunks or {}),
        b"IDAT": zlib.compress(b"".join(rows)),
        b"IEND": b"",
    }
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(part)) + name + part + struct.pack(">I", zlib.crc32(name + part))
        for name, part in parts.items()
    )


# BMP.


def bmp_file(
    pixels: bytes,
    width: int,
    height: int,
    bits: int,
    *,
    compression: int = 0,
    masks: Sequence[int] = (),
    palette: bytes = b"",
    colors: int = 0,
    header_bytes: int = 40,
    profile: bytes = b"",
) -> bytes:
    """Write the bytes of pixels as a BMP file.

    Args:
        pixels: rows from bottom to top, or from top to bottom if the height is negative; each row
            has a multiple of four bytes.
        width: in pixels.
        height: in pixels.
        bits: of each pixel.
        compression: 0 none, 1 and 2 runs of equal pixels, 3 masks.
        masks: the bits of red, green, blue and transparency.
        palette: four bytes for each color: blue, green, red, 0.
        colors: number of colors in use; 0 for all.
        header_bytes: 12, 40, 56, 108 or 124.
        profile: an ICC profile, for a header of 124 bytes.
    """
    if header_bytes == 12:
        header = struct.pack("<IHHHH", 12, width, height, 1, bits)
    else:
        header = struct.pack(
            "<IiiHHIIiiII", header_bytes, width, height, 1, bits, compression, len(pixels), 0, 0,
            colors, 0,
        )  # fmt: skip
        header += struct.pack(f"<{len(masks)}I", *masks)  # they follow the header of 40 bytes
        header = header.ljust(header_bytes, b"\0")
    start = 14 + len(header) + len(palette)
    if profile:
        place = struct.pack("<II", start - 14 + len(pixels), len(profile))
        header = header[:56] + b"DEBM" + header[60:112] + place + header[120:]
    total = start + len(pixels) + len(profile)
    return b"BM" + struct.pack("<IHHI", total, 0, 0, start) + header + palette + pixels + profile


# ICC profiles, of version 2. Matrices as published: X, Y and Z of red, green and blue for D50.

MATRICES = {
    "sRGB": ((0.43607, 0.22249, 0.01392), (0.38515, 0.71687, 0.09708), (0.14307, 0.06061, 0.71410)),
    "Display P3": (
        (0.51512, 0.24120, -0.00105), (0.29198, 0.69225, 0.04189), (0.15710, 0.06657, 0.78407)
    ),
    "Adobe RGB": (
        (0.60974, 0.31111, 0.01947), (0.20528, 0.62567, 0.06087), (0.14919, 0.06322, 0.74457)
    ),
}  # fmt: skip
_D50 = 0.9642, 1.0, 0.8249


def icc_profile(
    curve: float | Sequence[int], matrix: Sequence[Sequence[float]] | None = None
) -> bytes:
    """Return a profile for gray (no matrix) or for colors.

    Args:
        curve: the exponent, or a table of 16-bit numbers.
        matrix: X, Y and Z of red, green and blue.
    """
    table = [round(curve * 256)] if isinstance(curve, float) else list(curve)
    curve_tag = b"curv\0\0\0\0" + struct.pack(f">I{len(table)}H", len(table), *table)
    tags = {b"wtpt": _xyz(_D50)}
    if matrix is None:
        tags[b"kTRC"] = curve_tag
    else:
        for letter, column in zip((b"r", b"g", b"b"), matrix, strict=True):
            tags |= {letter + b"XYZ": _xyz(column), letter + b"TRC": curve_tag}
    return _icc_file(tags, b"GRAY" if matrix is None else b"RGB ", b"XYZ ", b"mntr", 0)


def cmyk_profile(
    perceptual: Sequence[Sequence[float]],
    colorimetric: Sequence[Sequence[float]],
    *,
    intent: int = 0,
) -> bytes:
    """Return a profile for CMYK that interpolates between the 16 combinations of full inks.

    Args:
        perceptual: CIELAB for each combination, from no ink over black alone, yellow alone, and
            yellow with black, to all four inks.
        colorimetric: the same for the other intent.
        intent: 0 perceptual, 1 relative colorimetric.
    """
    tags = {b"wtpt": _xyz(_D50), b"A2B0": _table(perceptual), b"A2B1": _table(colorimetric)}
    return _icc_file(tags, b"CMYK", b"Lab ", b"prtr", intent)


def _table(lab_of_inks: Sequence[Sequence[float]]) -> bytes:
    identity = struct.pack(">9i", *(65_536 if k % 4 == 0 else 0 for k in range(9)))
    ramp = struct.pack(">2H", 0, 65_535)
    grid = b"".join(
        struct.pack(">3H", *(round(v) for v in (lum * 652.8, (a + 128) * 256, (b + 128) * 256)))
        for lum, a, b in lab_of_inks
    )
    head = b"mft2\0\0\0\0" + bytes([4, 3, 2, 0]) + identity + struct.pack(">2H", 2, 2)
    return head + 4 * ramp + grid + 3 * ramp


def _xyz(values: Sequence[float]) -> bytes:
    return b"XYZ \0\0\0\0" + struct.pack(">3i", *(round(value * 65_536) for value in values))


def _icc_file(
    tags: Mapping[bytes, bytes], space: bytes, connection: bytes, kind: bytes, intent: int
) -> bytes:
    name = b"A test"
    described = b"desc\0\0\0\0" + struct.pack(">I", len(name) + 1) + name + bytes(79)
    tags = {b"desc": described, b"cprt": b"text\0\0\0\0None\0", **tags}
    tags = {key: tag + bytes(-len(tag) % 4) for key, tag in tags.items()}
    start = 132 + 12 * len(tags)
    offsets = accumulate(map(len, tags.values()), initial=start)
    table = b"".join(
        struct.pack(">4sII", key, offset, len(tag))
        for (key, tag), offset in zip(tags.items(), offsets, strict=False)
    )
    data = b"".join(tags.values())
    d50 = struct.pack(">3i", *(round(value * 65_536) for value in _D50))
    header = struct.pack(
        ">I4xI4s4s4s12x4s24xI",
        start + len(data),
        0x02100000,
        kind,
        space,
        connection,
        b"acsp",
        intent,
    )
    return (header + d50).ljust(128, b"\0") + struct.pack(">I", len(tags)) + table + data
