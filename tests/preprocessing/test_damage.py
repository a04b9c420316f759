"""Files of other formats than JPEG with lost data are refused, and good ones are not."""

import random
import zlib
from collections.abc import Callable
from contextlib import suppress
from io import BytesIO
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageDraw

from imgpipe.core.errors import UnreadableImageError
from imgpipe.preprocessing.damage import check_content
from imgpipe.preprocessing.decoding import decode_and_resize, open_image
from imgpipe.settings.image_spec import ImageSpec

SPEC = ImageSpec(height_px=16, width_px=16, channels=3, fit="stretch", interpolation="bilinear")
Damage = Callable[[bytes], bytes]


def photograph(side: int = 256) -> Image.Image:
    """Noise on a rough scene, so that no part of the data is redundant."""
    generator = np.random.default_rng(0)
    rough = Image.fromarray(generator.integers(0, 256, (9, 12, 3), dtype=np.uint8))
    pixels = np.asarray(rough.resize((side, side), Image.Resampling.BICUBIC), dtype=int)
    noisy = pixels + generator.integers(-12, 13, pixels.shape)
    return Image.fromarray(np.clip(noisy, 0, 255).astype(np.uint8))


def drawing() -> Image.Image:
    picture = Image.new("RGB", (1600, 1200), "white")
    ImageDraw.Draw(picture).line((10, 50, 1500, 1180), fill="black", width=4)
    return picture


def with_hole() -> Image.Image:
    picture = Image.new("RGBA", (900, 700))
    picture.paste(photograph(), (300, 200))
    return picture


def save(picture: Image.Image, file_format: str, **options: Any) -> bytes:
    stream = BytesIO()
    picture.save(stream, file_format, **options)
    return stream.getvalue()


def read(content: bytes) -> str:
    """Return the reason why a file is refused; "" if it is read."""
    try:
        decode_and_resize(open_image(content), SPEC)
    except UnreadableImageError as error:
        return str(error)
    return ""


def cut(content: bytes) -> bytes:
    return content[: 2 * len(content) // 3]


def zeros_to_the_end(content: bytes) -> bytes:
    return content[: len(content) // 2].ljust(len(content), b"\0")


def sector(content: bytes) -> bytes:
    middle = len(content) // 2
    return content[:middle] + bytes(512) + content[middle + 512 :]


@pytest.mark.parametrize("damage", [cut, zeros_to_the_end, sector])
@pytest.mark.parametrize(
    ("file_format", "options"),
    [
        ("PNG", {}), ("GIF", {}), ("WEBP", {}), ("WEBP", {"quality": 100}), ("AVIF", {}),
        ("TIFF", {"compression": "tiff_lzw"}),
    ],
)  # fmt: skip
def test_lost_data_is_found(file_format: str, options: dict[str, Any], damage: Damage) -> None:
    content = save(photograph(), file_format, **options)
    assert read(content) == ""
    assert read(damage(content)) != ""


@pytest.mark.parametrize("damage", [cut, zeros_to_the_end])
def test_lost_data_of_lossless_webp_is_found(damage: Damage) -> None:
    content = save(photograph(), "WEBP", lossless=True)
    assert read(content) == ""
    assert read(damage(content)) != ""


@pytest.mark.parametrize("file_format", ["BMP", "TIFF"])
def test_a_cut_file_without_compression_is_found(file_format: str) -> None:
    content = save(photograph(), file_format)
    assert read(content) == ""
    assert read(cut(content)) != ""


@pytest.mark.parametrize("quality", [1, 80, 100])
@pytest.mark.parametrize("file_format", ["WEBP", "AVIF"])
@pytest.mark.parametrize("make", [photograph, drawing, with_hole])
def test_plain_areas_are_no_damage(make: Any, file_format: str, quality: int) -> None:
    options = {"speed": 9} if file_format == "AVIF" else {}
    assert read(save(make(), file_format, quality=quality, **options)) == ""


@pytest.mark.parametrize("method", [0, 4])
@pytest.mark.parametrize("color", ["white", (255, 0, 0, 0)])
def test_one_color_is_no_damage(color: Any, method: int) -> None:
    picture = Image.new("RGBA", (2000, 1500), color)
    for options in ({"lossless": True}, {"lossless": False, "quality": 50}):
        assert read(save(picture, "WEBP", method=method, **options)) == ""
    for file_format in ("PNG", "AVIF"):
        assert read(save(picture, file_format)) == ""


@pytest.mark.parametrize("file_format", ["WEBP", "AVIF", "PNG"])
def test_zeros_in_metadata_and_after_the_end_are_no_damage(file_format: str) -> None:
    exif = Image.Exif()
    exif[0xEA1C] = bytes(2_060)  # the padding of a well-known program
    content = save(photograph(), file_format, exif=exif)
    assert bytes(2_000) in content
    assert read(content) == ""
    assert read(content + bytes(4_096)) == ""


def test_the_first_picture_of_an_animation_is_checked() -> None:
    second = Image.new("RGB", (256, 256), "white")
    content = save(photograph(), "WEBP", save_all=True, append_images=[second])
    assert read(content) == ""
    place = content.index(b"VP8 ") + 3_000
    assert read(content[:place] + bytes(512) + content[place + 512 :]) != ""


def test_any_changed_byte_of_the_pixels_of_a_png_file_is_found() -> None:
    content = save(photograph(64), "PNG", compress_level=0)  # no Huffman codes that may break
    start = content.index(b"IDAT") + 4
    for place in range(start, len(content) - 30, 997):
        changed = bytearray(content)
        changed[place] ^= 4
        assert read(bytes(changed)) != "", place


def test_a_png_file_without_its_last_chunk_is_whole() -> None:
    content = save(photograph(64), "PNG")
    assert read(content[:-12]) == ""


@pytest.mark.parametrize("color", ["black", "red"])
@pytest.mark.parametrize("mode", ["1", "L", "P", "LA", "RGB", "RGBA", "I;16"])
@pytest.mark.parametrize("height", [1, 2, 9, 16])
def test_missing_rows_of_a_png_file_are_found(mode: str, height: int, color: str) -> None:
    """A program that stopped has written some rows, and closed the file with right checksums."""
    picture = Image.new("RGB", (13, height), color)
    picture = picture.convert("I") if mode == "I;16" else picture
    content = save(picture.convert(mode), "PNG")
    assert read(content) == ""
    rows = zlib.decompress(png_data(content))
    for missing in (1, len(rows) // height, len(rows) // 2):
        assert read(with_data(content, zlib.compress(rows[:-missing]))) != "", missing
    assert read(with_data(content, zlib.compress(rows + b"more"))) == ""


@pytest.mark.parametrize("gray", [0, 9])
@pytest.mark.parametrize("size", [(1, 1), (1, 7), (5, 1), (2, 5), (9, 13), (16, 8), (8, 17)])
def test_missing_rows_of_an_interlaced_png_file_are_found(size: tuple[int, int], gray: int) -> None:
    numbers = np.full(size, gray, np.uint8)
    parts = [
        numbers[0::8, 0::8], numbers[0::8, 4::8], numbers[4::8, 0::4], numbers[0::4, 2::4],
        numbers[2::4, 0::2], numbers[0::2, 1::2], numbers[1::2, :],
    ]  # fmt: skip
    rows = [b"\0" + row.tobytes() for part in parts for row in part if row.size]
    content = save(Image.fromarray(numbers), "PNG")
    content = content[:28] + b"\1" + zlib.crc32(content[12:28] + b"\1").to_bytes(4) + content[33:]
    assert read(with_data(content, zlib.compress(b"".join(rows)))) == ""
    for missing in range(1, len(rows)):
        assert read(with_data(content, zlib.compress(b"".join(rows[:-missing])))) != "", missing


def png_data(content: bytes) -> bytes:
    """Return the coded data of a PNG file with one chunk of data."""
    place = content.index(b"IDAT")
    return content[place + 4 : place + 4 + int.from_bytes(content[place - 4 : place])]


def with_data(content: bytes, data: bytes) -> bytes:
    """Return a PNG file with other coded data."""
    place, end = content.index(b"IDAT") - 4, content.index(b"IEND") - 4
    chunk = len(data).to_bytes(4) + b"IDAT" + data + zlib.crc32(b"IDAT" + data).to_bytes(4)
    return content[:place] + chunk + content[end:]


@pytest.mark.parametrize("file_format", ["AVIF", "HEIF", "PNG", "WEBP"])
def test_nonsense_ends_soon(file_format: str) -> None:
    """No other exception, for any lengths in the file."""
    generator = random.Random(0)
    sample = save(photograph(32), {"HEIF": "AVIF"}.get(file_format, file_format))
    for _ in range(2_000):
        damaged = bytearray(sample)
        for _ in range(generator.choice([1, 3, 9])):
            place = generator.randrange(min(len(damaged), 400))
            damaged[place] = generator.choice([0, 1, 255, generator.randrange(256)])
        with suppress(UnreadableImageError):
            check_content(bytes(damaged[: generator.choice([None, 20, 200])]), file_format, 1_024)


def test_the_checksum_is_that_of_zlib() -> None:
    """The chunk is written by hand, from the specification."""
    chunk = b"IDAT" + b"x" * 5
    good = bytes(8) + (5).to_bytes(4) + chunk + zlib.crc32(chunk).to_bytes(4)
    check_content(good, "PNG", 1)
    with pytest.raises(UnreadableImageError, match="wrong checksum"):
        check_content(good[:-1] + bytes([good[-1] ^ 1]), "PNG", 1)


@pytest.mark.parametrize("damage", [cut, zeros_to_the_end, sector])
def test_lost_data_of_heic_is_found(damage: Damage) -> None:
    """Not in requirements.txt, so this test runs only where the package is installed."""
    pytest.importorskip("pillow_heif").register_heif_opener()
    content = save(photograph(), "HEIF", quality=90)
    assert read(content) == ""
    assert read(damage(content)) != ""
