"""Of a TIFF file with a reduced copy as its first page, the full picture is read."""

from io import BytesIO
from typing import Any

import numpy as np
import pytest
from PIL import Image
from PIL.TiffImagePlugin import AppendingTiffWriter, ImageFileDirectory_v2

from imgpipe.core.errors import UnreadableImageError
from imgpipe.preprocessing.decoding import decode_and_resize, open_image
from imgpipe.settings.image_spec import ImageSpec

SPEC = ImageSpec(height_px=8, width_px=8, channels=3, fit="stretch", interpolation="bilinear")
REDUCED, OLD_REDUCED, MASK, ORIENTATION = {254: 1}, {255: 2}, {254: 4}, {274: 3}


def write(*pages: tuple[str, int, dict[int, Any]]) -> bytes:
    """Return a TIFF file whose pages have this color, this size and these tags."""
    stream = BytesIO()
    with AppendingTiffWriter(stream, new=True) as writer:
        for color, side, tags in pages:
            info = ImageFileDirectory_v2()
            for tag, value in tags.items():
                info[tag] = value
            picture = Image.new("RGB", (side, side), color)
            picture.paste("white", (0, 0, side // 2, side // 2))  # marks the top left
            picture.save(writer, "TIFF", tiffinfo=info)
            writer.newFrame()
    return stream.getvalue()


@pytest.mark.parametrize("mark", [REDUCED, OLD_REDUCED, {254: 3}, MASK, {254: 5}])
def test_the_first_full_picture_is_read(mark: dict[int, int]) -> None:
    content = write(("red", 8, mark), ("red", 16, mark), ("blue", 64, {}), ("red", 64, {}))
    picture = open_image(content)
    assert picture.size == (64, 64)
    image = decode_and_resize(picture, SPEC)
    assert image[6, 6].tolist() == [0, 0, 255]
    assert image[1, 1].tolist() == [255, 255, 255]


def test_the_orientation_is_that_of_the_full_picture() -> None:
    content = write(("red", 8, REDUCED), ("blue", 64, ORIENTATION))
    image = decode_and_resize(open_image(content), SPEC)
    assert image[1, 1].tolist() == [0, 0, 255]
    assert image[6, 6].tolist() == [255, 255, 255]


@pytest.mark.parametrize("tags", [{}, {254: 0}, {254: 2}, {255: 1}, {255: 3}])
def test_other_marks_do_not_change_the_page(tags: dict[int, int]) -> None:
    assert open_image(write(("red", 8, tags), ("blue", 64, {}))).size == (8, 8)


def test_a_reduced_copy_alone_is_read() -> None:
    image = decode_and_resize(open_image(write(("blue", 16, REDUCED))), SPEC)
    assert np.array_equal(image[6, 6], [0, 0, 255])


def test_a_full_picture_that_is_no_page_is_one_line() -> None:
    content = write(("blue", 16, REDUCED | {330: 8}))
    with pytest.raises(UnreadableImageError, match="the full picture is in a SubIFD; save it as"):
        open_image(content)


def test_a_full_picture_with_too_many_pixels_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("imgpipe.preprocessing.decoding.MOST_PIXELS", 1_000)
    content = write(("red", 8, REDUCED), ("blue", 64, {}))
    with pytest.raises(UnreadableImageError, match="more than the limit of 1,000 pixels"):
        open_image(content)
