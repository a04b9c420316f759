"""Find images of 12-bit cameras that are stored with 16 bits and do not say so."""

from collections.abc import Iterable
from pathlib import Path

from imgpipe.core.errors import UnreadableImageError
from imgpipe.preprocessing.decoding import decode_and_resize, open_image
from imgpipe.preprocessing.pixel_tags import has_16_bits
from imgpipe.settings.image_spec import ImageSpec

_BRIGHTEST = 16  # 4,095 of 65,535, as 8 bits
# Without averages. Of an image with longer sides, it takes some of the pixels.
_SPEC = ImageSpec(
    height_px=512, width_px=512, channels=1, fit="stretch", interpolation="nearest"
)  # fmt: skip


def count_dark_images(paths: Iterable[Path]) -> int:
    """Return the number of images with 16 bits if none has a number above 4,095; otherwise 0."""
    count = 0
    for path in paths:
        try:
            picture = open_image(path.read_bytes())
            if has_16_bits(picture):
                if decode_and_resize(picture, _SPEC).max() > _BRIGHTEST:
                    return 0
                count += 1
        except (OSError, UnreadableImageError):  # reported elsewhere
            continue
    return count
