from io import BytesIO
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image
from support import ROOT

from imgpipe.core.errors import UnreadableImageError
from imgpipe.preprocessing.decoding import FORMAT_OF_SUFFIX, decode_and_resize, open_image
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
    picture.save(stream, file_format, **options)
    return stream.getvalue()


def read(content: bytes, suffix: str, settings: Preprocess) -> NDArray[np.uint8]:
    return decode_and_resize(open_image(content, suffix), settings)


def reason_of(content: bytes, suffix: str) -> str:
    with pytest.raises(UnreadableImageError) as caught:
        read(content, suffix, to_shape((8, 8, 3)))
    assert "\n" not in str(caught.value)
    return str(caught.value)


def colors(image: NDArray[np.uint8]) -> list[str]:
    """Name the colors of the four quarters: top left, top right, bottom left, bottom right."""
    height_px, width_px, _ = image.shape
    rows, columns = (height_px // 4, 3 * height_px // 4), (width_px // 4, 3 * width_px // 4)
    names = ("red", "green", "blue")
    return [names[int(image[row, column].argmax())] for row in rows for column in columns]


# Shape, channels, interpolation.


def test_an_image_of_the_right_shape_is_left_alone() -> None:
    image = noise(5, 7, 3)
    assert (decode_and_resize(picture_of(image), to_shape((5, 7, 3))) == image).all()


@pytest.mark.parametrize("interpolation", ["nearest", "bilinear", "bicubic", "lanczos"])
@pytest.mark.parametrize("shape", [(10, 4, 1), (3, 20, 3), (5, 7, 1)])
@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("fit", ["stretch", "crop", "pad"])
def test_shape_and_type(
    interpolation: str, shape: tuple[int, int, int], channels: int, fit: str
) -> None:
    settings = to_shape(shape, interpolation=interpolation, fit=fit)
    result = decode_and_resize(picture_of(noise(5, 7, channels)), settings)
    assert result.shape == shape
    assert result.dtype == np.uint8


def test_gray_becomes_color_by_repetition() -> None:
    image = noise(4, 4, 1)
    assert (decode_and_resize(picture_of(image), to_shape((4, 4, 3))) == image).all()


def test_color_becomes_gray_by_the_weights_of_itu_601() -> None:
    image = np.zeros((1, 3, 3), dtype=np.uint8)
    image[0, range(3), range(3)] = 255
    assert decode_and_resize(picture_of(image), to_shape((1, 3, 1))).ravel().tolist() == [
        76,
        150,
        29,
    ]


def test_nearest_repeats_pixels() -> None:
    image = noise(2, 2, 1)
    expected = image.repeat(3, axis=0).repeat(3, axis=1)
    settings = to_shape((6, 6, 1), interpolation="nearest")
    assert (decode_and_resize(picture_of(image), settings) == expected).all()


@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic", "lanczos"])
def test_shrinking_averages_so_that_fine_stripes_do_not_alias(interpolation: str) -> None:
    stripes = np.zeros((64, 64, 1), dtype=np.uint8)
    stripes[:, ::2] = 255
    settings = to_shape((9, 9, 1), interpolation=interpolation)
    shrunk = decode_and_resize(picture_of(stripes), settings).astype(int)
    assert (np.abs(shrunk - 127.5) < 20).all()


def test_a_flat_image_stays_flat() -> None:
    flat = np.full((9, 5, 3), 200, dtype=np.uint8)
    settings = to_shape((4, 8, 3), interpolation="lanczos")
    assert (decode_and_resize(picture_of(flat), settings) == 200).all()


# How a picture of other proportions fits.


def test_stretching_keeps_everything() -> None:
    result = decode_and_resize(scene(80, 40), to_shape((20, 20, 3), fit="stretch"))
    assert colors(result) == ["red", "blue", "green", "blue"]


def test_cropping_keeps_the_middle_and_its_proportions() -> None:
    image = np.zeros((40, 80, 3), dtype=np.uint8)
    image[:, 20:60] = 255  # the middle square is white
    settings = to_shape((10, 10, 3), fit="crop", interpolation="nearest")
    assert (decode_and_resize(Image.fromarray(image), settings) == 255).all()
    assert (decode_and_resize(Image.fromarray(image.swapaxes(0, 1)), settings) == 255).all()


def test_padding_keeps_everything_between_black_bars() -> None:
    white = Image.new("RGB", (80, 40), "white")
    result = decode_and_resize(white, to_shape((20, 20, 3), fit="pad"))
    assert (result[5:15] == 255).all()
    assert (result[:5] == 0).all()
    assert (result[15:] == 0).all()


@settings(max_examples=300, deadline=None)
@given(
    size=st.tuples(st.integers(1, 600), st.integers(1, 600)),
    shape=st.tuples(st.integers(1, 200), st.integers(1, 200)),
    fit=st.sampled_from(["stretch", "crop", "pad"]),
    interpolation=st.sampled_from(["nearest", "bilinear"]),
)
def test_any_size_fits_any_shape(
    size: tuple[int, int], shape: tuple[int, int], fit: str, interpolation: str
) -> None:
    to = to_shape((*shape, 1), fit=fit, interpolation=interpolation)
    result = decode_and_resize(Image.new("L", size, 200), to)
    assert result.shape == (*shape, 1)
    if fit == "pad":
        assert set(np.unique(result)) <= {0, 200}
        assert (result == 200).any()
    else:
        assert (result == 200).all()


def test_an_extreme_proportion_still_fits() -> None:
    line = Image.new("RGB", (1000, 1), "white")
    for fit in ("stretch", "crop", "pad"):
        assert decode_and_resize(line, to_shape((20, 20, 3), fit=fit)).max() == 255


# Formats and modes.


@pytest.mark.parametrize("suffix", sorted(FORMAT_OF_SUFFIX))
def test_each_format(suffix: str) -> None:
    content = save(scene(40, 32), FORMAT_OF_SUFFIX[suffix])
    result = read(content, suffix, to_shape((16, 20, 3)))
    assert colors(result) == ["red", "blue", "green", "blue"]


def test_the_first_frame_of_an_animation() -> None:
    frames = [Image.new("RGB", (8, 8), color) for color in ("red", "blue")]
    for suffix, file_format in ((".gif", "GIF"), (".webp", "WEBP"), (".png", "PNG")):
        content = save(frames[0], file_format, save_all=True, append_images=frames[1:])
        red, _, blue = read(content, suffix, to_shape((8, 8, 3)))[4, 4].tolist()
        assert red > 200 > 50 > blue


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize(("suffix", "file_format"), [(".jpg", "JPEG"), (".png", "PNG")])
@pytest.mark.parametrize("fit", ["stretch", "crop", "pad"])
def test_the_exif_orientation_is_applied(
    orientation: int, suffix: str, file_format: str, fit: str
) -> None:
    """What a camera stores is the upright picture turned by the inverse of the orientation."""
    inverse = {
        1: None, 2: Image.Transpose.FLIP_LEFT_RIGHT, 3: Image.Transpose.ROTATE_180,
        4: Image.Transpose.FLIP_TOP_BOTTOM, 5: Image.Transpose.TRANSPOSE,
        6: Image.Transpose.ROTATE_90, 7: Image.Transpose.TRANSVERSE,
        8: Image.Transpose.ROTATE_270,
    }[orientation]  # fmt: skip
    upright = scene(640, 480)
    stored = upright if inverse is None else upright.transpose(inverse)
    exif = Image.Exif()
    exif[0x0112] = orientation
    content = save(stored, file_format, exif=exif)
    result = read(content, suffix, to_shape((48, 64, 3), fit=fit))
    assert colors(result) == ["red", "blue", "green", "blue"]
    expected = decode_and_resize(upright, to_shape((48, 64, 3), fit=fit)).astype(int)
    assert np.abs(result - expected).mean() < 2


def test_gray_palette_and_black_and_white() -> None:
    gray = Image.new("L", (8, 8), 77)
    for content in (save(gray, "PNG"), save(gray.convert("P"), "PNG")):
        assert (read(content, ".png", to_shape((8, 8, 3))) == 77).all()
    dots = Image.new("1", (8, 8), 1)
    assert (read(save(dots, "PNG"), ".png", to_shape((4, 4, 1))) == 255).all()


def test_sixteen_bits_are_scaled_to_eight() -> None:
    values = np.linspace(0, 65_535, 64).astype(np.uint16).reshape(8, 8)
    content = save(Image.fromarray(values), "PNG")
    result = read(content, ".png", to_shape((8, 8, 1)))
    assert (result[..., 0] == np.rint(values / 257)).all()


def test_what_is_transparent_is_white() -> None:
    pixels = np.zeros((8, 8, 4), dtype=np.uint8)  # black, and transparent
    pixels[:, 4:] = (255, 0, 0, 255)  # the right half opaque red
    picture = Image.fromarray(pixels)
    palette = picture.convert("P", palette=Image.Palette.ADAPTIVE)
    for content, suffix in (
        (save(picture, "PNG"), ".png"),
        (save(picture, "WEBP", lossless=True), ".webp"),
        (save(palette, "PNG"), ".png"),
    ):
        result = read(content, suffix, to_shape((8, 8, 3)))
        assert (result[:, :4] == 255).all()
        assert (result[:, 4:] == (255, 0, 0)).all()
    gray = Image.merge("LA", (Image.new("L", (8, 8), 10), Image.new("L", (8, 8), 0)))
    assert (read(save(gray, "PNG"), ".png", to_shape((8, 8, 1))) == 255).all()


def test_cmyk() -> None:
    content = save(Image.new("CMYK", (16, 16), (0, 255, 255, 0)), "JPEG")
    red, green, blue = read(content, ".jpg", to_shape((8, 8, 3)))[4, 4].tolist()
    assert red > 200 > 50 > max(green, blue)


def test_the_decoders_own_scaling_is_close_to_resizing_alone() -> None:
    generator = np.random.default_rng(1)
    rough = Image.fromarray(generator.integers(0, 256, (9, 12, 3), dtype=np.uint8))
    content = save(rough.resize((1200, 900), Image.Resampling.BICUBIC), "JPEG", quality=95)
    for fit in ("stretch", "crop", "pad"):
        settings = to_shape((100, 100, 3), fit=fit)
        with Image.open(BytesIO(content)) as whole:
            whole.load()  # at its full size, so that nothing is left to scale while decoding
            expected = decode_and_resize(whole, settings).astype(int)
        assert np.abs(read(content, ".jpg", settings) - expected).mean() < 3


@pytest.mark.parametrize("orientation", [1, 6])
@pytest.mark.parametrize(
    ("fit", "needed"), [("stretch", (400, 50)), ("crop", (400, 800)), ("pad", (25, 50))]
)
def test_the_decoder_scales_but_never_below_what_is_needed(
    orientation: int, fit: str, needed: tuple[int, int]
) -> None:
    """An upright picture of 800 x 1600, for a shape of 400 wide and 50 high."""
    exif = Image.Exif()
    exif[0x0112] = orientation
    stored = (800, 1600) if orientation == 1 else (1600, 800)
    content = save(scene(*stored), "JPEG", exif=exif)
    picture = open_image(content, ".jpg")
    assert picture.size == stored
    decode_and_resize(picture, to_shape((50, 400, 3), fit=fit))
    decoded = picture.size if orientation == 1 else picture.size[::-1]
    assert decoded[0] >= needed[0]
    assert decoded[1] >= needed[1]
    assert decoded[0] < 800


def test_fine_stripes_of_a_photograph_do_not_alias() -> None:
    stripes = np.zeros((640, 640), dtype=np.uint8)
    stripes[:, ::2] = 255
    content = save(Image.fromarray(stripes), "JPEG", quality=100)
    shrunk = read(content, ".jpg", to_shape((90, 90, 1))).astype(int)
    assert np.abs(shrunk - 127.5).max() < 25


# Files that cannot be read.


def test_an_empty_file() -> None:
    assert reason_of(b"", ".jpg") == "empty file"


def test_no_image() -> None:
    assert reason_of(b"hello\n" * 100, ".jpg") == "not an image, or its beginning is damaged"
    assert reason_of(b"hello", ".txt").startswith(".txt: expected .bmp, .gif, ")
    assert reason_of(b"hello", "").startswith("no ending: expected .bmp, ")


def test_a_name_that_says_another_format() -> None:
    content = save(scene(8, 8), "PNG")
    assert reason_of(content, ".jpg") == "its name says JPEG, but it is PNG"


@pytest.mark.parametrize("suffix", sorted(set(FORMAT_OF_SUFFIX)))
def test_truncated_files(suffix: str) -> None:
    content = save(picture_of(noise(60, 80, 3)), FORMAT_OF_SUFFIX[suffix])
    for share in (0.3, 0.6, 0.9):
        reason = reason_of(content[: int(share * len(content))], suffix)
        assert reason.startswith(("damaged: ", "not an image, or its beginning is damaged"))


def test_more_pixels_than_the_limit_are_not_even_decoded() -> None:
    for side in (10_000, 20_000):
        content = save(Image.new("1", (side, side)), "PNG")
        assert len(content) < 100_000
        assert reason_of(content, ".png") == "more than the limit of 89,478,485 pixels"


@pytest.mark.parametrize("suffix", sorted(set(FORMAT_OF_SUFFIX) - {".jpe", ".jfif"}))
def test_whatever_is_wrong_with_a_file_is_a_reason(suffix: str) -> None:
    """Damage at random places gives an image or a reason, never another exception."""
    generator = np.random.default_rng(len(suffix))
    options = {"progressive": True} if suffix == ".jpeg" else {}
    content = save(picture_of(noise(30, 40, 3)), FORMAT_OF_SUFFIX[suffix], **options)
    reasons = 0
    for _ in range(300):
        damaged = bytearray(content)
        reach = int(generator.choice([30, 200, len(content)]))
        for place in generator.integers(0, min(reach, len(content)), 3):
            damaged[place] = generator.integers(256)
        try:
            result = read(bytes(damaged), suffix, to_shape((8, 8, 3)))
            assert result.shape == (8, 8, 3)
        except UnreadableImageError:
            reasons += 1
    assert reasons > 0
