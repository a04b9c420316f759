"""Image files and arrays → uint8 images of one shape."""

import ctypes
import logging
import warnings
from contextlib import suppress
from functools import cache
from io import BytesIO

import numpy as np
from numpy.typing import NDArray
from PIL import ExifTags, Image, _imaging
from PIL.JpegImagePlugin import JpegImageFile
from PIL.TiffImagePlugin import TiffImageFile

from imgpipe.core.errors import UnreadableImageError
from imgpipe.preprocessing.damage import check_content, check_png_rows
from imgpipe.preprocessing.jpeg_decoder import MOST_PIXELS, find_lost_data
from imgpipe.preprocessing.pixel_tags import PixelTags, correct_mode, describe_tiff, read_tags
from imgpipe.preprocessing.pixels import interpret, open_low_bytes
from imgpipe.preprocessing.tiff_pages import seek_full_picture
from imgpipe.settings.image_spec import ImageSpec

# The format that the ending of a name promises; the content of a file decides.
FORMAT_OF_SUFFIX = {
    ".avif": "AVIF",
    ".bmp": "BMP",
    ".gif": "GIF",
    ".heic": "HEIF",
    ".heif": "HEIF",
    ".jfif": "JPEG",
    ".jpe": "JPEG",
    ".jpeg": "JPEG",
    ".jpg": "JPEG",
    ".png": "PNG",
    ".tif": "TIFF",
    ".tiff": "TIFF",
    ".webp": "WEBP",
}
START_BYTES = 64
"""Size of the beginning of a file by which `find_format` knows its format."""
_BEGINNINGS = {
    "JPEG": (b"\xff\xd8\xff",),
    "PNG": (b"\x89PNG\r\n\x1a\n",),
    "GIF": (b"GIF87a", b"GIF89a"),
    "TIFF": (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+"),  # the last two for more than 4 GB
}
_BMP_HEADER_BYTES = (12, 40, 52, 56, 64, 108, 124)
_AVIF_BRANDS = {b"avif", b"avis"}
_HEIF_BRANDS = {b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"hevm", b"hevs", b"mif1"}
_RESAMPLING = {
    "nearest": Image.Resampling.NEAREST,
    "bilinear": Image.Resampling.BILINEAR,
    "bicubic": Image.Resampling.BICUBIC,
    "lanczos": Image.Resampling.LANCZOS,
}
# What turns a stored picture upright, by its EXIF orientation.
_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
_QUARTER_TURNS = (5, 6, 7, 8)  # the EXIF orientations that exchange height and width
_LONGEST_REASON = 100

# Pillow and its plugins warn of odd but harmless metadata. `warnings.catch_warnings` around each
# image would not be safe in threads.
warnings.filterwarnings("ignore", module=r"(PIL|pillow_heif)\b")
logging.getLogger("PIL").setLevel(logging.CRITICAL)


def find_format(start: bytes) -> str | None:
    """Return the format of a file by its first `START_BYTES` bytes, or None if it is unknown."""
    start = start[:START_BYTES]
    for file_format, beginnings in _BEGINNINGS.items():
        if start.startswith(beginnings):
            return file_format
    if start[:2] == b"BM" and int.from_bytes(start[14:18], "little") in _BMP_HEADER_BYTES:
        return "BMP"
    if start[:4] == b"RIFF" and start[8:12] == b"WEBP":
        return "WEBP"
    if start[4:8] == b"ftyp":
        # A container that other formats use, too, such as videos: its brands are the first one,
        # and those that it is compatible with.
        brands = start[8:12] + start[16 : int.from_bytes(start[:4])]
        found = {brands[place : place + 4] for place in range(0, len(brands), 4)}
        if found & _AVIF_BRANDS:
            return "AVIF"
        if found & _HEIF_BRANDS:
            return "HEIF"
    return None


def open_image(content: bytes) -> Image.Image:
    """Open an image file; its pixels are decoded later, when the final size is known.

    Its content decides the format, not its name. Of a file with several pictures (animations,
    pages), it is the first one that is not marked as a reduced copy.

    Raises:
        UnreadableImageError: empty, not an image of a known format, more than 89 million pixels,
            which may be an attack (JPEG: 178 million, because its decoder reduces it), or HEIC
            without the package for it.
    """
    if not content:
        raise UnreadableImageError("empty file")
    file_format = find_format(content)
    if file_format == "HEIF" and not _register_heif():
        raise UnreadableImageError(
            "HEIC needs the package pillow-heif; install it:"
            " pip install --require-hashes -r requirements-heic.txt"
        )
    picture = _open_as(file_format, content) if file_format else None
    if picture is None:
        unsupported = describe_tiff(content) if file_format == "TIFF" else None
        raise UnreadableImageError(
            unsupported or "not an image, not supported, or its beginning is damaged"
        )
    correct_mode(picture)
    read_tags(picture)  # refuses numbers without a defined meaning
    return picture


@cache
def _register_heif() -> bool:
    """Let Pillow read HEIC files; return False if the optional package is not installed."""
    try:
        import pillow_heif
    except ImportError:
        return False
    pillow_heif.register_heif_opener()
    return True


def _open_as(file_format: str, content: bytes) -> Image.Image | None:
    """Open a file of this format; return None if it is of another one, or damaged.

    Raises:
        UnreadableImageError: too many pixels.
    """
    picture = _try_to_open(file_format, content)
    if picture is None and b"Exif" in content:
        # A broken tag in the EXIF block can stop Pillow: open the image without the block.
        picture = _try_to_open(file_format, content.replace(b"Exif", b"exif"))
        if picture is not None and file_format == "JPEG":  # only for its orientation
            picture.info["exif"] = content[content.index(b"Exif") :]
    # JPEG is decoded at a reduced size, so its limit is another one.
    if picture is not None and file_format != "JPEG":
        _check_pixels(picture)
    return picture


def _try_to_open(file_format: str, content: bytes) -> Image.Image | None:
    try:
        picture = Image.open(BytesIO(content), formats=[file_format])
        if isinstance(picture, TiffImageFile):
            seek_full_picture(picture)
        return picture
    except Image.DecompressionBombError:
        limit = 2 * MOST_PIXELS if file_format == "JPEG" else MOST_PIXELS
        raise _too_many_pixels(limit) from None
    except (MemoryError, UnreadableImageError):
        raise
    except Exception:  # decoders raise anything for damaged files
        return None


def _check_pixels(picture: Image.Image) -> None:
    if picture.width * picture.height > MOST_PIXELS:
        raise _too_many_pixels(MOST_PIXELS)


def _too_many_pixels(limit: int) -> UnreadableImageError:
    return UnreadableImageError(f"more than the limit of {limit:,} pixels")


def decode_and_resize(picture: Image.Image, image_spec: ImageSpec) -> NDArray[np.uint8]:
    """Decode a picture, apply its EXIF orientation, and resize it to `image_spec.image_shape`.

    "stretch" changes the aspect ratio. "crop" preserves it and cuts off equal parts of both sides.
    "pad" preserves it and adds black bars. Color becomes gray by the weights of ITU-R 601-2
    (Pillow's mode L). Gray becomes color by repetition. Transparent pixels become white. 16 bits
    are scaled to 8. Of floating-point pixels, 0 is black and 1 is white. When shrinking, all
    interpolations but "nearest" average over the covered pixels, so that fine patterns do not
    alias.

    An orientation that cannot be read or makes no sense is ignored.

    Returns:
        (H, W, C) uint8 in [0, 255].

    Raises:
        UnreadableImageError: the content is damaged, its colors have no defined meaning, or a JPEG
            has more than 89 million pixels after its reduction, or is progressive with so many.
    """
    height_px, width_px, channels = image_spec.image_shape
    if picture.format is None:  # from an array
        picture = _with_channels(interpret(picture, PixelTags(), None), channels)
    else:
        picture = _decode(picture, (width_px, height_px), image_spec)
    if picture.size != (width_px, height_px):
        picture = _fit(picture, (width_px, height_px), image_spec)
    return np.asarray(picture, dtype=np.uint8).reshape(image_spec.image_shape)


def find_shown_size(picture: Image.Image, size: tuple[int, int]) -> tuple[int, int]:
    """Return width and height as shown, of a decoded picture whose file has this size."""
    if picture.format is None or _read_orientation(picture) not in _QUARTER_TURNS:
        return size
    return size[::-1]


def _decode(picture: Image.Image, target: tuple[int, int], image_spec: ImageSpec) -> Image.Image:
    """Decode and orient a picture, at a size that is not smaller than the target needs.

    Returns:
        the picture in mode L (1 channel) or RGB (3 channels).
    """
    try:
        stream = getattr(picture, "fp", None)
        content = stream.getvalue() if isinstance(stream, BytesIO) else None  # loaded before
        if content is not None:
            check_content(content, picture.format or "", picture.width * picture.height)
        tags = read_tags(picture)
        low = open_low_bytes(picture, tags)
        if picture.format == "PNG":
            picture.load()  # its EXIF block may come after its pixels
            if content is not None:
                check_png_rows(picture, content)
        orientation = _read_orientation(picture)
        if isinstance(picture, JpegImageFile):
            if image_spec.interpolation != "nearest":
                # The JPEG decoder averages over blocks of pixels at almost no cost.
                turned = orientation in _QUARTER_TURNS
                wanted = target[::-1] if turned else target
                size = _scaled_size(picture.size, wanted, image_spec.fit)
                picture.draft(None, size)  # the result is never smaller than `size`
            _check_pixels(picture)
            find_lost_data(picture)
        picture = _load(picture, orientation)
        picture = interpret(picture, tags, None if low is None else _load(low, orientation))
        return _with_channels(picture, image_spec.channels)
    except (MemoryError, UnreadableImageError):
        raise
    except Exception as error:  # decoders raise anything for damaged files
        raise UnreadableImageError(f"damaged: {_in_one_line(error)}") from None


def _read_orientation(picture: Image.Image) -> int:
    """Return the EXIF orientation, 1 to 8; 1 if it cannot be read, or makes no sense."""
    try:
        value = picture.getexif().get(ExifTags.Base.Orientation)
        return int(value) if value in _TURNS else 1
    except MemoryError:
        raise
    except Exception:
        return 1


def _load(picture: Image.Image, orientation: int) -> Image.Image:
    if picture.format == "TIFF":
        _load_tiff(picture, orientation)
        return picture
    picture.load()
    return picture.transpose(_TURNS[orientation]) if orientation in _TURNS else picture


def _load_tiff(picture: Image.Image, orientation: int) -> None:
    """Decode a TIFF page. Pillow orients it, and would read all its tags for that."""
    only_orientation = Image.Exif()
    only_orientation[ExifTags.Base.Orientation] = orientation
    picture.getexif = lambda: only_orientation  # type: ignore[method-assign]
    picture.info.pop("xmp", None)
    _silence_libtiff()
    picture.load()


@cache
def _silence_libtiff() -> None:
    """Keep libtiff from printing its errors, which Pillow raises anyway, on standard error."""
    with suppress(AttributeError, OSError):  # where Pillow hides the library, as on Windows
        ctypes.CDLL(_imaging.__file__).TIFFSetErrorHandler(None)


def _in_one_line(error: Exception) -> str:
    text = "".join(letter if letter.isprintable() else " " for letter in str(error))
    return " ".join(text.split())[:_LONGEST_REASON] or type(error).__name__


def _scaled_size(size: tuple[int, int], target: tuple[int, int], fit: str) -> tuple[int, int]:
    """Return the size of the whole picture at which the part in use has the target's size."""
    if fit == "stretch":
        return target
    ratios = [wanted / given for wanted, given in zip(target, size, strict=True)]
    scale = max(ratios) if fit == "crop" else min(ratios)
    width, height = (max(1, round(side * scale)) for side in size)
    return width, height


def _fit(picture: Image.Image, target: tuple[int, int], image_spec: ImageSpec) -> Image.Image:
    resampling = _RESAMPLING[image_spec.interpolation]
    if image_spec.fit == "crop":
        # The middle part of the picture that has the target's aspect ratio.
        scale = min(given / wanted for given, wanted in zip(picture.size, target, strict=True))
        left, top = (
            max(0.0, (given - wanted * scale) / 2)  # rounding may leave it just below zero
            for given, wanted in zip(picture.size, target, strict=True)
        )
        box = (left, top, picture.size[0] - left, picture.size[1] - top)
        return picture.resize(target, resampling, box=box)
    inner = picture.resize(_scaled_size(picture.size, target, image_spec.fit), resampling)
    if inner.size == target:
        return inner
    padded = Image.new(inner.mode, target)
    padded.paste(inner, ((target[0] - inner.size[0]) // 2, (target[1] - inner.size[1]) // 2))
    return padded


def _with_channels(picture: Image.Image, channels: int) -> Image.Image:
    """Return a picture without transparency in mode L (1 channel) or RGB (3 channels)."""
    mode = "L" if channels == 1 else "RGB"
    return picture if picture.mode == mode else picture.convert(mode)
