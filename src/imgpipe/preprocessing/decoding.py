"""Image files and arrays → uint8 images of one shape."""

import warnings
from io import BytesIO

import numpy as np
from numpy.typing import NDArray
from PIL import ExifTags, Image, ImageOps

from imgpipe.core.errors import UnreadableImageError
from imgpipe.settings.image_spec import ImageSpec

# The format of a file, by the ending of its name.
FORMAT_OF_SUFFIX = {
    ".bmp": "BMP",
    ".gif": "GIF",
    ".jfif": "JPEG",
    ".jpe": "JPEG",
    ".jpeg": "JPEG",
    ".jpg": "JPEG",
    ".png": "PNG",
    ".webp": "WEBP",
}
_FORMATS = tuple(sorted(set(FORMAT_OF_SUFFIX.values())))
_RESAMPLING = {
    "nearest": Image.Resampling.NEAREST,
    "bilinear": Image.Resampling.BILINEAR,
    "bicubic": Image.Resampling.BICUBIC,
    "lanczos": Image.Resampling.LANCZOS,
}
_LARGEST_16_BIT = 65_535
_QUARTER_TURNS = (5, 6, 7, 8)  # the EXIF orientations that exchange height and width
# The exceptions that Pillow raises for damaged files of the five formats.
_DAMAGE = (OSError, SyntaxError, ValueError, EOFError, IndexError, KeyError, OverflowError)


def open_image(content: bytes, suffix: str) -> Image.Image:
    """Open an image file; its pixels are decoded later, when the final size is known.

    Args:
        content: a JPEG, PNG, BMP, GIF or WebP file.
        suffix: the ending of its name in lower case, such as ".jpg".

    Raises:
        UnreadableImageError: empty, not an image, not of the format that the name says, or more
            pixels than Pillow's limit (`PIL.Image.MAX_IMAGE_PIXELS`), which may be an attack.
    """
    if not content:
        raise UnreadableImageError("empty file")
    if suffix not in FORMAT_OF_SUFFIX:
        raise UnreadableImageError(
            f"{suffix or 'no ending'}: expected {', '.join(sorted(FORMAT_OF_SUFFIX))}"
        )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of odd but harmless metadata
        warnings.simplefilter("error", Image.DecompressionBombWarning)
        try:
            picture = Image.open(BytesIO(content), formats=_FORMATS)
        except (Image.DecompressionBombWarning, Image.DecompressionBombError):
            raise UnreadableImageError(
                f"more than the limit of {Image.MAX_IMAGE_PIXELS:,} pixels"
            ) from None
        except _DAMAGE:
            raise UnreadableImageError("not an image, or its beginning is damaged") from None
    found = "JPEG" if picture.format == "MPO" else picture.format  # JPEG with a second picture
    if found != FORMAT_OF_SUFFIX[suffix]:
        raise UnreadableImageError(f"its name says {FORMAT_OF_SUFFIX[suffix]}, but it is {found}")
    return picture


def decode_and_resize(picture: Image.Image, image_spec: ImageSpec) -> NDArray[np.uint8]:
    """Decode a picture, apply its EXIF orientation, and resize it to `image_spec.image_shape`.

    "stretch" changes the aspect ratio. "crop" preserves it and cuts off equal parts of both sides.
    "pad" preserves it and adds black bars. Color becomes gray by the weights of ITU-R 601-2
    (Pillow's mode L). Gray becomes color by repetition. Transparent pixels become white. 16 bits
    are scaled to 8. When shrinking, all interpolations but "nearest" average over the covered
    pixels, so that fine patterns do not alias.

    Args:
        picture: an image file that `open_image` opened, or an image from an array.
        image_spec: shape, fit and interpolation.

    Returns:
        (H, W, C) uint8 in [0, 255].

    Raises:
        UnreadableImageError: the content is damaged.
    """
    height_px, width_px, channels = image_spec.image_shape
    if picture.format is not None:  # of a file, not of an array
        picture = _decode(picture, (width_px, height_px), image_spec)
    picture = _with_channels(picture, channels)
    if picture.size != (width_px, height_px):
        picture = _fit(picture, (width_px, height_px), image_spec)
    return np.asarray(picture, dtype=np.uint8).reshape(image_spec.image_shape)


def _decode(picture: Image.Image, target: tuple[int, int], image_spec: ImageSpec) -> Image.Image:
    """Decode and orient a picture, at a size that is not smaller than the target needs."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of odd but harmless metadata
        try:
            orientation = picture.getexif().get(ExifTags.Base.Orientation, 1)
            if picture.format == "JPEG" and image_spec.interpolation != "nearest":
                # The JPEG decoder averages over blocks of pixels at almost no cost.
                turned = orientation in _QUARTER_TURNS
                size = _scaled_size(
                    picture.size, target[::-1] if turned else target, image_spec.fit
                )
                picture.draft(None, size)  # the result is never smaller than `size`
            picture.load()
            return picture if orientation == 1 else ImageOps.exif_transpose(picture)
        except _DAMAGE as error:
            raise UnreadableImageError(f"damaged: {error}") from None


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
    """Return the picture in mode L (1 channel) or RGB (3 channels), on a white background."""
    mode = "L" if channels == 1 else "RGB"
    if picture.mode.startswith("I"):
        values = np.clip(np.asarray(picture), 0, _LARGEST_16_BIT).astype(np.uint32)
        gray = (values * 255 + _LARGEST_16_BIT // 2) // _LARGEST_16_BIT
        picture = Image.fromarray(gray.astype(np.uint8))
    elif picture.has_transparency_data:
        white = Image.new("RGBA", picture.size, "white")
        picture = Image.alpha_composite(white, picture.convert("RGBA"))
    return picture if picture.mode == mode else picture.convert(mode)
