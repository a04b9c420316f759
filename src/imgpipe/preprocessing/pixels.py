"""Stored numbers → 8-bit gray or sRGB on white, as the tags of the file say."""

import sys
from io import BytesIO

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFile

from imgpipe.core.errors import UnreadableImageError
from imgpipe.preprocessing.colors import from_lab, to_srgb
from imgpipe.preprocessing.pixel_tags import NAMES_OF_16_BITS, PixelTags, content_of, find_raw_mode

_LARGEST_16_BIT = 65_535


def open_low_bytes(picture: Image.Image, tags: PixelTags) -> Image.Image | None:
    """Open a file of 16-bit colors again, to decode the lower half of each number.

    Pillow has no mode for such colors, and decodes the upper halves only. Both are needed if fewer
    bits are in use, and to find a transparent color.

    Returns:
        None if the upper halves are enough.
    """
    if picture.mode[0] in "IF" or (tags.bits is None and not isinstance(tags.transparent, tuple)):
        return None
    raw_mode = find_raw_mode(picture)
    if not raw_mode.endswith(NAMES_OF_16_BITS):
        return None
    native = "L" if sys.byteorder == "little" else "B"
    swapped = "L" if raw_mode[-1].replace("N", native) == "B" else "B"
    low = Image.open(BytesIO(content_of(picture)), formats=[picture.format or ""])
    assert isinstance(low, ImageFile.ImageFile)
    low.seek(picture.tell())
    args = low.tile[0].args
    swapped_mode = raw_mode[:-1] + swapped
    args = (swapped_mode, *args[1:]) if isinstance(args, tuple) else swapped_mode
    low.tile = [low.tile[0]._replace(args=args)]
    return low


def interpret(picture: Image.Image, tags: PixelTags, low: Image.Image | None) -> Image.Image:
    """Return a picture whose values mean what the tags say.

    Args:
        picture: with its pixels loaded.
        tags: from `read_tags`.
        low: of 16-bit colors the lower halves, while `picture` has the upper halves.

    Returns:
        in any mode of 8 bits without transparency; its colors are sRGB, gray, or CMYK without a
        profile.

    Raises:
        UnreadableImageError: numbers without a defined meaning.
    """
    if picture.mode == "F":
        picture = _from_floats(picture, tags)
    elif picture.mode[0] == "I":
        picture = _from_integers(picture, tags)
    elif low is not None:
        picture = _from_halves(picture, low, tags)
    if tags.is_gray:
        picture = picture.convert("LA")
    picture = _with_alpha(picture, tags)
    if tags.profile:
        picture = to_srgb(picture, tags.profile)
    if picture.mode == "I;16":
        picture = _to_8_bits(np.asarray(picture), _LARGEST_16_BIT)
    if picture.mode in ("LA", "RGBA"):
        white = Image.new("RGBA", picture.size, "white")
        picture = Image.alpha_composite(white, picture.convert("RGBA"))
    return picture


def _from_floats(picture: Image.Image, tags: PixelTags) -> Image.Image:
    values = np.asarray(picture)
    low, high = values.min(), values.max()
    if not 0 <= low <= high <= 1:  # also if any of them is not a number
        raise UnreadableImageError(
            f"floating-point pixels from {low:g} to {high:g}: expected 0 (black) to 1 (white)"
        )
    if tags.white_is_zero:
        values = 1 - values
    return Image.fromarray(np.rint(values * 255).astype(np.uint8))


def _from_integers(picture: Image.Image, tags: PixelTags) -> Image.Image:
    """Return gray integers in mode L, LA, or I;16 for a gray profile, which may be linear."""
    values = np.asarray(picture)
    if picture.mode == "I":
        if tags.bits is None:
            raise UnreadableImageError("32-bit integers: their white is not defined; use 8 bits")
        values = values.view(np.uint32)
    white = _find_white(values, tags.bits)
    if tags.white_is_zero:
        values = white - values
    if tags.transparent is None and tags.profile and tags.profile[16:20] == b"GRAY":
        scaled = (values.astype(np.uint64) * _LARGEST_16_BIT + white // 2) // white
        return Image.fromarray(scaled.astype(np.uint16))
    gray = _to_8_bits(values, white)
    if tags.transparent is not None:
        gray.putalpha(Image.fromarray(values != tags.transparent))
    return gray


def _from_halves(picture: Image.Image, low: Image.Image, tags: PixelTags) -> Image.Image:
    """Return 16-bit colors in the mode of `picture`, or in RGBA if one color is transparent."""
    values = np.asarray(picture).astype(np.uint16) * 256 + np.asarray(low)
    white = _find_white(values, tags.bits)
    if white != _LARGEST_16_BIT:
        picture = _to_8_bits(values, white, picture.mode)
    if tags.transparent is not None:
        picture.putalpha(Image.fromarray((values != tags.transparent).any(axis=-1)))
    return picture


def _find_white(values: NDArray[np.integer], bits: int | None) -> int:
    """Return the number that means white.

    Bits in use are stated in two ways: the numbers are small, or, as the standard of PNG demands,
    scaled to all 16 bits. Then nearly every picture has a number that needs more bits.
    """
    stored = values.dtype.itemsize * 8
    if bits is None or values.max() >> bits == 0:
        return (1 << (bits or stored)) - 1
    if stored == 32:
        raise UnreadableImageError(f"32-bit integers above {(1 << bits) - 1}, the stated largest")
    return _LARGEST_16_BIT


def _to_8_bits(values: NDArray[np.integer], white: int, mode: str = "L") -> Image.Image:
    wide = values.astype(np.uint32 if white <= _LARGEST_16_BIT else np.uint64)
    scaled = ((wide * 255 + white // 2) // white).astype(np.uint8)
    return Image.frombuffer(mode, scaled.shape[1::-1], scaled.tobytes())


def _with_alpha(picture: Image.Image, tags: PixelTags) -> Image.Image:
    """Return a picture in mode LA or RGBA if it has transparency, or in one that colors need."""
    if tags.covered:
        alpha = Image.new("L", picture.size)
        alpha.paste(255, tags.covered)
        picture = picture.convert("RGB")
        picture.putalpha(alpha)
    if isinstance(tags.transparent, int) and "transparency" in picture.info:
        picture.info["transparency"] = tags.transparent
    if picture.has_transparency_data:
        # For mode La, Pillow has only the conversion to LA.
        picture = picture.convert("LA" if picture.mode in ("1", "L", "La", "LA") else "RGBA")
        if tags.alpha_may_be_unused and picture.getextrema()[-1] == (0, 0):
            picture = picture.convert("RGB")
    elif picture.mode == "LAB":
        picture = from_lab(picture)
    elif tags.profile and picture.mode == "P":
        picture = picture.convert("RGB")
    elif tags.profile and picture.mode == "1":
        picture = picture.convert("L")
    return picture
