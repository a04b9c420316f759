"""Colors as a file describes them → sRGB, as browsers show them.

Little CMS (Pillow's ImageCms) converts. A description by numbers in place of an ICC profile, as in
PNG, AVIF and HEIC files, becomes a small ICC profile first.
"""

import struct
from collections.abc import Sequence
from functools import cache, lru_cache
from io import BytesIO

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageChops, ImageCms

from imgpipe.core.errors import UnreadableImageError

Primaries = tuple[float, ...]
"""x and y of white, red, green and blue in the diagram of CIE 1931."""

_D65 = 0.3127, 0.3290
_SRGB = *_D65, 0.640, 0.330, 0.300, 0.600, 0.150, 0.060
_PAL = *_D65, 0.640, 0.330, 0.290, 0.600, 0.150, 0.060
_NTSC = *_D65, 0.630, 0.340, 0.310, 0.595, 0.155, 0.070
_BT2020 = *_D65, 0.708, 0.292, 0.170, 0.797, 0.131, 0.046
_DISPLAY_P3 = *_D65, 0.680, 0.320, 0.265, 0.690, 0.150, 0.060
_CINEMA_P3 = 0.314, 0.351, *_DISPLAY_P3[2:]
# By the code points of ITU-T H.273. 2 is "not specified".
_PRIMARIES_OF_CODE = {
    1: _SRGB, 2: _SRGB, 5: _PAL, 6: _NTSC, 7: _NTSC, 9: _BT2020, 11: _CINEMA_P3, 12: _DISPLAY_P3,
}  # fmt: skip
# The exponent of the curve, by the code points of ITU-T H.273; None is the curve of sRGB. Curves of
# television (1, 6, 7, 14, 15) count as the curve of sRGB, as in Chromium.
_EXPONENT_OF_CODE = {
    1: None, 2: None, 4: 2.2, 5: 2.8, 6: None, 7: None, 8: 1.0, 13: None, 14: None, 15: None,
}  # fmt: skip
_HDR_CURVES = {16: "PQ", 18: "HLG"}
# A gamma and primaries that are as close as this to sRGB are meant to be sRGB. libpng uses the same
# limit for gamma.
_GAMMA_TOLERANCE = 0.05
_PRIMARIES_TOLERANCE = 0.005
_LEAST_DOUBLED_AREA = 0.02  # of the triangle of three primaries; 0.22 for sRGB
# A profile that changes no color by more than this is one of the many versions of sRGB.
_SRGB_TOLERANCE = 2

_SRGB_CURVE = 2.4, 1 / 1.055, 0.055 / 1.055, 1 / 12.92, 0.04045  # as a curve of kind 3 of ICC
_D50 = 0.9642, 1.0, 0.8249  # X, Y and Z of the white of ICC profiles
_BRADFORD = (0.8951, 0.2664, -0.1614), (-0.7502, 1.7135, 0.0367), (0.0389, -0.0685, 1.0296)
_DEVICE_CLASSES = (b"scnr", b"mntr", b"prtr", b"spac")
# Modes without transparency, each with the colors of a profile that converts it.
_GRAY = ("L", b"GRAY"), ("L", b"RGB "), ("I;16", b"GRAY")
_COLORS = ("RGB", b"RGB "), ("CMYK", b"CMYK")
_CACHED_CONVERSIONS = 32


def to_srgb(picture: Image.Image, profile: bytes) -> Image.Image:
    """Convert the colors of a picture to sRGB.

    A picture is returned unchanged if its profile is a version of sRGB, is broken, or is made for
    other colors, such as CMYK for a picture in RGB. Browsers ignore such profiles, too.

    Args:
        picture: in mode L, LA, I;16, RGB, RGBA or CMYK. I;16 covers 0 to 65,535.
        profile: an ICC profile. Gray is converted by a profile for gray or, but for I;16, for RGB.

    Returns:
        in mode L, LA, RGB or RGBA, or the picture itself.
    """
    mode = picture.mode.removesuffix("A")
    kind = mode, profile[16:20]
    if kind in _GRAY:
        table = _find_table(profile, mode)
        if table is None:
            return picture
        gray = picture.getchannel("L") if picture.mode == "LA" else picture
        converted = Image.fromarray(table[np.asarray(gray)])
    elif kind in _COLORS:
        conversion = _find_conversion(profile, mode)
        if conversion is None:
            return picture
        converted = conversion.apply(picture if picture.mode == mode else picture.convert(mode))
    else:
        return picture
    if picture.mode in ("LA", "RGBA"):
        converted.putalpha(picture.getchannel("A"))
    return converted


@lru_cache(_CACHED_CONVERSIONS)
def _find_table(profile: bytes, mode: str) -> NDArray[np.uint8] | None:
    """Return the gray of sRGB for each number; None if there is nothing to convert."""
    numbers: NDArray[np.integer] = (
        np.arange(256, dtype=np.uint8) if mode == "L" else np.arange(65_536, dtype=np.uint16)
    )
    ramp = Image.fromarray(numbers[np.newaxis])
    if profile[16:20] == b"RGB ":
        ramp = ramp.convert("RGB")
    conversion = _build_conversion(profile, ramp.mode)
    if conversion is None:
        return None
    table: NDArray[np.uint8] = np.asarray(conversion.apply(ramp))[0, :, 1]
    difference = np.abs(table - np.linspace(0, 255, len(table)))
    return table if difference.max() > _SRGB_TOLERANCE else None


@lru_cache(_CACHED_CONVERSIONS)
def _find_conversion(profile: bytes, mode: str) -> ImageCms.ImageCmsTransform | None:
    """Return the conversion from a mode to sRGB; None if there is nothing to convert."""
    conversion = _build_conversion(profile, mode)
    if conversion is None or mode == "CMYK":
        return conversion
    ramp = Image.linear_gradient("L")
    probe = Image.merge("RGB", (ramp, ramp.rotate(90), ramp.rotate(180)))
    difference = ImageChops.difference(conversion.apply(probe), probe)
    largest = np.asarray(difference).max()
    return conversion if largest > _SRGB_TOLERANCE else None


def from_lab(picture: Image.Image) -> Image.Image:
    """Convert a picture from CIELAB, with the white D50, to sRGB, more exactly than Pillow does."""
    return _lab_conversion().apply(picture)


@cache
def _lab_conversion() -> ImageCms.ImageCmsTransform:
    lab, srgb = (ImageCms.createProfile(name) for name in ("LAB", "sRGB"))
    return ImageCms.buildTransform(lab, srgb, "LAB", "RGB", flags=ImageCms.Flags.NOOPTIMIZE)


def _build_conversion(profile: bytes, mode: str) -> ImageCms.ImageCmsTransform | None:
    """Return the conversion from a mode to sRGB; None if the profile is broken."""
    if profile[12:16] not in _DEVICE_CLASSES:
        return None
    # The absolute intents would give a white that is not white; browsers do not use them either.
    colorimetric = int.from_bytes(profile[64:68]) in (1, 3)
    # Little CMS makes conversions of gray faster by a table of few points, which is coarse.
    flags = ImageCms.Flags.NONE if mode in ("RGB", "CMYK") else ImageCms.Flags.NOOPTIMIZE
    try:
        return ImageCms.buildTransform(
            ImageCms.ImageCmsProfile(BytesIO(profile)),
            ImageCms.createProfile("sRGB"),
            mode,
            "RGB",
            ImageCms.Intent.RELATIVE_COLORIMETRIC if colorimetric else ImageCms.Intent.PERCEPTUAL,
            flags,
        )
    except (OSError, ImageCms.PyCMSError):
        return None


def profile_of_code_points(primaries: int, transfer: int, *, gray: bool) -> bytes | None:
    """Return an ICC profile for colors by the code points of ITU-T H.273; None for sRGB.

    Raises:
        UnreadableImageError: HDR, or unknown code points.
    """
    if transfer in _HDR_CURVES:
        raise UnreadableImageError(f"HDR colors ({_HDR_CURVES[transfer]}): save it as sRGB")
    if primaries not in _PRIMARIES_OF_CODE or transfer not in _EXPONENT_OF_CODE:
        raise UnreadableImageError(
            f"unknown colors (primaries {primaries}, transfer {transfer} of ITU-T H.273): save it"
            " as sRGB"
        )
    return _make_profile(_PRIMARIES_OF_CODE[primaries], _EXPONENT_OF_CODE[transfer], gray)


def profile_of_gamma(gamma: float, primaries: Primaries, *, gray: bool) -> bytes | None:
    """Return an ICC profile for the values of the PNG chunks gAMA and cHRM; None for sRGB.

    Values that make no sense are ignored, such as 0 for a missing chunk.
    """
    exponent = None
    if 0.1 < gamma < 10 and abs(gamma * 2.2 - 1) > _GAMMA_TOLERANCE:
        exponent = 1 / gamma
    return _make_profile(primaries if _are_sensible(primaries) else _SRGB, exponent, gray)


def _are_sensible(primaries: Primaries) -> bool:
    white, red, green, blue = _pairs(primaries)
    if max(primaries) > 1 or min(y for _, y in (white, red, green, blue)) <= 0:
        return False
    doubled_area = _determinant([(x, y, 1) for x, y in (red, green, blue)])
    return abs(doubled_area) > _LEAST_DOUBLED_AREA


def _make_profile(primaries: Primaries, exponent: float | None, gray: bool) -> bytes | None:
    """Return an ICC profile (version 4) with a curve, and a matrix for colors; None for sRGB."""
    distance = max(abs(a - b) for a, b in zip(primaries, _SRGB, strict=True))
    if exponent is None and (gray or distance < _PRIMARIES_TOLERANCE):
        return None
    kind, values = (3, _SRGB_CURVE) if exponent is None else (0, (exponent,))
    curve = struct.pack(">4s4xHxx", b"para", kind) + _fixed(*values)
    elements = {b"wtpt": struct.pack(">4s4x", b"XYZ ") + _fixed(*_D50)}
    if gray:
        elements[b"kTRC"] = curve
    else:
        for letter, column in zip((b"r", b"g", b"b"), _matrix_columns(primaries), strict=True):
            elements[letter + b"XYZ"] = struct.pack(">4s4x", b"XYZ ") + _fixed(*column)
            elements[letter + b"TRC"] = curve
    start = 128 + 4 + 12 * len(elements)
    table, data = struct.pack(">I", len(elements)), b""
    for name, element in elements.items():
        table += struct.pack(">4sII", name, start + len(data), len(element))
        data += element
    header = struct.pack(
        ">I4xI4s4s4s12x4s24xI", start + len(data), 0x04200000,
        b"mntr", b"GRAY" if gray else b"RGB ", b"XYZ ", b"acsp", 1,
    )  # fmt: skip
    return (header + _fixed(*_D50)).ljust(128, b"\0") + table + data


def _matrix_columns(primaries: Primaries) -> list[tuple[float, ...]]:
    """Return X, Y and Z of red, green and blue, adapted to the white of ICC profiles."""
    white, *colors = ((x / y, 1.0, (1 - x - y) / y) for x, y in _pairs(primaries))
    amounts = _solve(tuple(zip(*colors, strict=True)), white)
    old, new = _product(_BRADFORD, white), _product(_BRADFORD, _D50)
    columns = []
    for color, amount in zip(colors, amounts, strict=True):
        cones = _product(_BRADFORD, color)
        adapted = [amount * c * b / a for c, a, b in zip(cones, old, new, strict=True)]
        columns.append(_solve(_BRADFORD, adapted))
    return columns


def _pairs(values: Sequence[float]) -> list[tuple[float, float]]:
    return list(zip(values[::2], values[1::2], strict=True))


def _fixed(*values: float) -> bytes:
    """Encode numbers as ICC profiles do: with 16 bits behind the point."""
    return struct.pack(f">{len(values)}i", *(round(value * 65_536) for value in values))


def _product(matrix: Sequence[Sequence[float]], vector: Sequence[float]) -> tuple[float, ...]:
    return tuple(sum(a * b for a, b in zip(row, vector, strict=True)) for row in matrix)


def _solve(matrix: Sequence[Sequence[float]], vector: Sequence[float]) -> tuple[float, ...]:
    """Solve three linear equations by Cramer's rule; the bits of LAPACK depend on the machine."""
    replaced = (
        [[vector[i] if j == k else matrix[i][j] for j in range(3)] for i in range(3)]
        for k in range(3)
    )
    return tuple(_determinant(other) / _determinant(matrix) for other in replaced)


def _determinant(matrix: Sequence[Sequence[float]]) -> float:
    (a, b, c), (d, e, f), (g, h, i) = matrix
    return a * (e * i - f * h) - b * (d * i - f * g) + c * (d * h - e * g)
