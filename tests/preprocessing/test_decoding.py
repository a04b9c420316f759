import random
import struct
import subprocess
import sys
import zlib
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import BmpImagePlugin, Image, features
from support import ROOT, SRC

from imgpipe.core.errors import UnreadableImageError
from imgpipe.preprocessing import decoding
from imgpipe.preprocessing.decoding import (
    FORMAT_OF_SUFFIX,
    START_BYTES,
    decode_and_resize,
    find_format,
    open_image,
)
from imgpipe.settings.params import load_params
from imgpipe.settings.preprocess import Preprocess

BASE = load_params(ROOT / "params.yaml").preprocess


def to_shape(shape: tuple[int, int, int], **changes: Any) -> Preprocess:
    height_px, width_px, channels = shape
    sides = {"height_px": height_px, "width_px": width_px, "channels": channels}
    return BASE.model_copy(update=sides | changes)


def noise(*shape: int) -> NDArray[np.uint8]:
    return np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)


def picture_of(image: NDArray[np.uint8]) -> Image.Image:
    return Image.fromarray(image[..., 0] if image.shape[2] == 1 else image)


def scene(width_px: int, height_px: int) -> Image.Image:
    """A picture whose quarters differ: red above green at the left, blue at the right."""
    image = np.zeros((height_px, width_px, 3), dtype=np.uint8)
    image[: height_px // 2, : width_px // 2, 0] = 255
    image[height_px // 2 :, : width_px // 2, 1] = 255
    image[:, width_px // 2 :, 2] = 255
    return Image.fromarray(image)


def save(picture: Image.Image, file_format: str, **options: Any) -> bytes:
    stream = BytesIO()
    picture.copy().save(stream, file_format, **options)  # saving leaves settings in a picture
    return stream.getvalue()


def read(content: bytes, settings: Preprocess) -> NDArray[np.uint8]:
    return decode_and_resize(open_image(content), settings)


def reason_of(content: bytes) -> str:
    with pytest.raises(UnreadableImageError) as caught:
        read(content, to_shape((8, 8, 3)))
    assert "\n" not in str(caught.value)
    return str(caught.value)


UPRIGHT = ["red", "blue", "green", "blue"]


def colors(image: NDArray[np.uint8]) -> list[str]:
    """Name the colors of the four quarters: top left, top right, bottom left, bottom right."""
    height_px, width_px, _ = image.shape
    rows, columns = (height_px // 4, 3 * height_px // 4), (width_px // 4, 3 * width_px // 4)
    names = ("red", "green", "blue")
    return [names[int(image[row, column].argmax())] for row in rows for column in columns]


# Shape, channels, interpolation.


SMALL, GRAY = noise(5, 7, 3), noise(2, 2, 1)
RED_GREEN_BLUE = 255 * np.eye(3, dtype=np.uint8)[np.newaxis]


@pytest.mark.parametrize(
    ("image", "shape", "interpolation", "expected"),
    [
        pytest.param(SMALL, (5, 7, 3), "bilinear", SMALL, id="nothing to do"),
        pytest.param(GRAY, (2, 2, 3), "bilinear", GRAY, id="gray to color by repetition"),
        pytest.param(RED_GREEN_BLUE, (1, 3, 1), "bilinear", [[[76], [150], [29]]], id="ITU 601"),
        pytest.param(GRAY, (6, 6, 1), "nearest", GRAY.repeat(3, 0).repeat(3, 1), id="repetition"),
    ],
)
def test_pixels_of_simple_images(
    image: NDArray[np.uint8], shape: tuple[int, int, int], interpolation: str, expected: Any
) -> None:
    settings = to_shape(shape, interpolation=interpolation)
    assert (decode_and_resize(picture_of(image), settings) == expected).all()


@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic", "lanczos"])
def test_shrinking_averages_so_that_fine_stripes_do_not_alias(interpolation: str) -> None:
    stripes = np.zeros((64, 64, 1), dtype=np.uint8)
    stripes[:, ::2] = 255
    settings = to_shape((9, 9, 1), interpolation=interpolation)
    shrunk = decode_and_resize(picture_of(stripes), settings).astype(int)
    assert (np.abs(shrunk - 127.5) < 20).all()


# How a picture of other proportions fits.


def test_cropping_keeps_the_middle_and_its_proportions() -> None:
    image = np.zeros((40, 80, 3), dtype=np.uint8)
    image[:, 20:60] = 255  # the middle square is white
    settings = to_shape((10, 10, 3), fit="crop", interpolation="nearest")
    for turned in (image, image.swapaxes(0, 1)):
        assert (decode_and_resize(Image.fromarray(turned), settings) == 255).all()


def test_padding_keeps_everything_between_black_bars() -> None:
    white = Image.new("RGB", (80, 40), "white")
    result = decode_and_resize(white, to_shape((20, 20, 3), fit="pad"))
    assert result[:, 0, 0].tolist() == [0] * 5 + [255] * 10 + [0] * 5
    assert (result == result[:, :1, :1]).all()


@example((1000, 1), "RGB", (20, 20, 3), "stretch", "bilinear")
@example((1000, 1), "RGB", (20, 20, 3), "crop", "bilinear")
@example((1000, 1), "RGB", (20, 20, 3), "pad", "bilinear")
@given(
    st.tuples(st.integers(1, 600), st.integers(1, 600)),
    st.sampled_from(["L", "RGB"]),
    st.tuples(st.integers(1, 200), st.integers(1, 200), st.sampled_from([1, 3])),
    st.sampled_from(["stretch", "crop", "pad"]),
    st.sampled_from(["nearest", "bilinear", "bicubic", "lanczos"]),
)
def test_any_size_fits_any_shape(
    size: tuple[int, int], mode: str, shape: tuple[int, int, int], fit: str, interpolation: str
) -> None:
    picture = Image.new("L", size, 200).convert(mode)
    result = decode_and_resize(picture, to_shape(shape, fit=fit, interpolation=interpolation))
    assert result.shape == shape
    assert result.dtype == np.uint8
    if fit == "pad":
        assert set(np.unique(result)) <= {0, 200}
        assert (result == 200).any()
    else:
        assert (result == 200).all()


# Formats and modes.


BUILT_IN = sorted(suffix for suffix, name in FORMAT_OF_SUFFIX.items() if name != "HEIF")


def test_the_pinned_pillow_has_all_formats_but_heic() -> None:
    assert features.check("avif")
    assert features.check("webp")
    assert features.check("libtiff")
    assert set(FORMAT_OF_SUFFIX) - set(BUILT_IN) == {".heic", ".heif"}


@pytest.mark.parametrize("suffix", BUILT_IN)
def test_the_content_decides_the_format(suffix: str) -> None:
    content = save(scene(40, 32), FORMAT_OF_SUFFIX[suffix])
    assert find_format(content) == FORMAT_OF_SUFFIX[suffix]
    assert find_format(content[:START_BYTES]) == FORMAT_OF_SUFFIX[suffix]
    result = read(content, to_shape((16, 20, 3)))
    assert colors(result) == UPRIGHT


@pytest.mark.parametrize("suffix", [".gif", ".webp", ".png", ".avif", ".tif"])
def test_the_first_frame_of_an_animation(suffix: str) -> None:
    first, second = (Image.new("RGB", (8, 8), color) for color in ("red", "blue"))
    content = save(first, FORMAT_OF_SUFFIX[suffix], save_all=True, append_images=[second])
    red, _, blue = read(content, to_shape((8, 8, 3)))[4, 4].tolist()
    assert red > 200 > 50 > blue


INVERSE = {
    1: None, 2: Image.Transpose.FLIP_LEFT_RIGHT, 3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM, 5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_90, 7: Image.Transpose.TRANSVERSE, 8: Image.Transpose.ROTATE_270,
}  # fmt: skip


def turn(upright: Image.Image, orientation: int) -> Image.Image:
    """Return what a camera stores for an upright picture."""
    inverse = INVERSE[orientation]
    return upright if inverse is None else upright.transpose(inverse)


def exif_of(orientation: int) -> Image.Exif:
    exif = Image.Exif()
    exif[0x0112] = orientation
    return exif


@pytest.mark.parametrize("orientation", INVERSE)
@pytest.mark.parametrize("suffix", [".avif", ".jpg", ".png", ".tif", ".webp"])
@pytest.mark.parametrize("fit", ["stretch", "crop", "pad"])
def test_the_exif_orientation_is_applied(orientation: int, suffix: str, fit: str) -> None:
    """What a camera stores is the upright picture turned by the inverse of the orientation."""
    upright = scene(640, 480)
    stored = turn(upright, orientation)
    content = save(stored, FORMAT_OF_SUFFIX[suffix], exif=exif_of(orientation))
    result = read(content, to_shape((48, 64, 3), fit=fit))
    assert colors(result) == UPRIGHT
    expected = decode_and_resize(upright, to_shape((48, 64, 3), fit=fit)).astype(int)
    assert np.abs(result - expected).mean() < 2


def test_the_decoders_own_scaling_is_close_to_resizing_alone() -> None:
    generator = np.random.default_rng(1)
    rough = Image.fromarray(generator.integers(0, 256, (9, 12, 3), dtype=np.uint8))
    content = save(rough.resize((1200, 900), Image.Resampling.BICUBIC), "JPEG", quality=95)
    for fit in ("stretch", "crop", "pad"):
        settings = to_shape((100, 100, 3), fit=fit)
        with Image.open(BytesIO(content)) as whole:
            whole.load()  # at its full size, so that nothing is left to scale while decoding
            expected = decode_and_resize(whole, settings).astype(int)
        assert np.abs(read(content, settings) - expected).mean() < 3


@pytest.mark.parametrize("orientation", [1, 6])
@pytest.mark.parametrize(
    ("fit", "needed"), [("stretch", (400, 50)), ("crop", (400, 800)), ("pad", (25, 50))]
)
def test_the_decoder_scales_but_never_below_what_is_needed(
    orientation: int, fit: str, needed: tuple[int, int]
) -> None:
    """An upright picture of 800 x 1600, for a shape of 400 wide and 50 high."""
    stored = (800, 1600) if orientation == 1 else (1600, 800)
    picture = open_image(save(scene(*stored), "JPEG", exif=exif_of(orientation)))
    assert picture.size == stored
    decode_and_resize(picture, to_shape((50, 400, 3), fit=fit))
    width_px, height_px = picture.size if orientation == 1 else picture.size[::-1]
    assert needed[0] <= width_px < 800
    assert needed[1] <= height_px


def test_fine_stripes_of_a_photograph_do_not_alias() -> None:
    stripes = np.zeros((640, 640), dtype=np.uint8)
    stripes[:, ::2] = 255
    content = save(Image.fromarray(stripes), "JPEG", quality=100)
    shrunk = read(content, to_shape((90, 90, 1))).astype(int)
    assert np.abs(shrunk - 127.5).max() < 25


# Files that cannot be read.


NO_IMAGES = {
    "text": b"hello\n" * 100,
    "a text that begins as a bitmap": b"BM is short for bitmap",
    "a sound": b"RIFF\x24\0\0\0WAVEfmt " + bytes(100),
    "a video": b"\0\0\0\x18ftypmp42\0\0\0\0mp42isom" + bytes(100),
    "a container that ends in its brands": b"\0\0\0\x18ftyp",
    "an image in a format that is not read": save(scene(8, 8), "PPM"),
    "only the first byte": b"\xff",
}


@pytest.mark.parametrize("content", NO_IMAGES.values(), ids=NO_IMAGES)
def test_a_file_that_is_no_image(content: bytes) -> None:
    assert find_format(content) is None
    assert reason_of(content) == "not an image, not supported, or its beginning is damaged"


def test_an_empty_file() -> None:
    assert find_format(b"") is None
    assert reason_of(b"") == "empty file"


@pytest.mark.parametrize("suffix", BUILT_IN)
def test_truncated_files(suffix: str) -> None:
    content = save(picture_of(noise(60, 80, 3)), FORMAT_OF_SUFFIX[suffix])
    for share in (0.3, 0.6, 0.9):
        reason = reason_of(content[: int(share * len(content))])
        assert reason.startswith(
            ("damaged: ", "not an image, not supported, or its beginning is damaged")
        )


def test_damaged_pixels_of_a_png_file_are_noticed_once_and_for_all() -> None:
    """Pillow reads a damaged PNG file without an error at the second try."""
    content = save(picture_of(noise(30, 40, 3)), "PNG")
    start = content.index(b"IDAT")
    for place in range(100, 2_000, 100):
        chunk = bytearray(content[start:-16])  # without its checksum, and the last chunk
        chunk[place] ^= 0xFF
        checksum = struct.pack(">L", zlib.crc32(chunk))
        assert reason_of(content[:start] + chunk + checksum + content[-12:])


def test_more_pixels_than_the_limit_are_not_even_decoded() -> None:
    for side in (10_000, 20_000):
        content = save(Image.new("1", (side, side)), "PNG")
        assert len(content) < 100_000
        assert reason_of(content) == "more than the limit of 89,478,485 pixels"


def sample_files() -> dict[str, list[bytes]]:
    """Small files of many kinds, by their ending."""
    color, gray = scene(24, 18), Image.fromarray(noise(18, 24))
    red = Image.new("RGBA", (24, 18), (255, 0, 0, 128))
    palette = red.convert("P", palette=Image.Palette.ADAPTIVE)
    deep = Image.fromarray(np.arange(18 * 24, dtype=np.uint16).reshape(18, 24) * 150)
    rough = Image.fromarray(np.linspace(0, 1, 18 * 24, dtype=np.float32).reshape(18, 24))
    dots = gray.convert("1")
    exif = exif_of(6)
    exif[0x011A] = 72.0
    exif.get_ifd(0x8825)[1] = "N"
    meta: dict[str, Any] = {"exif": exif, "xmp": b'<a tiff:Orientation="3"/>'}

    def animate(file_format: str) -> bytes:
        return save(color, file_format, save_all=True, append_images=[red.convert("RGB")])

    return {
        ".jpg": [
            save(color, "JPEG", **meta, icc_profile=b"icc" * 20, comment=b"comment"),
            save(gray, "JPEG", progressive=True),
            save(color.convert("CMYK"), "JPEG", restart_marker_rows=1),
            animate("MPO"),
        ],
        ".png": [
            *(save(picture, "PNG") for picture in (gray, red, palette, deep, dots)),
            save(color, "PNG", exif=exif, transparency=(255, 0, 0), dpi=(72, 72)),
            animate("PNG"),
        ],
        ".webp": [
            save(red, "WEBP", **meta),
            save(color, "WEBP", lossless=True),
            animate("WEBP"),
        ],
        ".gif": [animate("GIF"), save(palette, "GIF"), save(gray, "GIF")],
        ".bmp": [save(picture, "BMP") for picture in (color, gray, red, dots)],
        ".tif": [
            *(save(picture, "TIFF") for picture in (gray, red, palette, deep, rough, dots)),
            save(color, "TIFF", exif=exif, big_tiff=True),
            *(
                save(color, "TIFF", compression=f"tiff_{name}", exif=exif)
                for name in ("lzw", "adobe_deflate", "jpeg")
            ),
            save(dots, "TIFF", compression="group4"),
            save(color.convert("CMYK"), "TIFF", compression="packbits"),
            save(color.convert("LAB"), "TIFF"),
            animate("TIFF"),
        ],
        ".avif": [
            save(red, "AVIF", **meta), save(gray, "AVIF"), animate("AVIF"),
        ],
    }  # fmt: skip


def mutate(content: bytes, generator: random.Random) -> bytes:
    """Damage a file at one to four places, most of them near its beginning."""
    damaged = bytearray(content)
    for _ in range(generator.choice([1, 1, 2, 4])):
        reach = min(len(damaged), generator.choice([40, 200, 1000, len(damaged)]))
        place = generator.randrange(max(1, reach))
        size = generator.choice([1, 1, 2, 4])
        match generator.randrange(7):
            case 0 | 1:
                damaged[place : place + size] = generator.randbytes(size)
            case 2:
                damaged[place : place + size] = generator.choice([b"\0", b"\xff"]) * size
            case 3:
                del damaged[place : place + generator.choice([1, 4, 100])]
            case 4:
                damaged[place:place] = generator.randbytes(size)
            case 5:
                start = generator.randrange(max(1, len(damaged)))
                damaged[place : place + 12] = damaged[start : start + 12]
            case 6 if generator.random() < 0.3:
                del damaged[place:]
    return bytes(damaged)


def read_damaged(rounds: int, seed: int) -> Iterator[tuple[str, bytes, str]]:
    """Read mutations of all sample files; yield ending, content, and the reason or "".

    An exception other than UnreadableImageError comes out.
    """
    generator = random.Random(seed)
    specs = [
        to_shape((8, 6, 3), fit="crop"),
        to_shape((9, 9, 1), fit="pad", interpolation="nearest"),
        to_shape((30, 40, 3), fit="stretch"),
    ]
    samples = sample_files()
    for _ in range(rounds):
        for suffix, contents in samples.items():
            for content in contents:
                damaged = mutate(content, generator)
                try:
                    read(damaged, generator.choice(specs))
                    yield suffix, damaged, ""
                except UnreadableImageError as error:
                    yield suffix, damaged, str(error)


def test_whatever_is_wrong_with_a_file_is_a_reason(capfd: pytest.CaptureFixture[str]) -> None:
    """Damage at random places gives an image or a reason, and nothing else."""
    results = list(read_damaged(100, seed=1))
    assert len(results) > 3_000
    for suffix in sample_files():
        reasons = [reason for found, _, reason in results if found == suffix]
        assert 0.1 < np.mean([reason != "" for reason in reasons]) < 0.95, suffix
    for _, _, reason in results:
        assert len(reason) < 130
        assert reason.isprintable()
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("suffix", [".avif", ".jpg", ".png", ".webp"])
def test_whatever_is_wrong_with_the_exif_block_the_image_is_read(suffix: str) -> None:
    generator = random.Random(2)
    tags = sorted([RIGHT_TOP, INCHES, *list(BROKEN_TAGS.values())[::3]])
    block = exif_block(*tags)
    picture = scene(64, 48)
    orientations = set()
    for _ in range(300):
        damaged = bytearray(block)
        for _ in range(generator.choice([1, 2, 4])):
            damaged[generator.randrange(6, len(block))] = generator.choice([0, 255, 3, 6, 90])
        content = save_with_exif(picture, suffix, bytes(damaged))
        result = read(content, to_shape((24, 24, 3)))
        orientations.add(tuple(colors(result)))
    assert ("red", "blue", "green", "blue") in orientations
    assert len(orientations) == 1 if suffix == ".avif" else len(orientations) > 1


@pytest.mark.parametrize("error", [RuntimeError, ZeroDivisionError, AttributeError, OSError])
@pytest.mark.parametrize("step", ["_open", "load"])
def test_whatever_a_decoder_raises_is_a_reason(
    error: type[Exception], step: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise error(f"two\n  lines, \x1b[1m\ud800 and more{80 * ' words'}")

    content = save(scene(8, 8), "BMP")
    monkeypatch.setattr(BmpImagePlugin.BmpImageFile, step, fail)
    reason = reason_of(content)
    if step == "load":
        assert reason.startswith("damaged: two lines, [1m and more words words")
    assert len(reason) <= 110


@pytest.mark.parametrize("error", [MemoryError, KeyboardInterrupt])
@pytest.mark.parametrize("step", ["_open", "load"])
def test_a_lack_of_memory_and_an_interruption_come_out(
    error: type[BaseException], step: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise error

    content = save(scene(8, 8), "BMP")
    monkeypatch.setattr(BmpImagePlugin.BmpImageFile, step, fail)
    with pytest.raises(error):
        read(content, to_shape((8, 8, 3)))


# HEIC, which an optional package reads.

HEIC_WITHOUT_CONTENT = b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + bytes(60)


@pytest.mark.parametrize(
    ("brands", "expected"),
    [
        ("heic", "HEIF"), ("heix mif1", "HEIF"), ("mif1 heic", "HEIF"), ("msf1 hevc", "HEIF"),
        ("avif mif1", "AVIF"), ("mif1 avif", "AVIF"), ("isom mp41", None), ("crx isom", None),
    ],
)  # fmt: skip
def test_the_brands_of_a_container_decide_its_format(brands: str, expected: str | None) -> None:
    first, *others = (brand.ljust(4).encode() for brand in brands.split())
    box = b"ftyp" + first + bytes(4) + b"".join(others)
    content = struct.pack(">L", len(box) + 4) + box + b"moov" + 8 * b"heic"
    assert find_format(content) == expected


@pytest.fixture
def _fresh_registry(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Forget afterwards what a test registers."""
    monkeypatch.setattr(Image, "OPEN", dict(Image.OPEN))
    monkeypatch.setattr(Image, "ID", list(Image.ID))
    decoding._register_heif.cache_clear()
    yield
    decoding._register_heif.cache_clear()


@pytest.mark.usefixtures("_fresh_registry")
def test_without_the_package_a_heic_file_is_unreadable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pillow_heif", None)
    assert reason_of(HEIC_WITHOUT_CONTENT) == (
        "HEIC needs the package pillow-heif; install it:"
        " pip install --require-hashes -r requirements-heic.txt"
    )
    assert (ROOT / "requirements-heic.txt").exists()


@pytest.mark.usefixtures("_fresh_registry")
def test_the_package_is_imported_at_the_first_heic_file(monkeypatch: pytest.MonkeyPatch) -> None:
    """With a package that stands in for it: it reads BMP files behind the beginning of HEIC."""
    registered = []

    class Stub(BmpImagePlugin.BmpImageFile):
        format = "HEIF"

        def _open(self) -> None:
            assert self.fp is not None
            content = self.fp.read()
            self.fp = BytesIO(content.removeprefix(HEIC_WITHOUT_CONTENT))
            super()._open()

    def register() -> None:
        registered.append(True)
        Image.register_open("HEIF", Stub)

    monkeypatch.setitem(sys.modules, "pillow_heif", SimpleNamespace(register_heif_opener=register))
    content = save(scene(40, 32), "BMP")
    assert read(content, to_shape((16, 20, 3))).shape == (16, 20, 3)
    assert registered == []
    for _ in range(2):
        result = read(HEIC_WITHOUT_CONTENT + content, to_shape((16, 20, 3)))
        assert colors(result) == UPRIGHT
    assert registered == [True]
    damaged = "not an image, not supported, or its beginning is damaged"
    assert reason_of(HEIC_WITHOUT_CONTENT) == damaged


@pytest.mark.parametrize("orientation", INVERSE)
@pytest.mark.parametrize("channels", [1, 3])
def test_heic_by_the_package(orientation: int, channels: int) -> None:
    """Not in requirements.txt, so this test runs only where the package is installed."""
    pytest.importorskip("pillow_heif").register_heif_opener()
    stored = turn(scene(64, 48), orientation)
    content = save(stored, "HEIF", exif=exif_of(orientation).tobytes())
    result = read(content, to_shape((24, 32, channels)))
    assert result.shape == (24, 32, channels)
    assert channels == 1 or colors(result) == UPRIGHT
    assert reason_of(content[:-100])


# Odd metadata.


def exif_block(*entries: tuple[int, int, int, bytes], endian: str = ">") -> bytes:
    """An EXIF block whose entries are tag, type, count and the four bytes of value or offset."""
    block = b"Exif\0\0" + (b"MM\0*" if endian == ">" else b"II*\0") + struct.pack(endian + "L", 8)
    block += struct.pack(endian + "H", len(entries))
    for tag, kind, count, value in entries:
        block += struct.pack(endian + "HHL", tag, kind, count) + value.ljust(4, b"\0")
    return block + bytes(4)


SHORT, LONG, ASCII, RATIONAL = 3, 4, 2, 5
RIGHT_TOP = (0x0112, SHORT, 1, struct.pack(">H", 6))  # an orientation, as of an upright phone
INCHES = (0x0128, SHORT, 1, struct.pack(">H", 2))

NO_ORIENTATION = {
    "zero": exif_block((0x0112, SHORT, 1, bytes(2))),
    "too high": exif_block((0x0112, SHORT, 1, b"\0\x09")),
    "text": exif_block((0x0112, ASCII, 2, b"6")),
    "empty text": exif_block((0x0112, ASCII, 0, b"")),
    "a byte": exif_block((0x0112, 1, 1, b"\6")),
    "bytes": exif_block((0x0112, 7, 4, b"\0\0\0\6")),
    "not a number": exif_block((0x0112, 11, 1, struct.pack(">f", float("nan")))),
    "an offset behind the end": exif_block((0x0112, RATIONAL, 1, b"\0\xff\0\0")),
    "an unknown type": exif_block((0x0112, 99, 1, b"\0\6")),
    "no values": exif_block((0x0112, SHORT, 0, b"\0\6")),
    "too many values": exif_block((0x0112, SHORT, 2**31, b"\0\6")),
    "cut in the entry": exif_block(RIGHT_TOP)[:20],
    "cut in the head": exif_block(RIGHT_TOP)[:11],
    "cut after the head": exif_block(RIGHT_TOP)[:14],
    "cut behind the name": exif_block(RIGHT_TOP)[:6],
    "no head": b"Exif\0\0" + b"x" * 30,
}
BROKEN_TAGS = {
    "GPS behind the end": (0x8825, LONG, 1, b"\xff\xff\xff\0"),
    "GPS before the beginning": (0x8825, 9, 1, b"\xff\xff\xff\xff"),
    "GPS in itself": (0x8825, LONG, 1, b"\0\0\0\x08"),
    "GPS as text": (0x8825, ASCII, 3, b"ab"),
    "GPS as a broken number": (0x8825, 11, 1, b"\x7f\xc0\0\0"),
    "camera's tags behind the end": (0x8769, LONG, 1, b"\xff\xff\xff\0"),
    "camera's tags as text": (0x8769, ASCII, 3, b"ab"),
    "resolution as empty text": (0x011A, ASCII, 1, b""),
    "resolution as bytes": (0x011A, 7, 4, b"\0abc"),
    "resolution without a value": (0x011A, RATIONAL, 0, b""),
    "resolution divided by zero": (0x011A, RATIONAL, 1, b"\0\0\0\x12"),
    "an artist in no encoding": (0x013B, ASCII, 4, b"\xff\xfea"),
}


def save_with_exif(picture: Image.Image, suffix: str, block: bytes) -> bytes:
    """Save a picture with an EXIF block that Pillow would not write."""
    content = save(picture, FORMAT_OF_SUFFIX[suffix])
    match suffix:
        case ".jpg":
            return b"%b\xff\xe1%b%b%b" % (
                content[:2], struct.pack(">H", len(block) + 2), block, content[2:]
            )  # fmt: skip
        case ".png":
            chunk = b"eXIf" + block[6:]
            return b"%b%b%b%b%b" % (
                content[:33], struct.pack(">L", len(chunk) - 4), chunk,
                struct.pack(">L", zlib.crc32(chunk)), content[33:],
            )  # fmt: skip
        case ".webp":
            return save(picture, "WEBP", exif=block)
    # AVIF: a block that Pillow writes, with another of the same size in its place.
    exif = Image.Exif()
    exif[0x010E] = "x" * len(block)
    content = save(picture, "AVIF", exif=exif)
    start = content.index(b"MM\0*")
    return content[:start] + block[6:] + content[start + len(block) - 6 :]


@pytest.mark.parametrize("suffix", [".avif", ".jpg", ".png", ".webp"])
@pytest.mark.parametrize("name", NO_ORIENTATION)
def test_an_orientation_that_makes_no_sense_is_ignored(suffix: str, name: str) -> None:
    content = save_with_exif(scene(64, 48), suffix, NO_ORIENTATION[name])
    assert colors(read(content, to_shape((24, 32, 3)))) == UPRIGHT


@pytest.mark.parametrize("suffix", [".jpg", ".png", ".webp"])
@pytest.mark.parametrize("name", BROKEN_TAGS)
def test_a_broken_tag_beside_the_orientation_is_ignored(suffix: str, name: str) -> None:
    tags = sorted([BROKEN_TAGS[name], RIGHT_TOP, INCHES])
    stored = scene(64, 48).transpose(Image.Transpose.ROTATE_90)
    content = save_with_exif(stored, suffix, exif_block(*tags))
    assert colors(read(content, to_shape((24, 32, 3)))) == UPRIGHT


@pytest.mark.parametrize("name", BROKEN_TAGS)
def test_a_broken_tag_of_an_avif_file_is_ignored(name: str) -> None:
    """Its orientation is not in the EXIF block."""
    content = save_with_exif(scene(64, 48), ".avif", exif_block(BROKEN_TAGS[name], INCHES))
    assert colors(read(content, to_shape((24, 32, 3)))) == UPRIGHT


@pytest.mark.parametrize("name", ["GPS behind the end", "GPS before the beginning", "GPS as text"])
@pytest.mark.parametrize("orientation", [1, 6])
@pytest.mark.parametrize("compression", ["raw", "tiff_lzw", "jpeg"])
def test_a_broken_tag_of_a_tiff_page_is_ignored(
    name: str, orientation: int, compression: str
) -> None:
    exif = exif_of(orientation)
    exif[0x0131], exif[700] = "a program", b"XMP as numbers"
    stored = turn(scene(64, 48), orientation)
    content = save(stored, "TIFF", exif=exif, compression=compression)
    assert content.count(struct.pack("<HH", 700, 1)) == 1
    content = content.replace(struct.pack("<HH", 700, 1), struct.pack("<HH", 700, SHORT))
    start = content.index(struct.pack("<HH", 0x0131, ASCII))  # there the broken tag goes
    tag, kind, count, value = BROKEN_TAGS[name]
    broken = struct.pack("<HHL", tag, kind, count) + value.ljust(4, b"\0")
    content = content[:start] + broken + content[start + len(broken) :]
    assert colors(read(content, to_shape((24, 32, 3)))) == UPRIGHT


def test_odd_metadata_causes_no_output(tmp_path: Path) -> None:
    """In a new process that shows all warnings: neither warnings nor lines of a log."""
    strange = exif_block(RIGHT_TOP, BROKEN_TAGS["GPS behind the end"])[:-10]
    (tmp_path / "a.jpg").write_bytes(save_with_exif(scene(64, 48), ".jpg", strange))
    samples = struct.pack("<HHL", 277, SHORT, 1)
    tiff = save(scene(8, 8), "TIFF")
    start = tiff.index(samples) + len(samples)
    (tmp_path / "b.tif").write_bytes(tiff[:start] + b"\xff\0" + tiff[start + 2 :])
    code = (
        "import sys; from pathlib import Path; from imgpipe.preprocessing import decoding\n"
        "from imgpipe.core.errors import UnreadableImageError\n"
        "from imgpipe.settings.image_spec import ImageSpec\n"
        f"spec = ImageSpec(**{BASE.image_spec.model_dump()!r})\n"
        "for name in ('a.jpg', 'b.tif'):\n"
        "    content = Path(name).read_bytes()\n"
        "    try:\n"
        "        decoding.decode_and_resize(decoding.open_image(content), spec)\n"
        "    except UnreadableImageError as error: print(name, error)\n"
    )
    result = subprocess.run(
        [sys.executable, "-W", "always", "-c", code],
        cwd=tmp_path, env={"PYTHONPATH": SRC.as_posix()}, capture_output=True, text=True,
    )  # fmt: skip
    assert result.stderr == ""
    assert result.stdout.startswith("b.tif TIFF of 8-bit unsigned numbers, 255 for each pixel")
