"""Tags of an image file that say what its stored numbers mean, where Pillow does not use them.

Pillow decodes a 16-bit TIFF file whose 0 means white as a negative, for example. Numbers without a
defined meaning are refused. docs/photographs.md has a table of all kinds of files.
"""

import struct
from dataclasses import dataclass
from io import BytesIO

from PIL import Image, ImageFile, ImagePalette, TiffImagePlugin
from PIL.GifImagePlugin import GifImageFile
from PIL.WebPImagePlugin import WebPImageFile

from imgpipe.core.errors import UnreadableImageError
from imgpipe.preprocessing.colors import profile_of_code_points, profile_of_gamma

# Tags of TIFF files, and values of these tags.
_BITS, _COMPRESSION, _PHOTOMETRIC, _SAMPLES, _MAX_VALUE, _PLANES = 258, 259, 262, 277, 281, 284
_PREDICTOR, _COLOR_MAP, _INK_SET, _SAMPLE_FORMAT, _SMAX_VALUE = 317, 320, 332, 339, 341
_WHITE_IS_ZERO, _YCBCR, _SEPARATE, _NOT_CMYK, _SIGNED, _COREL = 0, 6, 2, 2, 2, 999
_NEED_NO_PHOTOMETRIC = (2, 3, 4, 6)  # compressions: fax, and JPEG of the old kind
_HAVE_NO_PREDICTOR = (1, 32773)  # compressions: none, PackBits
_NUMBERS = {
    1: "unsigned", 2: "signed", 3: "floating-point", 4: "untyped", 5: "complex", 6: "complex",
}  # fmt: skip

_GIF_PALETTE = 0x80  # the bit of the flags at byte 10
_WEBP_ANIMATION = 2  # the bit of the chunk VP8X
_BMP_WITHOUT_ALPHA = 52  # the longest header without a mask for transparency
_MASKS_OF_5_BITS = struct.pack("<4I", 0x7C00, 0x3E0, 0x1F, 0x8000)

NAMES_OF_16_BITS = ";16B", ";16L", ";16N"
"""Ends of Pillow's names for the ways in which 16-bit colors are stored."""

# libtiff reads separate planes, any order of bits, and subsampled colors. Pillow's own reader of
# files without compression mixes these up.
TiffImagePlugin.READ_LIBTIFF = True
# Corrections of Pillow's table of TIFF files. Its keys are byte order, photometric interpretation,
# sample format, order of bits, bits of each sample, and kinds of extra samples.
for _order in (TiffImagePlugin.II, TiffImagePlugin.MM):
    TiffImagePlugin.OPEN_INFO |= {
        (_order, 0, (1,), 1, (12,), ()): ("I;16", "I;12"),
        (_order, 1, (1,), 1, (12,), ()): ("I;16", "I;12"),
        # libtiff returns numbers in the byte order of the machine.
        (_order, 0, (3,), 1, (32,), ()): ("F", "F;32NF"),
        (_order, 1, (3,), 1, (32,), ()): ("F", "F;32NF"),
        # An extra sample is transparency only if the file says so.
        (_order, 2, (1,), 1, (8, 8, 8, 8), ()): ("RGB", "RGBX"),
        (_order, 2, (1,), 1, (8, 8, 8, 8), (_COREL,)): ("RGB", "RGBX"),
        (_order, 2, (1,), 1, (16, 16, 16, 16), ()): ("RGB", "RGBX;16L"),
    }
TiffImagePlugin.OPEN_INFO[TiffImagePlugin.MM, 0, (1,), 1, (16,), ()] = ("I;16B", "I;16B")


@dataclass(frozen=True)
class PixelTags:
    """The meaning of stored numbers, by the tags of the file, as far as Pillow ignores it."""

    bits: int | None = None
    """Bits in use, if fewer than stored: 12 of 16, or the range of 32."""
    white_is_zero: bool = False
    """Whether 0 means white, and Pillow does not know it."""
    transparent: int | tuple[int, ...] | None = None
    """The gray or color that is transparent."""
    profile: bytes | None = None
    """The ICC profile of the colors, if the tags describe them."""
    is_gray: bool = False
    """Whether the colors are gray, and Pillow decodes them as RGB."""
    alpha_may_be_unused: bool = False
    """Whether an alpha of 0 everywhere means that the file has none."""
    covered: tuple[int, int, int, int] | None = None
    """Left, top, right and bottom of the part with pixels, if the rest is transparent."""


def correct_mode(picture: Image.Image) -> None:
    """Correct a palette or transparency that Pillow misunderstands.

    The pixels must not be loaded yet.
    """
    if picture.format == "BMP" and picture.mode in ("1", "L"):
        _correct_gray_bmp(picture)
    elif picture.format == "BMP" and picture.mode == "RGB":
        _correct_bmp_with_alpha(picture)
    elif isinstance(picture, WebPImageFile) and _is_animated(content_of(picture)):
        # What the first picture does not cover is transparent, also if the file has no alpha.
        picture._mode = picture.rawmode = "RGBA"
    elif picture.format == "TIFF" and picture.mode in ("P", "PA"):
        assert isinstance(picture, TiffImagePlugin.TiffImageFile)
        colors = picture.tag_v2[_COLOR_MAP]
        if min(colors) >= 0 and max(colors) < 256:  # 8 of 16 bits, from old programs
            picture.palette = ImagePalette.raw("RGB;L", bytes(map(int, colors)))


def _correct_gray_bmp(picture: Image.Image) -> None:
    """Keep the number of bits of a file whose palette is gray.

    Pillow assumes 1 bit for black and white, and 8 bits for gray.
    """
    assert isinstance(picture, ImageFile.ImageFile)
    content, tile = content_of(picture), picture.tile[0]
    bits = content[24] if content[14] == 12 else content[28]
    if tile.codec_name != "raw" or bits == (1 if picture.mode == "1" else 8):
        return
    grays = (0, 255) if picture.mode == "1" else range(1 << bits)
    picture._mode = "P"
    picture.palette = ImagePalette.raw("RGB", bytes(gray for gray in grays for _ in range(3)))
    assert isinstance(tile.args, tuple)
    picture.tile = [tile._replace(args=("P;4" if bits == 4 else "P", *tile.args[1:]))]


def _is_animated(webp: bytes) -> bool:
    return webp[12:16] == b"VP8X" and bool(webp[20] & _WEBP_ANIMATION)


def _correct_bmp_with_alpha(picture: Image.Image) -> None:
    """Add the bit of transparency of 16 bits, which Pillow ignores."""
    assert isinstance(picture, ImageFile.ImageFile)
    content, tile = content_of(picture), picture.tile[0]
    has_alpha = content[14] > _BMP_WITHOUT_ALPHA and content[54:70] == _MASKS_OF_5_BITS
    if has_alpha and content[28] == 16:
        picture._mode = "RGBA"
        assert isinstance(tile.args, tuple)
        picture.tile = [tile._replace(args=("BGRA;15", *tile.args[1:]))]


def read_tags(picture: Image.Image) -> PixelTags:
    """Return what the tags of an opened picture say; its pixels must not be loaded yet.

    Raises:
        UnreadableImageError: the values have no defined meaning.
    """
    reader = _READERS.get(picture.format or "", _read_profile)
    return reader(picture)


def has_16_bits(picture: Image.Image) -> bool:
    """Return whether the numbers of an opened PNG or TIFF file have 16 bits, all in use."""
    if picture.format not in ("PNG", "TIFF") or read_tags(picture).bits is not None:
        return False
    return picture.mode.startswith("I;16") or find_raw_mode(picture).endswith(NAMES_OF_16_BITS)


def _read_profile(picture: Image.Image) -> PixelTags:
    return PixelTags(profile=picture.info.get("icc_profile"))


def _read_tiff(picture: Image.Image) -> PixelTags:
    assert isinstance(picture, TiffImagePlugin.TiffImageFile)
    photometric = _tiff_number(picture, _PHOTOMETRIC)
    compression = _tiff_number(picture, _COMPRESSION)
    if photometric is None and compression not in _NEED_NO_PHOTOMETRIC:
        raise UnreadableImageError(
            "TIFF without PhotometricInterpretation: 0 may be black or white; save it again"
        )
    if _tiff_number(picture, _SAMPLE_FORMAT) == _SIGNED:
        raise UnreadableImageError(
            "TIFF with signed numbers: their black and white are not defined; save it with unsigned"
            " ones"
        )
    stored = _tiff_number(picture, _BITS) or 1
    colors = len(picture.tag_v2.get(_COLOR_MAP, ())) // 3
    if picture.mode in ("P", "PA") and colors != 1 << stored:
        raise UnreadableImageError(f"TIFF with a palette of {colors} colors for {stored} bits")
    if picture.mode == "CMYK" and _tiff_number(picture, _INK_SET) == _NOT_CMYK:
        raise UnreadableImageError("TIFF with other inks than CMYK; save it as RGB")
    if compression in _HAVE_NO_PREDICTOR and (_tiff_number(picture, _PREDICTOR) or 1) > 1:
        raise UnreadableImageError(
            "TIFF with a predictor that its compression does not have: the numbers may be"
            " differences; save it again"
        )
    bits = _stated_bits(picture)
    if _tiff_number(picture, _PLANES) == _SEPARATE and _mixes_up_planes(picture, bits):
        raise UnreadableImageError(
            f"TIFF with a plane for each channel of {picture.mode}: not supported; save it with"
            " interleaved channels"
        )
    if stored == 16 and bits is not None and find_raw_mode(picture).startswith("RGBa"):
        raise UnreadableImageError(
            f"TIFF with colors of {bits} bits in 16 that are multiplied by transparency: not"
            " supported; save it with 8 bits"
        )
    if stored == 32 and picture.mode == "I" and bits is None:
        raise UnreadableImageError(
            "TIFF with 32-bit integers: their white is not defined; save it with 16 bits, or state"
            " SMaxSampleValue"
        )
    return PixelTags(
        bits=12 if stored == 12 else bits if stored in (16, 32) else None,
        white_is_zero=photometric == _WHITE_IS_ZERO and picture.mode[0] in "IF",
        profile=picture.info.get("icc_profile"),
    )


def _mixes_up_planes(picture: TiffImagePlugin.TiffImageFile, bits: int | None) -> bool:
    """Return whether Pillow cannot decode separate planes of this kind, or decodes other values."""
    if picture.mode in ("LA", "La", "PA", "LAB"):
        return True
    if bits is not None and picture.mode in ("RGB", "RGBA", "CMYK"):
        return True
    return "X" in find_raw_mode(picture) and _tiff_number(picture, _PHOTOMETRIC) != _YCBCR


def _stated_bits(picture: TiffImagePlugin.TiffImageFile) -> int | None:
    """Return n if the tags state that the largest value is 2^n - 1.

    Any other value is a statistic, as the standard says: the largest value of this one picture.
    """
    largest = _tiff_number(picture, _SMAX_VALUE) or _tiff_number(picture, _MAX_VALUE)
    bits = largest.bit_length() if largest else 0
    return bits if bits >= 8 and largest == (1 << bits) - 1 else None


def _tiff_number(picture: TiffImagePlugin.TiffImageFile, tag: int) -> int | None:
    """Return the value of a tag, the largest of several; None if it is absent or makes no sense."""
    try:
        value = picture.tag_v2.get(tag)
        return None if value is None else int(max(value) if isinstance(value, tuple) else value)
    except MemoryError:
        raise
    except Exception:  # Pillow decodes a tag when it is used, and a broken one can raise anything
        return None


def _read_png(picture: Image.Image) -> PixelTags:
    chunks = _png_chunks(content_of(picture))
    bits, color_type = chunks[b"IHDR"][8:10]
    gray = color_type in (0, 4)
    stated = chunks.get(b"sBIT", b"")[: 1 if gray else 3]
    significant = max(stated, default=bits)
    fewer = bits == 16 and 8 <= significant < 16
    if fewer and len(set(stated)) > 1:
        raise UnreadableImageError(
            "PNG of 16 bits with other numbers of bits for each channel by its sBIT chunk: not"
            " supported; save it with 8 bits"
        )
    if fewer and color_type == 4:  # Pillow decodes the upper halves of the numbers only
        raise UnreadableImageError(
            f"PNG with gray of 16 bits, transparency, and {significant} bits by its sBIT chunk: not"
            " supported; save it with 8 bits"
        )
    transparent = picture.info.get("transparency") if b"tRNS" in chunks else None
    if bits in (2, 4) and gray and transparent is not None:
        transparent *= 255 // ((1 << bits) - 1)  # Pillow scales the pixels, and not this value
    return PixelTags(
        bits=significant if fewer else None,
        transparent=transparent,
        profile=_png_profile(picture, chunks, gray),
        is_gray=gray and picture.mode == "RGBA",
    )


def _png_profile(picture: Image.Image, chunks: dict[bytes, bytes], gray: bool) -> bytes | None:
    """Return the colors by the first of the chunks cICP, iCCP, sRGB, and gAMA with cHRM."""
    if len(chunks.get(b"cICP", b"")) == 4:
        primaries, transfer, _, full_range = chunks[b"cICP"]
        if not full_range:
            raise UnreadableImageError("PNG with a narrow range of numbers; save it as sRGB")
        return profile_of_code_points(primaries, transfer, gray=gray)
    if b"iCCP" in chunks:
        return picture.info.get("icc_profile")
    if b"sRGB" in chunks:
        return None
    gamma, *_ = struct.unpack(">I", chunks.get(b"gAMA", bytes(4))[:4].ljust(4, b"\0"))
    values = struct.unpack(">8I", chunks.get(b"cHRM", bytes(32))[:32].ljust(32, b"\0"))
    return profile_of_gamma(gamma / 1e5, tuple(value / 1e5 for value in values), gray=gray)


def _png_chunks(content: bytes) -> dict[bytes, bytes]:
    """Return the chunks before the pixels of a PNG file, by their names."""
    chunks: dict[bytes, bytes] = {}
    start = 8
    while start + 8 <= len(content):
        length, name = struct.unpack_from(">I4s", content, start)
        if name == b"IDAT":
            break
        chunks.setdefault(name, content[start + 8 : start + 8 + length])
        start += length + 12
    return chunks


def _read_bmp(picture: Image.Image) -> PixelTags:
    return PixelTags(profile=_bmp_profile(content_of(picture)), alpha_may_be_unused=True)


def _bmp_profile(content: bytes) -> bytes | None:
    """Return the profile in a header of version 5, or one for the primaries in version 4 or 5."""
    version = {108: 4, 124: 5}.get(content[14], 3)
    color_space = content[70:74]
    if version == 5 and color_space == b"DEBM":
        start, length = struct.unpack_from("<II", content, 126)
        return content[14 + start : 14 + start + length]
    if version == 3 or color_space != bytes(4):
        return None
    *primaries, gamma = struct.unpack_from("<9iI", content, 74)
    colors = [primaries[start : start + 3] for start in (0, 3, 6)]
    points = [[sum(parts) for parts in zip(*colors, strict=True)], *colors]  # the white is the sum
    if not gamma or not all(sum(point) > 0 for point in points):
        return None
    chromaticities = (value / sum(point) for point in points for value in point[:2])
    return profile_of_gamma(65_536 / gamma, tuple(chromaticities), gray=False)


def _read_avif(picture: Image.Image) -> PixelTags:
    profile = picture.info.get("icc_profile")
    content = content_of(picture)
    _, found, nclx = content.partition(b"ipco")[2].partition(b"colrnclx")
    if profile is None and found and len(nclx) >= 4:
        primaries, transfer = struct.unpack_from(">HH", nclx)
        profile = profile_of_code_points(primaries, transfer, gray=picture.mode[0] in "LI")
    return PixelTags(profile=profile)


def _read_heif(picture: Image.Image) -> PixelTags:
    profile = picture.info.get("icc_profile")
    if profile is None and (nclx := picture.info.get("nclx_profile")):
        profile = profile_of_code_points(
            nclx["color_primaries"], nclx["transfer_characteristics"], gray=picture.mode[0] in "LI"
        )
    return PixelTags(profile=profile)


def _read_gif(picture: Image.Image) -> PixelTags:
    assert isinstance(picture, GifImageFile)
    has_palette = content_of(picture)[10] & _GIF_PALETTE or picture._frame_palette is not None
    if not has_palette:
        raise UnreadableImageError("GIF without a palette: its colors are not defined")
    covered = picture.tile[0].extents
    is_whole = covered == (0, 0, *picture.size) or "transparency" in picture.info
    return PixelTags(covered=None if is_whole else covered)


_READERS = {
    "AVIF": _read_avif,
    "BMP": _read_bmp,
    "GIF": _read_gif,
    "HEIF": _read_heif,
    "PNG": _read_png,
    "TIFF": _read_tiff,
}


def content_of(picture: Image.Image) -> bytes:
    """Return the content of the file of an opened picture; its pixels must not be loaded yet."""
    assert isinstance(picture, ImageFile.ImageFile)
    assert isinstance(picture.fp, BytesIO)
    return picture.fp.getvalue()


def find_raw_mode(picture: Image.Image) -> str:
    """Return Pillow's name for the way in which the pixels are stored."""
    assert isinstance(picture, ImageFile.ImageFile)
    args = picture.tile[0].args
    return str(args[0] if isinstance(args, tuple) else args)


def describe_tiff(content: bytes) -> str | None:
    """Return the kind of a TIFF file that Pillow does not open; None if the file is damaged."""
    try:
        directory = TiffImagePlugin.ImageFileDirectory_v2(content[:8])
        with BytesIO(content) as stream:
            stream.seek(directory.next)
            directory.load(stream)
        channels, bits = int(directory.get(_SAMPLES, 1)), int(max(directory[_BITS]))
        number = _NUMBERS[max(directory.get(_SAMPLE_FORMAT, (1,)))]
        return (
            f"TIFF of {bits}-bit {number} numbers, {channels} for each pixel, photometric"
            f" interpretation {int(directory[_PHOTOMETRIC])}: not supported; save it with 8 bits"
        )
    except MemoryError:
        raise
    except Exception:  # broken tags raise anything
        return None
