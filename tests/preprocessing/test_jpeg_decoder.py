"""JPEG files with lost data are refused; others give the pixels of Pillow's own decoder."""

import os
import random
import zipfile
from collections.abc import Iterator
from functools import cache
from io import BytesIO
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageDraw, ImageFile

from imgpipe.core.errors import UnreadableImageError
from imgpipe.preprocessing import jpeg_decoder
from imgpipe.preprocessing.decoding import decode_and_resize, open_image
from imgpipe.preprocessing.jpeg_decoder import find_lost_data
from imgpipe.preprocessing.jpeg_layout import JpegLayout
from imgpipe.settings.image_spec import ImageSpec

END = b"\xff\xd9"
CODINGS: dict[str, dict[str, Any]] = {
    "plain": {},
    "quality 30": {"quality": 30},
    "quality 100, own tables": {"quality": 100, "optimize": True},
    "all colors": {"subsampling": 0},
    "a restart for each row": {"restart_marker_rows": 1},
    "a restart for each four blocks": {"restart_marker_blocks": 4},
    "progressive": {"progressive": True},
    "progressive with restarts": {"progressive": True, "restart_marker_rows": 1},
}


def photograph(mode: str = "RGB") -> Image.Image:
    """Noise on a rough scene, so that no part of the data is redundant."""
    generator = np.random.default_rng(0)
    rough = Image.fromarray(generator.integers(0, 256, (9, 12, 3), dtype=np.uint8))
    pixels = np.asarray(rough.resize((331, 245), Image.Resampling.BICUBIC), dtype=int)
    noisy = pixels + generator.integers(-12, 13, pixels.shape)
    return Image.fromarray(np.clip(noisy, 0, 255).astype(np.uint8)).convert(mode)


def drawing() -> Image.Image:
    picture = Image.new("RGB", (800, 600), "white")
    ImageDraw.Draw(picture).line((10, 50, 700, 580), fill="black", width=4)
    return picture


def bordered() -> Image.Image:
    picture = Image.new("RGB", (900, 700))
    picture.paste(photograph(), (300, 200))
    return picture


PICTURES = {
    "photograph": photograph,
    "gray": lambda: photograph("L"),
    "CMYK": lambda: photograph("CMYK"),
    "white": lambda: Image.new("RGB", (1200, 800), "white"),
    "black": lambda: Image.new("L", (64, 64)),
    "one pixel": lambda: Image.new("RGB", (1, 1), "red"),
    "drawing": drawing,
    "black border": bordered,
}


def save(picture: Image.Image, **options: Any) -> bytes:
    stream = BytesIO()
    picture.save(stream, "JPEG", **options)
    return stream.getvalue()


def open_jpeg(content: bytes, size: tuple[int, int] | None = None) -> ImageFile.ImageFile:
    picture = Image.open(BytesIO(content), formats=["JPEG"])
    picture.draft(None, size)
    return picture


def is_refused(content: bytes) -> bool:
    try:
        picture = open_jpeg(content)
        find_lost_data(picture)
        picture.load()
    except (UnreadableImageError, OSError, SyntaxError):
        return True
    return False


def check_good(content: bytes, size: tuple[int, int] | None = None) -> None:
    expected, picture = open_jpeg(content, size), open_jpeg(content, size)
    find_lost_data(picture)
    picture.load()
    expected.load()
    assert picture.size == expected.size
    assert picture.tobytes() == expected.tobytes()


@pytest.mark.parametrize("coding", CODINGS)
@pytest.mark.parametrize("picture", PICTURES)
def test_good_files_have_the_pixels_of_pillows_decoder(picture: str, coding: str) -> None:
    image = PICTURES[picture]()
    content = save(image, **CODINGS[coding])
    check_good(content)
    check_good(content, (image.width // 3 or 1, image.height // 3 or 1))


@pytest.mark.parametrize("coding", CODINGS)
def test_data_after_the_end_is_no_damage(coding: str) -> None:
    content = save(photograph(), **CODINGS[coding])
    video = random.Random(0).randbytes(5_000)
    for trailing in (bytes(5_000), b"\xff" * 99, save(drawing()), video, END, b"\r\n"):
        check_good(content + trailing)


def test_bytes_that_a_marker_may_have_before_it() -> None:
    content = save(photograph(), restart_marker_rows=4)
    check_good(content[:-2] + b"\xff\xff\xff" + END)
    check_good(content.replace(b"\xff\xd0", b"\xff\xff\xff\xd0"))
    check_good(content[:-2] + b"\0\0" + END)  # of an encoder that counts in words
    pieces = JpegLayout(content).pieces
    check_good(content[:-2] + b"\xff" + bytes([0xD0 + (len(pieces) - 1) % 8]) + END)


def test_several_pictures_in_a_file() -> None:
    stream = BytesIO()
    photograph().save(stream, "MPO", save_all=True, append_images=[drawing()])
    content = stream.getvalue()
    assert open_jpeg(content).format == "MPO"
    check_good(content)
    check_good(content, (100, 80))
    first = open_jpeg(content).mpinfo[0xB002][0]["Size"]  # type: ignore[attr-defined]
    assert is_refused(content[: first // 2] + bytes(first - first // 2) + content[first:])


def with_three_scans() -> bytes:
    """Return a sequential file with a scan for each component; the scans are of gray pictures."""
    planes = [save(plane) for plane in photograph("YCbCr").split()]
    first = planes[0]
    frame = first.index(b"\xff\xc0")
    components = b"".join(bytes([number, 0x11, 0]) for number in (1, 2, 3))
    head = first[:frame] + b"\xff\xc0\x00\x11\x08" + first[frame + 5 : frame + 9] + b"\x03"
    scans = b""
    for number, plane in enumerate(planes, 1):
        (start, end), tables = JpegLayout(plane).pieces[0], plane.index(b"\xff\xc4")
        scan = plane.index(b"\xff\xda")
        scans += plane[tables:scan] + bytes([0xFF, 0xDA, 0, 8, 1, number, 0, 0, 63, 0])
        scans += plane[start:end]
    return head + components + scans + END


def test_a_scan_for_each_component() -> None:
    content = with_three_scans()
    check_good(content)
    layout = JpegLayout(content)
    assert len(layout.pieces) == 3
    assert not layout.has_one_scan
    for start, end in layout.pieces:
        assert is_refused(content[: (start + end) // 2] + END)
        assert is_refused(content[: (start + end) // 2] + content[end:])
        assert is_refused(content[:start] + content[start + 99 :])
    assert is_refused(content[: layout.pieces[1][1]] + END)


# Damage.


def cut(content: bytes, place: int) -> bytes:
    return content[:place]


def cut_and_closed(content: bytes, place: int) -> bytes:
    return content[:place] + END


def zeros_to_the_end(content: bytes, place: int) -> bytes:
    return content[:place] + bytes(len(content) - place)


def zeros_and_end_marker(content: bytes, place: int) -> bytes:
    return zeros_to_the_end(content, place)[:-2] + END


def ones_to_the_end(content: bytes, place: int) -> bytes:
    return content[:place] + b"\xff" * (len(content) - place)


@pytest.mark.parametrize("coding", CODINGS)
@pytest.mark.parametrize(
    "damage", [cut, cut_and_closed, zeros_to_the_end, zeros_and_end_marker, ones_to_the_end]
)
@pytest.mark.parametrize("picture", ["photograph", "gray", "CMYK"])
def test_a_lost_end_is_found_wherever_it_begins(picture: str, damage: Any, coding: str) -> None:
    content = save(PICTURES[picture](), **CODINGS[coding])
    start, end = JpegLayout(content).pieces[0][0], JpegLayout(content).pieces[-1][1]
    for place in np.linspace(start, end - 250, 23).astype(int).tolist():
        assert is_refused(damage(content, place)), place


def test_a_cut_in_the_last_block_is_found() -> None:
    content = save(photograph("L"), quality=100)
    for missing in range(4, 60):
        assert is_refused(content[:-missing]), missing


def test_a_lost_end_of_a_drawing_is_found() -> None:
    """Zeros are legal in its data, but they are too few, or too many."""
    for options in ({}, {"optimize": True}, {"progressive": True}):
        content = save(drawing(), **options)
        place = (JpegLayout(content).pieces[0][0] + len(content)) // 2
        for damage in (cut, cut_and_closed, zeros_to_the_end, zeros_and_end_marker):
            assert is_refused(damage(content, place)), (options, damage)


def test_a_cut_between_two_restart_markers_is_found() -> None:
    content = save(photograph(), restart_marker_rows=2)
    for _, end in JpegLayout(content).pieces[:-1]:
        assert is_refused(content[:end] + END)


def test_a_part_between_two_restart_markers_that_is_missing_is_found() -> None:
    content = save(photograph(), restart_marker_rows=1)
    pieces = JpegLayout(content).pieces
    for (_, end), (_, next_end) in pairwise(pieces):
        assert is_refused(content[:end] + content[next_end:])


@pytest.mark.parametrize("wide", [False, True])
def test_zeros_in_a_table_of_quantization_are_found(wide: bool) -> None:
    """A divisor is at least 1; libjpeg reads 0 without a word, and loses the coefficient."""
    content = save(photograph())
    place = content.index(b"\xff\xdb") + 2
    size = int.from_bytes(content[place : place + 2])
    numbers = content[place + 3 : place + size]
    table = b"\x10" + b"".join(bytes([0, n]) for n in numbers) if wide else b"\0" + numbers
    head, tail = content[:place], content[place + size :]
    check_good(head + (2 + len(table)).to_bytes(2) + table + tail)
    table = table[:-2] + bytes(2)
    assert is_refused(head + (2 + len(table)).to_bytes(2) + table + tail)
    assert is_refused(head + (2 + len(table[:-9])).to_bytes(2) + table[:-9] + tail)


def test_the_last_scans_of_a_progressive_file_are_needed() -> None:
    content = save(photograph(), progressive=True)
    for _, end in JpegLayout(content).pieces[:-1]:
        assert is_refused(content[:end] + END)


def test_a_progressive_file_beyond_the_limit_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """libjpeg would have all of its coefficients in memory, also at a reduced size."""
    monkeypatch.setattr(jpeg_decoder, "MOST_PIXELS", 331 * 245 - 1)
    check_good(save(photograph()))
    for content in (save(photograph(), progressive=True), with_three_scans()):
        picture = open_jpeg(content, (20, 20))
        find_lost_data(picture)
        with pytest.raises(UnreadableImageError, match="81,094 pixels for a progressive JPEG"):
            picture.load()


# Real photographs.


@cache
def photographs() -> list[bytes]:
    """100 photographs of the mirror."""
    mirror = os.environ.get("DATASET_MIRROR")
    if not mirror:
        pytest.skip("DATASET_MIRROR is not set")
    path = Path(mirror) / "cats_and_dogs_small" / "cats_and_dogs_small.zip"
    with zipfile.ZipFile(path) as archive:
        names = sorted(name for name in archive.namelist() if name.endswith(".jpg"))
        return [archive.read(name) for name in names[::30]]


def sectors(content: bytes, generator: random.Random) -> Iterator[bytes]:
    """Yield the file with a sector of a disk in zeros, in its coded data."""
    for size in (512, 4096):
        start, end = JpegLayout(content).pieces[0]
        if end - start > size + 64:
            place = generator.randrange(start, end - size)
            yield content[:place] + bytes(size) + content[place + size :]


def test_real_photographs_and_damaged_ones() -> None:
    generator = random.Random(1)
    for content in photographs():
        check_good(content)
        check_good(content, (100, 100))
        for damage in (cut, cut_and_closed, zeros_to_the_end, zeros_and_end_marker):
            place = generator.randrange(JpegLayout(content).pieces[0][0], len(content) - 80)
            assert is_refused(damage(content, place))
        for damaged in sectors(content, generator):
            assert is_refused(damaged)


# Very large photographs.


def decode(content: bytes, side_px: int, interpolation: Any) -> tuple[Image.Image, Any]:
    spec = ImageSpec(
        height_px=side_px, width_px=side_px, channels=1, fit="stretch", interpolation=interpolation
    )
    picture = open_image(content)
    return picture, decode_and_resize(picture, spec)


@cache
def photograph_of_108_megapixels() -> bytes:
    return save(Image.linear_gradient("L").resize((12_000, 9_000), Image.Resampling.BOX))


def test_a_photograph_of_108_megapixels_is_read_at_a_reduced_size() -> None:
    picture, image = decode(photograph_of_108_megapixels(), 256, "bilinear")
    assert picture.size == (1_500, 1_125)  # all that is in memory
    gradient = np.linspace(0, 255, 256)[:, np.newaxis]
    assert np.abs(image[..., 0] - gradient).max() < 3


def test_108_megapixels_at_the_full_size_are_refused() -> None:
    with pytest.raises(UnreadableImageError, match="more than the limit of 89,478,485 pixels"):
        decode(photograph_of_108_megapixels(), 256, "nearest")


def test_a_lost_half_of_108_megapixels_is_found() -> None:
    content = photograph_of_108_megapixels()
    half = len(content) // 2
    with pytest.raises(UnreadableImageError, match="damaged: "):
        decode(content[:half] + bytes(half), 256, "bilinear")


def test_a_photograph_with_a_second_picture_is_read_at_a_reduced_size() -> None:
    stream = BytesIO()
    photograph().resize((1_600, 1_200)).save(
        stream, "MPO", save_all=True, append_images=[drawing()]
    )
    picture, _ = decode(stream.getvalue(), 128, "bilinear")
    assert picture.format == "MPO"
    assert picture.size == (200, 150)


def test_more_pixels_than_pillow_reads_are_refused() -> None:
    content = bytearray(save(Image.new("L", (8, 8))))
    place = content.index(b"\xff\xc0") + 5
    content[place : place + 4] = (14_000).to_bytes(2) + (14_000).to_bytes(2)
    with pytest.raises(UnreadableImageError, match="more than the limit of 178,956,970 pixels"):
        open_image(bytes(content))
