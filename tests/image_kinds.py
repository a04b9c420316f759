"""Small files of each kind, and the meaning of their pixels, for the test of all kinds.

Each file is written number by number. The expected pixels follow from the definitions of the
formats, in floating-point numbers.
"""

import struct
from collections.abc import Iterator
from itertools import product
from typing import Any, NamedTuple

import numpy as np
from image_writers import (
    COLOR,
    COLOR_ALPHA,
    DOUBLE,
    GRAY,
    GRAY_ALPHA,
    LONG,
    MATRICES,
    PALETTE,
    SHORT,
    Tags,
    bmp_file,
    pack,
    png_file,
    tiff_file,
)  # fmt: skip
from numpy.typing import NDArray

HEIGHT, WIDTH = 6, 20
Shares = NDArray[np.float64]
"""(H, W, C) from 0 (black, or transparent) to 1."""
Numbers = NDArray[Any]

SHARES: Shares = np.random.default_rng(5).random((HEIGHT, WIDTH, 6))
SHARES[0, :2] = [[0] * 6, [1] * 6]
WHITE_D50 = 0.9642, 1.0, 0.8249


class Kind(NamedTuple):
    """A file, and its pixels."""

    content: bytes
    expected: Shares | str
    """Gray, or red, green and blue; or a part of the refusal."""
    levels: float = 1.0
    """Largest difference of a pixel, from 0 to 255.

    A rounded number costs 0.5, and the upper half of a 16-bit number costs 1. So do both factors
    of a product, and the product is rounded, too.
    """


Kinds = Iterator[tuple[str, Kind]]


def all_kinds() -> dict[str, Kind]:
    """Return all kinds by their names, such as "PNG: gray, 16 bits"."""
    groups = {
        "TIFF": (gray_tiffs, color_tiffs, palette_tiffs, tiffs_with_fewer_bits, refused_tiffs),
        "PNG": (pngs, pngs_with_fewer_bits, pngs_with_colors),
        "BMP": (
            palette_bmps,
            bmps_with_runs,
            bmps_of_16_bits,
            bmps_of_16_bits_with_transparency,
            bmps_of_24_and_32_bits,
        ),
    }
    return {
        f"{name}: {kind}": value
        for name, group in groups.items()
        for kinds in group
        for kind, value in kinds()
    }


# The meaning of numbers.


def quantize(shares: Shares, bits: int) -> tuple[Numbers, Shares]:
    """Return whole numbers of so many bits, and the shares that they stand for."""
    largest = (1 << bits) - 1
    numbers = np.rint(shares * largest)
    width = next(width for width in (8, 16, 32) if bits <= width)
    return numbers.astype(f"u{width // 8}"), numbers / largest


def on_white(colors: Shares, alpha: Shares) -> Shares:
    return colors * alpha + 1 - alpha


def linear(shares: Shares) -> Shares:
    """Undo the curve of sRGB."""
    return np.where(shares <= 0.04045, shares / 12.92, ((shares + 0.055) / 1.055) ** 2.4)


def srgb_of_xyz(xyz: Shares) -> Shares:
    """Return sRGB for X, Y and Z with the white D50."""
    light = np.clip(xyz @ np.linalg.inv(np.array(MATRICES["sRGB"])), 0, 1)
    return np.asarray(
        np.where(light <= 0.0031308, 12.92 * light, 1.055 * light ** (1 / 2.4) - 0.055)
    )


def srgb_of_rgb(light: Shares, matrix: str) -> Shares:
    return srgb_of_xyz(light @ np.array(MATRICES[matrix]))


def srgb_of_gray(light: Shares) -> Shares:
    return srgb_of_xyz(light * WHITE_D50)


def srgb_of_cmyk(inks: Shares) -> Shares:
    return (1 - inks[..., :3]) * (1 - inks[..., 3:])


def srgb_of_ycbcr(shares: Shares) -> Shares:
    y, blue, red = np.moveaxis(shares - [0, 128 / 255, 128 / 255], -1, 0)
    colors = [y + 1.402 * red, y - 0.344136 * blue - 0.714136 * red, y + 1.772 * blue]
    return np.asarray(np.clip(np.stack(colors, axis=-1), 0, 1))


def lab_of_srgb(colors: Shares) -> Shares:
    xyz = linear(colors) @ np.array(MATRICES["sRGB"]) / WHITE_D50
    roots = np.where(xyz > (6 / 29) ** 3, np.cbrt(xyz), xyz * (29 / 6) ** 2 / 3 + 4 / 29)
    x, y, z = np.moveaxis(roots, -1, 0)
    return np.stack([116 * y - 16, 500 * (x - y), 200 * (y - z)], axis=-1)


def srgb_of_lab(lab: Shares) -> Shares:
    luminance, a, b = np.moveaxis(lab, -1, 0)
    y = (luminance + 16) / 116
    roots = np.stack([y + a / 500, y, y - b / 200], axis=-1)
    xyz = np.where(roots > 6 / 29, roots**3, 3 * (6 / 29) ** 2 * (roots - 4 / 29))
    return srgb_of_xyz(xyz * WHITE_D50)


# TIFF.

LAYOUTS: list[dict[str, Any]] = [
    {}, {"rows": 4}, {"tile": 16}, {"planar": 2}, {"compression": 8}, {"compression": 32773},
    {"planar": 2, "compression": 8},
]  # fmt: skip
PLANES = "a plane for each channel"


def gray_tiffs() -> Kinds:
    """All numbers that have a meaning, in all ways to store them."""
    all_bits = [(bits, 1) for bits in (1, 2, 4, 8, 12, 16)]
    all_bits += [(bits, 2) for bits in (1, 2, 4, 8)]  # the lowest bit first
    for (bits, fill), zero_is_black, order, layout in product(
        all_bits, (True, False), "<>", LAYOUTS
    ):
        numbers, shares = quantize(SHARES[..., :1], bits)
        content = tiff_file(numbers, int(zero_is_black), bits, order=order, fill=fill, **layout)
        name = f"gray, {bits} bits, fill {fill}, 0 is black {zero_is_black}, {order}, {layout}"
        yield name, Kind(content, shares if zero_is_black else 1 - shares, 0.51)
    floats = SHARES[..., :1].astype(np.float32)
    for zero_is_black, order, layout in product((True, False), "<>", LAYOUTS):
        content = tiff_file(
            floats, int(zero_is_black), 32, sample_format=3, order=order, **layout
        )  # fmt: skip
        shares = floats.astype(np.float64)
        name = f"gray, float, 0 is black {zero_is_black}, {order}, {layout}"
        yield name, Kind(content, shares if zero_is_black else 1 - shares, 0.51)
    for bits, order in product((8, 16), "<>"):
        numbers, shares = quantize(SHARES[..., :1], bits)
        content = tiff_file(numbers, 1, bits, order=order, compression=8, predictor=2)
        yield f"gray, {bits} bits, differences, {order}", Kind(content, shares, 0.51)
    numbers, shares = quantize(SHARES[..., :1], 16)
    yield "gray, 16 bits, fill 2", Kind(tiff_file(numbers, 1, 16, fill=2), shares, 0.51)
    for extra, order in product((0, 1, 2), "<>"):
        shares = SHARES[..., :2].copy()
        if extra == 1:
            shares[..., 0] *= shares[..., 1]
        numbers, shares = quantize(shares, 8)
        gray, alpha = shares[..., :1], shares[..., 1:]
        expected = [gray, gray + 1 - alpha, on_white(gray, alpha)][extra]
        content = tiff_file(numbers, 1, 8, order=order, extra=[extra])
        yield f"gray, extra {extra}, {order}", Kind(content, expected, [0.51, 2, 1][extra])


def color_tiffs() -> Kinds:
    layouts = [*LAYOUTS, {"compression": 8, "predictor": 2}]
    extras = [(), (0,), (1,), (2,), (0, 0), (0, 0, 0), (1, 0), (2, 0), (999,)]
    for bits, extra, order, layout in product((8, 16), extras, "<>", layouts):
        if bits == 16 and (len(extra) > 1 or extra == (999,)):
            continue  # Pillow has no such kinds
        shares = SHARES[..., : 3 + len(extra)].copy()
        if extra[:1] == (1,):
            shares[..., :3] *= shares[..., 3:4]
        numbers, shares = quantize(shares, bits)
        content = tiff_file(numbers, 2, bits, order=order, extra=extra, **layout)
        name = f"color, {bits} bits, extra {extra}, {order}, {layout}"
        colors, alpha = shares[..., :3], shares[..., 3:4]
        levels = 0.51 if bits == 8 else 1.01
        if extra[:1] == (1,):
            kind = Kind(content, colors + 1 - alpha, 1.5 if bits == 8 else 3.0)
        elif extra[:1] == (2,):
            kind = Kind(content, on_white(colors, alpha), 1.0 if bits == 8 else 2.5)
        else:
            kind = Kind(content, colors, levels)
        if layout.get("planar") == 2 and extra in ((1, 0), (2, 0), (999,)):
            kind = kind._replace(expected=PLANES)
        yield name, kind
    for bits, planar in product((8, 16), (1, 2)):
        numbers, shares = quantize(SHARES[..., :4], bits)
        content = tiff_file(numbers, 2, bits, planar=planar)
        expected = PLANES if planar == 2 else shares[..., :3]
        name = f"color, {bits} bits, a fourth channel without ExtraSamples, planes {planar}"
        yield name, Kind(content, expected)
    for bits, planar, order in product((8, 16), (1, 2), "<>"):
        numbers, shares = quantize(SHARES[..., :4], bits)
        content = tiff_file(numbers, 5, bits, order=order, planar=planar)
        kind = Kind(content, srgb_of_cmyk(shares), 1.0 if bits == 8 else 2.5)
        yield f"CMYK, {bits} bits, planes {planar}, {order}", kind
    for extra in ((0,), (0, 0)):
        numbers, shares = quantize(SHARES[..., : 4 + len(extra)], 8)
        content = tiff_file(numbers, 5, 8, extra=extra)
        yield f"CMYK, extra {extra}", Kind(content, srgb_of_cmyk(shares[..., :4]))
    numbers, shares = quantize(SHARES[..., :3], 8)
    for planar, order, rows in product((1, 2), "<>", (4, HEIGHT)):
        every_pixel: Tags = {530: (SHORT, [1, 1])}
        content = tiff_file(
            numbers, 6, 8, order=order, planar=planar, rows=rows, tags=every_pixel
        )  # fmt: skip
        kind = Kind(content, srgb_of_ycbcr(shares), 1.5)
        yield f"YCbCr, planes {planar}, rows {rows}, {order}", kind
    for order in "<>":
        lab = np.rint(lab_of_srgb(SHARES[..., :3]) * [2.55, 1, 1])
        content = tiff_file(lab.astype(np.int16).astype(np.uint8), 8, 8, order=order)
        yield f"CIELAB, {order}", Kind(content, srgb_of_lab(lab / [2.55, 1, 1]))


def palette_tiffs() -> Kinds:
    for bits, order, largest in product((1, 2, 4, 8), "<>", (65_535, 255)):
        indices, _ = quantize(SHARES[..., 0], bits)
        colors = random_colors(2**bits)
        tags = color_map(colors * (largest // 255))
        content = tiff_file(indices[..., np.newaxis], 3, bits, order=order, tags=tags)
        name = f"palette, {bits} bits, up to {largest}, {order}"
        yield name, Kind(content, colors[indices] / 255, 0)
    numbers, shares = quantize(SHARES[..., :2], 8)
    opaque = random_colors(256)[numbers[..., 0]] / 255
    for extra, expected in ((0, opaque), (2, on_white(opaque, shares[..., 1:]))):
        content = tiff_file(numbers, 3, 8, extra=[extra], tags=color_map(random_colors(256) * 257))
        yield f"palette, extra {extra}", Kind(content, expected)


def random_colors(count: int) -> Numbers:
    return np.random.default_rng(count).integers(0, 256, (count, 3))


def color_map(colors: Numbers) -> Tags:
    return {320: (SHORT, colors.T.ravel().tolist())}


def tiffs_with_fewer_bits() -> Kinds:
    numbers, shares = quantize(SHARES[..., :1], 12)
    for (tag, kind), zero_is_black in product(
        ((281, SHORT), (341, SHORT), (341, LONG), (341, DOUBLE)), (True, False)
    ):
        content = tiff_file(numbers, int(zero_is_black), 16, tags={tag: (kind, [4095])})
        name = f"12 of 16 bits, tag {tag} of type {kind}, 0 is black {zero_is_black}"
        yield name, Kind(content, shares if zero_is_black else 1 - shares, 0.51)
    numbers, shares = quantize(SHARES[..., :4], 10)
    for photometric, channels, order, planar in product((2, 5), (3, 4), "<>", (1, 2)):
        if (photometric, channels) == (5, 3):
            continue
        extra = [2] if (photometric, channels) == (2, 4) else []
        content = tiff_file(
            numbers[..., :channels], photometric, 16, order=order, planar=planar, extra=extra,
            tags={281: (SHORT, [1023] * channels)},
        )  # fmt: skip
        expected: Shares | str = shares[..., :3]
        if photometric == 5:
            expected = srgb_of_cmyk(shares)
        elif extra:
            expected = on_white(shares[..., :3], shares[..., 3:])
        name = f"10 of 16 bits, {photometric}, {channels} channels, {order}, planes {planar}"
        yield name, Kind(content, expected if planar == 1 else PLANES, 1.5)
    for photometric, channels in ((0, 1), (1, 1), (2, 3)):
        numbers, shares = quantize(SHARES[..., :channels], 8)
        tags: Tags = {281: (SHORT, [255] * channels)}
        content = tiff_file(numbers.astype(np.uint16), photometric, 16, tags=tags)
        yield f"8 of 16 bits, {photometric}", Kind(content, shares if photometric else 1 - shares)
    numbers, _ = quantize(SHARES[..., :4], 10)
    content = tiff_file(numbers, 2, 16, extra=[1], tags={281: (SHORT, [1023] * 4)})
    yield "10 of 16 bits, multiplied by transparency", Kind(content, "multiplied")
    numbers, shares = quantize(SHARES[..., :1], 16)
    for largest in (4095, 60_000, 0):
        content = tiff_file(numbers, 1, 16, tags={281: (SHORT, [largest])})
        yield f"16 bits, and a statistic of {largest}", Kind(content, shares, 0.51)
    for bits in (16, 20, 32):
        numbers, shares = quantize(SHARES[..., :1], bits)
        content = tiff_file(numbers.astype(np.uint32), 1, 32, tags={341: (LONG, [2**bits - 1])})
        yield f"32 bits, {bits} of them by the tags", Kind(content, shares, 0.51)


def refused_tiffs() -> Kinds:
    gray = SHARES[..., :1]
    for bits, order in product((8, 16, 32), "<>"):
        numbers = np.rint((gray - 0.5) * 100).astype(f"i{bits // 8}")
        content = tiff_file(numbers, 1, bits, sample_format=2, order=order)
        yield f"signed, {bits} bits, {order}", Kind(content, "signed numbers")
    numbers, _ = quantize(gray, 32)
    yield "32 bits", Kind(tiff_file(numbers, 1, 32), "32-bit integers")
    for largest in (255, 1000, 2**20 - 1):
        content = tiff_file(numbers, 1, 32, tags={341: (LONG, [largest])})
        yield f"32 bits, stated {largest}", Kind(content, "32-bit integers")
    unsupported = {
        "32 bits, >": tiff_file(numbers, 1, 32, order=">"),
        "32 bits, 0 is white": tiff_file(numbers, 0, 32),
        "10 bits": tiff_file(numbers >> 22, 1, 10),
        "14 bits": tiff_file(numbers >> 18, 1, 14),
        "24 bits": tiff_file(numbers >> 8, 1, 24),
        "64 bits": tiff_file(numbers.astype(np.uint64), 1, 64),
        "float of 16 bits": tiff_file(gray.astype(np.float16), 1, 16, sample_format=3),
        "float of 64 bits": tiff_file(gray, 1, 64, sample_format=3),
        "complex": tiff_file(gray, 1, 64, sample_format=6),
        "untyped": tiff_file(quantize(gray, 8)[0], 1, 8, sample_format=4),
        "float colors": tiff_file(SHARES[..., :3].astype(np.float32), 2, 32, sample_format=3),
        "4 bits for each color": tiff_file(quantize(SHARES[..., :3], 4)[0], 2, 4),
        "two channels without ExtraSamples": tiff_file(quantize(SHARES[..., :2], 8)[0], 1, 8),
        "16-bit colors, extra 999": tiff_file(quantize(SHARES[..., :4], 16)[0], 2, 16, extra=[999]),
    }
    for name, content in unsupported.items():
        yield name, Kind(content, "not supported")
    for low, high in ((0, 255), (-0.5, 1), (0, np.inf), (np.nan, 1)):
        floats = gray.astype(np.float32)
        floats[0, :2, 0] = low, high
        content = tiff_file(floats, 1, 32, sample_format=3)
        yield f"float from {low} to {high}", Kind(content, "floating-point pixels from ")
    for compression in (1, 32773):
        content = tiff_file(quantize(gray, 8)[0], 1, 8, compression=compression, predictor=2)
        yield f"differences with compression {compression}", Kind(content, "a predictor")
    for count in (16, 255, 257):
        content = tiff_file(quantize(gray, 8)[0], 3, 8, tags=color_map(random_colors(count) * 257))
        yield f"palette of {count} colors for 8 bits", Kind(content, "a palette of")
    content = tiff_file(quantize(gray, 8)[0], None, 8)
    yield "no photometric", Kind(content, "PhotometricInterpretation")
    content = tiff_file(quantize(SHARES[..., :4], 8)[0], 5, 8, tags={332: (SHORT, [2])})
    yield "other inks", Kind(content, "other inks")
    for photometric, channels, extra in ((1, 2, [1]), (1, 2, [2]), (3, 2, [2]), (8, 3, [])):
        numbers, _ = quantize(SHARES[..., :channels], 8)
        tags = color_map(random_colors(256) * 257) if photometric == 3 else None
        content = tiff_file(numbers, photometric, 8, extra=extra, planar=2, tags=tags)
        yield f"photometric {photometric} in planes, extra {extra}", Kind(content, PLANES)


# PNG.


def pngs() -> Kinds:
    for bits in (1, 2, 4, 8, 16):
        numbers, shares = quantize(SHARES[..., :1], bits)
        yield f"gray, {bits} bits", Kind(png_file(numbers, bits, GRAY), shares, 0.51)
        clear = int(numbers[1, 1, 0])
        content = png_file(numbers, bits, GRAY, {b"tRNS": struct.pack(">H", clear)})
        expected = np.where(numbers == clear, 1, shares)
        yield f"gray, {bits} bits, one transparent", Kind(content, expected, 0.51)
    for bits in (8, 16):
        levels = 0.51 if bits == 8 else 1.01
        numbers, shares = quantize(SHARES[..., :3], bits)
        content = png_file(numbers, bits, COLOR)
        yield f"color, {bits} bits", Kind(content, shares, levels)
        numbers[0, 2] = numbers[0, 3] = numbers[1, 1]
        numbers[0, 3, 2] ^= 1  # differs only in the lowest bit
        content = png_file(numbers, bits, COLOR, {b"tRNS": struct.pack(">3H", *numbers[1, 1])})
        clear_pixels = (numbers == numbers[1, 1]).all(axis=-1, keepdims=True)
        expected = np.where(clear_pixels, 1, numbers / (2**bits - 1))
        yield f"color, {bits} bits, one transparent", Kind(content, expected, levels)
        for color_type, channels in ((GRAY_ALPHA, 2), (COLOR_ALPHA, 4)):
            numbers, shares = quantize(SHARES[..., :channels], bits)
            expected = on_white(shares[..., :-1], shares[..., -1:])
            content = png_file(numbers, bits, color_type)
            name = f"{channels - 1} channels, {bits} bits, transparency"
            yield name, Kind(content, expected, 1.0 if bits == 8 else 2.5)
            numbers[..., -1] = 0
            content = png_file(numbers, bits, color_type)
            yield f"{name} of all", Kind(content, np.ones((1, 1, 3)), 0)
    for bits in (1, 2, 4, 8):
        indices, _ = quantize(SHARES[..., :1], bits)
        colors = random_colors(2**bits)
        opaque = colors[indices[..., 0]] / 255
        chunks = {b"PLTE": colors.astype(np.uint8).tobytes()}
        content = png_file(indices, bits, PALETTE, chunks)
        yield f"palette, {bits} bits", Kind(content, opaque, 0)
        alpha = np.random.default_rng(bits).integers(0, 256, 2**bits, dtype=np.uint8)
        content = png_file(indices, bits, PALETTE, chunks | {b"tRNS": alpha.tobytes()})
        expected = on_white(opaque, alpha[indices] / 255)
        yield f"palette, {bits} bits, transparency", Kind(content, expected)
        content = png_file(indices, bits, PALETTE, chunks | {b"tRNS": b"\0"})
        expected = np.where(indices == 0, 1, opaque)
        yield f"palette, {bits} bits, first transparent", Kind(content, expected, 0)


def pngs_with_fewer_bits() -> Kinds:
    for bits, (color_type, channels) in product(
        (8, 9, 10, 12, 14), ((GRAY, 1), (COLOR, 3), (COLOR_ALPHA, 4))
    ):
        numbers, shares = quantize(SHARES[..., :channels], bits)
        scaled, _ = quantize(shares, 16)
        expected = on_white(shares[..., :3], shares[..., 3:]) if channels == 4 else shares
        chunks = {b"sBIT": bytes([bits] * channels)}
        name = f"{bits} of 16 bits, {channels} channels"
        content = png_file(numbers.astype(np.uint16), 16, color_type, chunks)
        yield name, Kind(content, expected, 1.5 if channels == 4 else 0.51)
        content = png_file(scaled, 16, color_type, chunks)
        yield f"{name}, scaled", Kind(content, expected, 2.5 if channels == 4 else 1.01)
    numbers, _ = quantize(SHARES[..., :2], 12)
    content = png_file(numbers, 16, GRAY_ALPHA, {b"sBIT": b"\x0c\x0c"})
    yield "12 of 16 bits, gray and transparency", Kind(content, "sBIT")
    numbers, _ = quantize(SHARES[..., :3], 11)
    content = png_file(numbers, 16, COLOR, {b"sBIT": b"\x0b\x0c\x0b"})
    yield "11 and 12 of 16 bits", Kind(content, "other numbers of bits for each channel")
    numbers, shares = quantize(SHARES[..., :3], 8)
    content = png_file(numbers, 8, COLOR, {b"sBIT": b"\5\6\5"})
    yield "5 of 8 bits", Kind(content, shares, 0)
    numbers, shares = quantize(SHARES[..., :1], 12)
    one = numbers[1, 1, 0]
    content = png_file(numbers, 16, GRAY, {b"sBIT": b"\x0c", b"tRNS": struct.pack(">H", one)})
    expected = np.where(numbers == one, 1, shares)
    yield "12 of 16 bits, one transparent", Kind(content, expected, 0.51)


P3 = 0.3127, 0.329, 0.68, 0.32, 0.265, 0.69, 0.15, 0.06


def pngs_with_colors() -> Kinds:
    """Colors by chunks: gAMA, cHRM, sRGB, cICP."""
    as_srgb = {
        "sRGB": {b"sRGB": b"\0"},
        "gamma of sRGB": {b"gAMA": struct.pack(">I", 45_455)},
        "sRGB, and another gamma": {b"sRGB": b"\0", b"gAMA": struct.pack(">I", 100_000)},
        "primaries of sRGB": {b"cHRM": chrm(0.3127, 0.329, 0.64, 0.33, 0.3, 0.6, 0.15, 0.06)},
        "primaries of 0": {b"cHRM": bytes(32)},
        "primaries in one point": {b"cHRM": chrm(*[0.3] * 8)},
        "gamma of 0": {b"gAMA": bytes(4)},
        "code points of sRGB": {b"cICP": bytes([1, 13, 0, 1])},
    }
    for (name, chunks), (color_type, channels) in product(as_srgb.items(), ((GRAY, 1), (COLOR, 3))):
        numbers, shares = quantize(SHARES[..., :channels], 8)
        content = png_file(numbers, 8, color_type, chunks)
        yield f"{name}, {channels} channels", Kind(content, shares, 0)
    for bits, exponent in product((8, 16), (1.0, 1.8, 2.6)):
        numbers, shares = quantize(SHARES[..., :1], bits)
        content = png_file(numbers, bits, GRAY, {b"gAMA": struct.pack(">I", round(1e5 / exponent))})
        name = f"gray, {bits} bits, exponent {exponent}"
        yield name, Kind(content, srgb_of_gray(shares**exponent))
    for bits, exponent in product((8, 16), (1.8, 2.6)):
        numbers, shares = quantize(SHARES[..., :2], bits)
        chunks = {b"gAMA": struct.pack(">I", round(1e5 / exponent))}
        expected = on_white(srgb_of_gray(shares[..., :1] ** exponent), shares[..., 1:])
        name = f"gray and transparency, {bits} bits, exponent {exponent}"
        yield name, Kind(png_file(numbers, bits, GRAY_ALPHA, chunks), expected, 2.5)
    numbers, shares = quantize(SHARES[..., :3], 8)
    for name, chunks, light in (
        ("primaries", {b"cHRM": chrm(*P3)}, linear(shares)),
        ("code points", {b"cICP": bytes([12, 13, 0, 1])}, linear(shares)),
        ("primaries, linear", {b"cHRM": chrm(*P3), b"gAMA": struct.pack(">I", 100_000)}, shares),
        ("code points, linear", {b"cICP": bytes([12, 8, 0, 1])}, shares),
    ):
        expected = srgb_of_rgb(light, "Display P3")
        content = png_file(numbers, 8, COLOR, chunks)
        yield f"{name} of Display P3", Kind(content, expected, 2.0)
    for reason, code_points in (
        ("HDR colors (PQ)", [9, 16, 0, 1]), ("HDR colors (HLG)", [9, 18, 0, 1]),
        ("unknown colors", [3, 13, 0, 1]), ("unknown colors", [1, 9, 0, 1]),
        ("narrow range", [1, 13, 0, 0]),
    ):  # fmt: skip
        content = png_file(numbers, 8, COLOR, {b"cICP": bytes(code_points)})
        yield f"code points {code_points}", Kind(content, reason)


def chrm(*values: float) -> bytes:
    return struct.pack(">8I", *(round(value * 100_000) for value in values))


# BMP.

_MASKS = {
    (5, 5, 5): (0x7C00, 0x3E0, 0x1F), (5, 6, 5): (0xF800, 0x7E0, 0x1F)
}  # fmt: skip
_BYTE_MASKS = 0xFF0000, 0xFF00, 0xFF, 0xFF000000


def bmp_palettes(bits: int) -> dict[str, Numbers]:
    size = 2**bits
    ramp = np.repeat(np.arange(size)[:, np.newaxis], 3, axis=1)
    return {
        "colors": random_colors(size),
        "gray": ramp * (255 // (size - 1)),
        "dark gray": ramp,
        "black and white": np.array([[0] * 3, [255] * 3]),
        "white and black": np.array([[255] * 3, [0] * 3]),
        "three colors": np.array([[0] * 3, [255, 0, 0], [0, 0, 255]][: min(3, size)]),
    }


def palette_bmps() -> Kinds:
    for bits, top_down, header in product((1, 4, 8), (False, True), (12, 40, 108, 124)):
        for name, palette in bmp_palettes(bits).items():
            if header == 12 and (top_down or len(palette) < 2**bits):
                continue  # that header cannot say so
            indices = np.minimum(quantize(SHARES[..., 0], bits)[0], len(palette) - 1)
            content = bmp_file(
                bmp_rows(indices, bits, top_down), WIDTH, -HEIGHT if top_down else HEIGHT, bits,
                palette=bmp_palette(palette, header), colors=len(palette), header_bytes=header,
            )  # fmt: skip
            kind = Kind(content, palette[indices] / 255, 0)
            yield f"{bits} bits, {name}, top down {top_down}, header {header}", kind


def bmps_with_runs() -> Kinds:
    for bits, literal in product((4, 8), (False, True)):
        for name, palette in bmp_palettes(bits).items():
            indices = np.minimum(quantize(SHARES[..., 0].round(1), bits)[0], len(palette) - 1)
            content = bmp_file(
                bmp_runs(indices, bits, literal), WIDTH, HEIGHT, bits,
                compression=1 if bits == 8 else 2,
                palette=bmp_palette(palette, 40), colors=len(palette),
            )  # fmt: skip
            kind = Kind(content, palette[indices] / 255, 0)
            yield f"runs of {bits} bits, {name}, literal {literal}", kind


def bmps_of_16_bits() -> Kinds:
    for (depths, masks), top_down, header in product(
        _MASKS.items(), (False, True), (None, 40, 56, 124)
    ):
        numbers: Numbers = np.zeros((HEIGHT, WIDTH), np.uint16)
        shares = []
        for channel, depth in enumerate(depths):
            part, share = quantize(SHARES[..., channel], depth)
            numbers = numbers << depth | part
            shares.append(share)
        if header is None and depths == (5, 6, 5):
            continue  # needs masks
        content = bmp_file(
            bmp_rows(numbers, 16, top_down), WIDTH, -HEIGHT if top_down else HEIGHT, 16,
            compression=0 if header is None else 3, masks=() if header is None else masks,
            header_bytes=header or 40,
        )  # fmt: skip
        kind = Kind(content, np.stack(shares, axis=-1), 1.0)
        yield f"16 bits, {depths}, top down {top_down}, header {header}", kind


def bmps_of_16_bits_with_transparency() -> Kinds:
    bits, colors = quantize(SHARES[..., :3], 5)
    masks = (*_MASKS[5, 5, 5], 0x8000)
    for name, opaque in (("some", SHARES[..., 3] > 0.5), ("no", SHARES[..., 3] < 0)):
        numbers = bits.astype(np.uint16) @ [1 << 10, 1 << 5, 1] + (opaque << 15)
        for top_down, header in product((False, True), (56, 108, 124)):
            content = bmp_file(
                bmp_rows(numbers.astype(np.uint16), 16, top_down), WIDTH,
                -HEIGHT if top_down else HEIGHT, 16, compression=3, masks=masks,
                header_bytes=header,
            )  # fmt: skip
            expected = colors if name == "no" else np.where(opaque[..., np.newaxis], colors, 1)
            yield f"16 bits, {name} opaque pixels, {top_down}, {header}", Kind(content, expected)


def bmps_of_24_and_32_bits() -> Kinds:
    numbers, shares = quantize(SHARES[..., :4], 8)
    for top_down in (False, True):
        height = -HEIGHT if top_down else HEIGHT
        pixels = bmp_rows(numbers[..., 2::-1].reshape(HEIGHT, -1), 8, top_down)
        kind = Kind(bmp_file(pixels, WIDTH, height, 24), shares[..., :3], 0)
        yield f"24 bits, top down {top_down}", kind
        alphas = {
            "any": numbers[..., 3],
            "all 0": 0 * numbers[..., 3],
            "all 255": 0 * numbers[..., 3] + 255,
        }
        for (name, alpha), header, masked in product(
            alphas.items(), (40, 56, 108, 124), (False, True)
        ):
            channels = np.dstack([numbers[..., 2::-1], alpha])
            masks = _BYTE_MASKS[: 3 if header == 40 else 4] if masked else ()
            content = bmp_file(
                bmp_rows(channels.reshape(HEIGHT, -1), 8, top_down), WIDTH, height, 32,
                compression=3 if masked else 0, masks=masks, header_bytes=header,
            )  # fmt: skip
            expected = shares[..., :3]
            if masked and header > 40 and name == "any":
                expected = on_white(expected, shares[..., 3:])
            kind = Kind(content, expected)
            yield f"32 bits, masks {masked}, fourth byte {name}, {header}, {top_down}", kind


def bmp_rows(numbers: Numbers, bits: int, top_down: bool) -> bytes:
    rows = [pack(row[np.newaxis, :, np.newaxis], bits, "<") for row in numbers]
    padded = [row + bytes(-len(row) % 4) for row in rows]
    return b"".join(padded if top_down else padded[::-1])


def bmp_palette(colors: Numbers, header_bytes: int) -> bytes:
    stored = colors[:, ::-1].astype(np.uint8)
    return (stored if header_bytes == 12 else np.pad(stored, ((0, 0), (0, 1)))).tobytes()


def bmp_runs(indices: Numbers, bits: int, literal: bool) -> bytes:
    """Encode each row as runs of one pixel, or as one piece without runs."""
    content = b""
    for row in indices[::-1]:
        if literal:
            numbers = pack(row[np.newaxis, :, np.newaxis], bits, "<")
            content += bytes([0, len(row)]) + numbers + bytes(len(numbers) % 2)
        else:
            content += b"".join(bytes([1, n if bits == 8 else n << 4]) for n in row.tolist())
        content += b"\0\0"  # the end of the row
    return content + b"\0\1"
