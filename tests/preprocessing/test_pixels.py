"""The pixels of each kind of file; docs/photographs.md has the same as a table."""

import struct
import subprocess
import sys
import zlib
from collections.abc import Callable
from io import BytesIO
from typing import Any, Literal

import numpy as np
import pytest
from image_kinds import (
    HEIGHT,
    SHARES,
    WIDTH,
    Numbers,
    Shares,
    all_kinds,
    bmp_rows,
    linear,
    on_white,
    quantize,
    srgb_of_cmyk,
    srgb_of_gray,
    srgb_of_lab,
    srgb_of_rgb,
    srgb_of_ycbcr,
)  # fmt: skip
from image_writers import (
    COLOR,
    GRAY,
    GRAY_ALPHA,
    MATRICES,
    bmp_file,
    cmyk_profile,
    icc_profile,
    png_file,
    tiff_file,
)
from numpy.typing import NDArray
from PIL import Image, ImageCms
from support import SRC

from imgpipe.core.errors import UnreadableImageError
from imgpipe.preprocessing.decoding import decode_and_resize, open_image
from imgpipe.settings.image_spec import ImageSpec

KINDS = all_kinds()
NO_ORACLE, NO_HEIC = "see requirements-decoders.txt", "see requirements-heic.txt"


def read(content: bytes, channels: Literal[1, 3] = 3) -> NDArray[np.uint8]:
    spec = ImageSpec(
        height_px=HEIGHT, width_px=WIDTH, channels=channels, fit="stretch", interpolation="nearest"
    )
    return decode_and_resize(open_image(content), spec)


def largest_difference(image: NDArray[np.uint8], expected: Shares) -> float:
    return float(np.abs(image - np.broadcast_to(expected * 255, image.shape)).max())


def save(picture: Image.Image, file_format: str, **options: Any) -> bytes:
    stream = BytesIO()
    picture.save(stream, file_format, **options)
    return stream.getvalue()


# All kinds.


def test_there_are_hundreds_of_kinds() -> None:
    assert len(KINDS) > 900
    assert sum(isinstance(kind.expected, str) for kind in KINDS.values()) > 50


@pytest.mark.parametrize("name", KINDS)
def test_each_kind_of_file_is_right_or_refused(name: str) -> None:
    kind = KINDS[name]
    if isinstance(kind.expected, str):
        with pytest.raises(UnreadableImageError) as caught:
            read(kind.content)
        assert kind.expected in str(caught.value)
        assert str(caught.value).isprintable()
    else:
        assert largest_difference(read(kind.content), kind.expected) <= kind.levels


def test_gray_of_the_kinds_is_that_of_their_colors() -> None:
    weights = np.array([0.299, 0.587, 0.114])
    for name, kind in list(KINDS.items())[::7]:
        if isinstance(kind.expected, str):
            continue
        gray = np.broadcast_to(kind.expected, (HEIGHT, WIDTH, 3)) @ weights
        difference = largest_difference(read(kind.content, 1), gray[..., np.newaxis])
        assert difference <= kind.levels + 0.51, name


def test_another_decoder_reads_the_same_numbers_from_the_tiff_files() -> None:
    """The files hold the numbers that the test of all kinds expects."""
    tifffile = pytest.importorskip("tifffile", reason=NO_ORACLE)
    pytest.importorskip("imagecodecs", reason=NO_ORACLE)
    count = 0
    for name, kind in KINDS.items():
        if name.startswith("TIFF") and not isinstance(kind.expected, str):
            with tifffile.TiffFile(BytesIO(kind.content)) as file:
                expected = meaning_of(file.pages[0])
            assert np.abs(expected - kind.expected).max() < 1e-6, name
            count += 1
    assert count > 500


def meaning_of(page: Any) -> Numbers:
    """Return what the numbers of a page of tifffile mean."""
    planes, _, _, _, samples = page.shaped
    numbers = page.asarray(squeeze=False).reshape(page.shaped)[:, 0]
    numbers = np.moveaxis(numbers[..., 0], 0, -1) if planes > samples else numbers[0]
    numbers = numbers.astype(np.uint8) if numbers.dtype == bool else numbers
    photometric, extra = int(page.photometric), [int(value) for value in page.extrasamples]
    stated = [np.max(page.tags[tag].value) for tag in (281, 341) if tag in page.tags]
    largest = 2.0**page.bitspersample - 1
    if stated and stated[0] + 1 in 2 ** np.arange(8, 33) and numbers.max() <= stated[0]:
        largest = stated[0]
    shares = numbers if numbers.dtype.kind == "f" else numbers / largest
    channels = {0: 1, 1: 1, 2: 3, 3: 1, 5: 4, 6: 3, 8: 3}[photometric]
    colors = shares[..., :channels]
    match photometric:
        case 0:
            colors = 1 - colors
        case 3:
            palette = page.colormap.T
            colors = palette[numbers[..., 0]] / (65_535 if palette.max() > 255 else 255)
        case 5:
            colors = srgb_of_cmyk(colors)
        case 6:
            colors = srgb_of_ycbcr(colors)
        case 8:
            signed = numbers[..., 1:].astype(np.int8)
            colors = srgb_of_lab(np.dstack([numbers[..., 0] / 2.55, signed]))
    alpha = shares[..., channels : channels + 1]
    if extra[:1] == [1]:
        colors = colors + 1 - alpha
    elif extra[:1] == [2]:
        colors = on_white(colors, alpha)
    return np.asarray(colors)


def test_another_decoder_agrees_about_png_and_bmp_files() -> None:
    """About all that it decodes, and by the same rules."""
    imagecodecs = pytest.importorskip("imagecodecs", reason=NO_ORACLE)
    excluded = (
        "of 16 bits", "exponent", "Display P3",  # it returns the stored numbers
        "header 12", "runs of",  # it does not decode these
        "fourth byte all 0", "byte any, 40", "byte all 255, 40", "no opaque",  # and these otherwise
    )  # fmt: skip
    count = 0
    for name, kind in KINDS.items():
        if name.startswith("TIFF") or isinstance(kind.expected, str):
            continue
        if any(part in name for part in excluded):
            continue
        decode = imagecodecs.png_decode if name.startswith("PNG") else imagecodecs.bmp_decode
        numbers = decode(kind.content).reshape(HEIGHT, WIDTH, -1)
        shares = numbers / np.iinfo(numbers.dtype).max
        if shares.shape[-1] in (2, 4):
            shares = on_white(shares[..., :-1], shares[..., -1:])
        assert np.abs(shares - kind.expected).max() * 255 <= max(kind.levels, 0.51), name
        count += 1
    assert count > 150


# ICC profiles.

SRGB_CURVE = np.rint(linear(np.linspace(0, 1, 1024)) * 65_535).astype(int).tolist()
LIGHT: dict[str, Callable[[Shares], Shares]] = {
    "Display P3": linear,
    "Adobe RGB": lambda shares: shares ** (563 / 256),
}
RGB_PROFILES = {
    "Display P3": icc_profile(SRGB_CURVE, MATRICES["Display P3"]),
    "Adobe RGB": icc_profile(563 / 256, MATRICES["Adobe RGB"]),
}
GRAY_PROFILES = {"exponent 1.8": icc_profile(1.8), "exponent 1": icc_profile(1.0)}
OPTIONS: dict[str, dict[str, Any]] = {
    "AVIF": {"quality": 95, "subsampling": "4:4:4"},
    "JPEG": {"quality": 95, "subsampling": 0},
    "PNG": {},
    "TIFF": {},
    "WEBP": {"lossless": True},
}


@pytest.mark.parametrize("profile", RGB_PROFILES)
@pytest.mark.parametrize("file_format", OPTIONS)
def test_a_profile_of_each_format(file_format: str, profile: str) -> None:
    """Compared to the same file without a profile, because some formats lose details."""
    options = OPTIONS[file_format]
    colors = (
        SHARES[..., :3] * 0.8 + 0.1
    )  # saturated colors differ more by the rounding of the input
    picture = Image.fromarray(np.rint(colors * 255).astype(np.uint8))
    stored = read(save(picture, file_format, **options)) / 255
    content = save(picture, file_format, icc_profile=RGB_PROFILES[profile], **options)
    result = read(content)
    expected = srgb_of_rgb(LIGHT[profile](stored), profile)
    assert largest_difference(result, stored) > 20
    assert largest_difference(result, expected) <= 2


@pytest.mark.parametrize("profile", RGB_PROFILES)
def test_a_profile_of_a_bmp_file(profile: str) -> None:
    numbers, shares = quantize(SHARES[..., :3], 8)
    pixels = bmp_rows(numbers[..., ::-1].reshape(HEIGHT, -1), 8, False)
    content = bmp_file(pixels, WIDTH, HEIGHT, 24, header_bytes=124, profile=RGB_PROFILES[profile])
    expected = srgb_of_rgb(LIGHT[profile](shares), profile)
    assert largest_difference(read(content), expected) <= 2


@pytest.mark.parametrize("header_bytes", [108, 124])
def test_primaries_of_a_bmp_file(header_bytes: int) -> None:
    """The primaries of Display P3 in X, Y and Z, for the white D65."""
    numbers, shares = quantize(SHARES[..., :3], 8)
    pixels = bmp_rows(numbers[..., ::-1].reshape(HEIGHT, -1), 8, False)
    plain = bmp_file(pixels, WIDTH, HEIGHT, 24, header_bytes=header_bytes)
    xyz = (0.48657, 0.22897, 0, 0.26567, 0.69174, 0.04511, 0.19822, 0.07929, 1.04394)
    ends = struct.pack("<9i3I", *(round(v * 2**30) for v in xyz), *[round(1.8 * 65_536)] * 3)
    content = plain[:74] + ends + plain[74 + len(ends) :]
    expected = srgb_of_rgb(shares**1.8, "Display P3")
    assert largest_difference(read(content), expected) <= 2
    assert (read(content[:70] + b"BGRs" + content[74:]) == read(plain)).all()  # "sRGB", reversed


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA"])
@pytest.mark.parametrize("profile", RGB_PROFILES)
def test_a_profile_for_rgb_in_each_mode(mode: str, profile: str) -> None:
    """Transparent pixels become white after the conversion."""
    picture = Image.fromarray(np.rint(SHARES[..., :4] * 255).astype(np.uint8)).convert(mode)
    content = save(picture, "PNG", icc_profile=RGB_PROFILES[profile])
    pixels = np.asarray(picture.convert("RGBA")) / 255
    expected = on_white(srgb_of_rgb(LIGHT[profile](pixels[..., :3]), profile), pixels[..., 3:])
    assert largest_difference(read(content), expected) <= 2.5


@pytest.mark.parametrize("mode", ["1", "L", "LA", "I;16"])
@pytest.mark.parametrize("exponent", [1.0, 1.8])
def test_a_profile_for_gray_in_each_mode(mode: str, exponent: float) -> None:
    bits, channels = {"1": (1, 1), "L": (8, 1), "LA": (8, 2), "I;16": (16, 1)}[mode]
    numbers, shares = quantize(SHARES[..., :channels], bits)
    if mode == "LA":
        picture = Image.merge("LA", [Image.fromarray(numbers[..., k].copy()) for k in range(2)])
    else:
        picture = Image.fromarray(numbers[..., 0] * (255 if mode == "1" else 1)).convert(mode)
    for file_format in ("PNG", "TIFF"):
        content = save(picture, file_format, icc_profile=icc_profile(exponent))
        expected = srgb_of_gray(shares[..., :1] ** exponent)
        if mode == "LA":
            expected = on_white(expected, shares[..., 1:])
        assert largest_difference(read(content), expected) <= 1.5


def test_gray_with_one_transparent_value_and_a_profile() -> None:
    numbers, shares = quantize(SHARES[..., :1], 8)
    clear = int(numbers[1, 1, 0])
    picture = Image.fromarray(numbers[..., 0])
    content = save(picture, "PNG", icc_profile=icc_profile(1.8), transparency=clear)
    expected = np.where(numbers == clear, 1, srgb_of_gray(shares**1.8))
    assert largest_difference(read(content), expected) <= 1


def test_gray_of_16_bits_with_transparency_and_a_profile() -> None:
    """Pillow decodes it as RGBA, but its profile is one for gray."""
    numbers, shares = quantize(SHARES[..., :2], 16)
    profile = b"name\0\0" + zlib.compress(icc_profile(1.8))
    content = png_file(numbers, 16, GRAY_ALPHA, {b"iCCP": profile})
    expected = on_white(srgb_of_gray(shares[..., :1] ** 1.8), shares[..., 1:])
    assert largest_difference(read(content), expected) <= 2.5


# White and black stay: Little CMS makes the lightest and the darkest color of a table so.
PERCEPTUAL = [(100 - 20 / 3 * k, *((8.0, -8.0) if 2 < k < 13 else (0.0, 0.0))) for k in range(16)]
COLORIMETRIC = [(luminance, -a, -b) for luminance, a, b in PERCEPTUAL]


@pytest.mark.parametrize(
    ("intent", "table"), [(0, PERCEPTUAL), (1, COLORIMETRIC), (3, COLORIMETRIC)]
)
@pytest.mark.parametrize("file_format", ["TIFF", "JPEG"])
def test_a_profile_for_cmyk(file_format: str, intent: int, table: list[tuple[float, ...]]) -> None:
    """Its intent chooses one of its tables."""
    inks = (
        np.array([[k >> 3 & 1, k >> 2 & 1, k >> 1 & 1, k & 1] for k in range(16)], np.uint8) * 255
    )
    image = np.tile(inks[:, np.newaxis], (1, 64, 1)).repeat(8, axis=0)
    picture = Image.merge("CMYK", [Image.fromarray(image[..., k].copy()) for k in range(4)])
    profile = cmyk_profile(PERCEPTUAL, COLORIMETRIC, intent=intent)
    content = save(picture, file_format, icc_profile=profile, **OPTIONS[file_format])
    spec = ImageSpec(height_px=16, width_px=1, channels=3, fit="stretch", interpolation="nearest")
    result = decode_and_resize(open_image(content), spec)
    expected = srgb_of_lab(np.array(table))[:, np.newaxis] * 255
    assert np.abs(result - expected).max() <= 2


def same_as_srgb() -> dict[str, bytes]:
    return {
        "Little CMS": ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes(),
        "table of 1024": icc_profile(SRGB_CURVE, MATRICES["sRGB"]),
        "gray": icc_profile(SRGB_CURVE),
    }


@pytest.mark.parametrize("name", same_as_srgb())
@pytest.mark.parametrize("mode", ["L", "RGB", "RGBA", "I;16"])
def test_pixels_are_unchanged_by_a_profile_of_srgb(name: str, mode: str) -> None:
    picture = Image.fromarray(np.rint(SHARES[..., :4] * 255).astype(np.uint8)).convert("RGBA")
    if mode == "I;16":
        picture = Image.fromarray(quantize(SHARES[..., 0], 16)[0])
    else:
        picture = picture.convert(mode)
    content = save(picture, "PNG", icc_profile=same_as_srgb()[name])
    assert (read(content) == read(save(picture, "PNG"))).all()


def damaged_profiles() -> dict[str, bytes]:
    good = RGB_PROFILES["Display P3"]
    return {
        "nothing": b"\0",
        "text": b"not a profile" * 30,
        "for CMYK": cmyk_profile(PERCEPTUAL, COLORIMETRIC),
        "for gray": GRAY_PROFILES["exponent 1.8"],
        "a link between devices": good[:12] + b"link" + good[16:],
        "CIELAB": good[:16] + b"Lab " + good[20:],
        "without tags": good[:128] + bytes(4),
        **{f"first {length} bytes": good[:length] for length in (64, 128, 131, 200, 300)},
    }


@pytest.mark.parametrize("name", damaged_profiles())
def test_a_broken_profile_is_ignored(name: str) -> None:
    picture = Image.fromarray(np.rint(SHARES[..., :3] * 255).astype(np.uint8))
    for file_format in ("PNG", "JPEG"):
        content = save(picture, file_format, icc_profile=damaged_profiles()[name])
        assert (read(content) == read(save(picture, file_format))).all()


def test_whatever_is_wrong_with_a_profile_the_image_is_read() -> None:
    generator = np.random.default_rng(1)
    picture = Image.fromarray(np.rint(SHARES[..., :3] * 255).astype(np.uint8))
    for good in (
        RGB_PROFILES["Adobe RGB"],
        cmyk_profile(PERCEPTUAL, COLORIMETRIC),
        icc_profile(1.8),
    ):
        for _ in range(200):
            profile = np.frombuffer(good, np.uint8).copy()
            places = generator.integers(0, len(profile), generator.integers(1, 20))
            profile[places] = generator.integers(0, 256, len(places))
            content = save(picture, "PNG", icc_profile=profile.tobytes())
            assert read(content).shape == (HEIGHT, WIDTH, 3)


def test_pixels_are_the_same_without_fast_instructions() -> None:
    """The tables of Little CMS come from `pow`, whose last bits differ between processors.

    Without FMA and AVX2, glibc computes as on an old processor.
    """
    code = (
        "import hashlib, sys\n"
        "import numpy as np\n"
        "from PIL import Image\n"
        "from imgpipe.preprocessing.colors import from_lab, to_srgb\n"
        "steps = np.arange(0, 256, 5, dtype=np.uint8)\n"
        "cube = np.stack(np.meshgrid(steps, steps, steps), -1).reshape(-1, len(steps), 3)\n"
        "gray = Image.fromarray(np.arange(65_536, dtype=np.uint16)[None])\n"
        "cmyk = Image.fromarray(cube).convert('CMYK')\n"
        "lab = Image.merge('LAB', Image.fromarray(cube).split())\n"
        "found = [from_lab(lab)]\n"
        "for line in sys.stdin:\n"
        "    profile = bytes.fromhex(line)\n"
        "    found += [to_srgb(p, profile) for p in (Image.fromarray(cube), gray, cmyk)]\n"
        "print(hashlib.sha256(b''.join(p.tobytes() for p in found)).hexdigest())\n"
    )
    profiles = [*RGB_PROFILES.values(), *GRAY_PROFILES.values(), *same_as_srgb().values()]
    profiles += [cmyk_profile(PERCEPTUAL, COLORIMETRIC, intent=intent) for intent in (0, 1)]
    profiles += [icc_profile(exponent, MATRICES["sRGB"]) for exponent in (1.0, 1.8, 2.2, 2.6)]
    digests = {
        subprocess.run(
            [sys.executable, "-c", code], env={"PYTHONPATH": SRC.as_posix(), **tunables},
            input="\n".join(profile.hex() for profile in profiles),
            capture_output=True, text=True, check=True,
        ).stdout
        for tunables in ({}, {"GLIBC_TUNABLES": "glibc.cpu.hwcaps=-FMA,-AVX2,-FMA4"})
    }  # fmt: skip
    assert len(digests) == 1


# Other formats.


def test_jpeg_colors_by_the_marker_of_adobe() -> None:
    colors = np.rint(SHARES[:1, :4, :4].repeat(16, 0).repeat(16, 1) * 255).astype(np.uint8)
    rgb = Image.fromarray(colors[..., :3].copy())
    cmyk = Image.merge("CMYK", [Image.fromarray(colors[..., k].copy()) for k in range(4)])
    options = {"quality": 100, "subsampling": 0}
    files = {
        "YCbCr": (save(rgb, "JPEG", **options), colors[..., :3] / 255),
        "RGB": (save(rgb, "JPEG", keep_rgb=True, **options), colors[..., :3] / 255),
        "gray": (save(rgb.getchannel(0), "JPEG", **options), colors[..., :1] / 255),
        "CMYK": (save(cmyk, "JPEG", **options), srgb_of_cmyk(colors / 255)),
        "two pictures": (
            save(rgb, "MPO", save_all=True, append_images=[rgb.rotate(180)], **options),
            colors[..., :3] / 255,
        ),
    }  # fmt: skip
    without_marker = files["CMYK"][0].replace(b"Adobe", b"Bdobe")
    files["CMYK without the marker"] = without_marker, files["CMYK"][1]
    spec = ImageSpec(height_px=16, width_px=64, channels=3, fit="stretch", interpolation="nearest")
    for name, (content, expected) in files.items():
        result = decode_and_resize(open_image(content), spec)
        assert largest_difference(result, expected) <= 4, name


def test_a_jpeg_in_ycck_by_another_encoder() -> None:
    imagecodecs = pytest.importorskip("imagecodecs", reason=NO_ORACLE)
    inks = np.rint(SHARES[:1, :4, :4].repeat(16, 0).repeat(16, 1) * 255).astype(np.uint8)
    content = imagecodecs.jpeg8_encode(
        255 - inks, level=100, colorspace="CMYK", outcolorspace="YCCK", subsampling="444"
    )
    assert b"Adobe\0d\0\0\0\0\2" in content
    expected = srgb_of_cmyk(1 - imagecodecs.jpeg8_decode(content, outcolorspace="CMYK") / 255)
    spec = ImageSpec(height_px=16, width_px=64, channels=3, fit="stretch", interpolation="nearest")
    result = decode_and_resize(open_image(content), spec)
    assert largest_difference(result, expected) <= 1
    assert np.abs(expected[8, 8::16] - srgb_of_cmyk(inks[8, 8::16] / 255)).max() < 0.03


@pytest.mark.parametrize("premultiplied", [False, True])
@pytest.mark.parametrize("mode", ["L", "RGB", "RGBA"])
def test_modes_of_avif(mode: str, premultiplied: bool) -> None:
    colors = np.rint(SHARES[:1, :4, :4].repeat(16, 0).repeat(16, 1) * 255).astype(np.uint8)
    picture = Image.fromarray(colors).convert(mode)
    options = {"quality": 100, "subsampling": "4:4:4", "alpha_premultiplied": premultiplied}
    spec = ImageSpec(height_px=16, width_px=64, channels=3, fit="stretch", interpolation="nearest")
    result = decode_and_resize(open_image(save(picture, "AVIF", **options)), spec)
    pixels = np.asarray(picture.convert("RGBA")) / 255
    assert largest_difference(result, on_white(pixels[..., :3], pixels[..., 3:])) <= 4


@pytest.mark.parametrize("bits", [8, 10, 12])
@pytest.mark.parametrize("channels", [1, 3, 4])
def test_bits_of_avif_by_another_encoder(bits: int, channels: int) -> None:
    imagecodecs = pytest.importorskip("imagecodecs", reason=NO_ORACLE)
    numbers, shares = quantize(SHARES[..., :channels], bits)
    content = imagecodecs.avif_encode(
        numbers.squeeze(), level=100, bitspersample=bits,
        pixelformat="400" if channels == 1 else "444",
    )  # fmt: skip
    expected = on_white(shares[..., :3], shares[..., 3:]) if channels == 4 else shares
    assert largest_difference(read(content), expected) <= 1.5


CODE_POINTS: list[tuple[int, int, str, Callable[[Shares], Shares] | str]] = [
    (1, 13, "sRGB", linear), (2, 2, "sRGB", linear), (1, 1, "sRGB", linear),
    (12, 13, "Display P3", linear), (12, 8, "Display P3", lambda shares: shares),
    (1, 4, "sRGB", lambda shares: shares**2.2), (1, 8, "sRGB", lambda shares: shares),
    (9, 16, "", "HDR colors (PQ)"), (9, 18, "", "HDR colors (HLG)"), (10, 13, "", "unknown colors"),
]  # fmt: skip


@pytest.mark.parametrize(("primaries", "transfer", "matrix", "light"), CODE_POINTS)
@pytest.mark.parametrize("file_format", ["AVIF", "HEIF"])
def test_colors_by_code_points(
    file_format: str,
    primaries: int,
    transfer: int,
    matrix: str,
    light: Callable[[Shares], Shares] | str,
) -> None:
    """A file by Pillow, with other code points."""
    picture = Image.fromarray(np.rint(SHARES[..., :3] * 255).astype(np.uint8))
    if file_format == "HEIF":
        pytest.importorskip(
            "pillow_heif", reason="see requirements-heic.txt"
        ).register_heif_opener()
        plain = save(picture, "HEIF", quality=-1, chroma=444, matrix_coefficients=0)
    else:
        plain = save(picture, "AVIF", quality=100, subsampling="4:4:4")
    head = b"colrnclx\0\1\0\x0d"
    assert plain.count(head) == 1
    codes = b"colrnclx" + primaries.to_bytes(2) + transfer.to_bytes(2)
    content = plain.replace(head, codes)
    if isinstance(light, str):
        with pytest.raises(UnreadableImageError) as caught:
            read(content)
        assert light in str(caught.value)
        return
    stored = read(plain) / 255
    expected = srgb_of_rgb(light(stored), matrix)
    assert largest_difference(read(content), expected) <= 2


@pytest.mark.parametrize("mode", ["L", "LA", "RGB", "RGBA", "I;16"])
def test_modes_of_heic(mode: str) -> None:
    heif = pytest.importorskip("pillow_heif", reason=NO_HEIC)
    heif.register_heif_opener()
    if mode == "I;16":
        picture = Image.fromarray(quantize(SHARES[..., 0], 16)[0])
        expected = SHARES[..., :1]
    else:
        picture = Image.fromarray(np.rint(SHARES[..., :4] * 255).astype(np.uint8)).convert(mode)
        pixels = np.asarray(picture.convert("RGBA")) / 255
        expected = on_white(pixels[..., :3], pixels[..., 3:])
    content = save(picture, "HEIF", quality=-1, chroma=444, matrix_coefficients=0)
    assert largest_difference(read(content), expected) <= 1.5


def test_transparency_of_gif_and_webp() -> None:
    pixels = np.rint(SHARES[..., :4] * 255).astype(np.uint8)
    picture = Image.fromarray(pixels)
    expected = on_white(pixels[..., :3] / 255, pixels[..., 3:] / 255)
    content = save(picture, "WEBP", lossless=True, exact=True)
    assert largest_difference(read(content), expected) <= 1
    indices = np.arange(HEIGHT * WIDTH, dtype=np.uint8).reshape(HEIGHT, WIDTH)
    palette = Image.fromarray(indices)
    palette.putpalette(np.random.default_rng(0).integers(0, 256, 768, dtype=np.uint8).tobytes())
    for picture in (palette, Image.fromarray(indices)):
        shares = np.asarray(picture.convert("RGB")) / 255
        assert largest_difference(read(save(picture, "GIF")), shares) == 0
        shares[indices == 7] = 1
        assert largest_difference(read(save(picture, "GIF", transparency=7)), shares) == 0


def test_a_gif_file_without_colors_is_refused() -> None:
    indices = np.arange(HEIGHT * WIDTH, dtype=np.uint8).reshape(HEIGHT, WIDTH)
    content = bytearray(save(Image.fromarray(indices), "GIF"))
    assert content[10] >= 0x80  # a palette follows, of 2^(n + 1) colors for the lowest 3 bits n
    del content[13 : 13 + 3 * (2 << content[10] % 8)]
    content[10] -= 0x80
    with pytest.raises(UnreadableImageError, match="GIF without a palette"):
        read(bytes(content))


def test_a_first_picture_smaller_than_its_animation_is_on_white() -> None:
    """As in browsers; Pillow adds the first color of the palette, or black."""
    small = Image.fromarray(np.rint(SHARES[:3, :8, :3] * 255).astype(np.uint8))
    colors = small.quantize(16)
    expected = np.ones((HEIGHT, WIDTH, 3))
    expected[2:5, 4:12] = np.asarray(colors.convert("RGB")) / 255
    for background in (0, 5):
        content = bytearray(save(colors, "GIF", background=background))
        content[6:10] = struct.pack("<HH", WIDTH, HEIGHT)
        place = content.index(b"\x2c" + struct.pack("<HHHH", 0, 0, 8, 3)) + 1
        content[place : place + 4] = struct.pack("<HH", 4, 2)
        assert largest_difference(read(bytes(content)), expected) == 0
    expected[2:5, 4:12] = np.asarray(small) / 255
    animation = webp_animation(small, left=4, top=2)
    assert largest_difference(read(animation), expected) == 0


def webp_animation(picture: Image.Image, left: int, top: int) -> bytes:
    """Return an animation of one picture that does not say that it has transparency."""
    canvas, size = (
        b"".join(struct.pack("<I", side - 1)[:3] for side in sides)
        for sides in ((WIDTH, HEIGHT), picture.size)
    )
    pixels = save(picture, "WEBP", lossless=True)[12:]
    frame = struct.pack("<I", left // 2)[:3] + struct.pack("<I", top // 2)[:3] + size
    chunks = b"".join(
        name + struct.pack("<I", len(part)) + part
        for name, part in (
            (b"VP8X", b"\2\0\0\0" + canvas),
            (b"ANIM", b"\0\0\xff\xff\0\0"),
            (b"ANMF", frame + bytes(4) + pixels),
        )
    )
    return b"RIFF" + struct.pack("<I", 4 + len(chunks)) + b"WEBP" + chunks


# With an orientation.

INVERSE_TURNS: dict[int, Callable[[Numbers], Numbers]] = {
    1: lambda a: a, 2: lambda a: a[:, ::-1], 3: lambda a: a[::-1, ::-1], 4: lambda a: a[::-1],
    5: lambda a: a.swapaxes(0, 1), 6: lambda a: a.swapaxes(0, 1)[::-1],
    7: lambda a: a.swapaxes(0, 1)[::-1, ::-1], 8: lambda a: a.swapaxes(0, 1)[:, ::-1],
}  # fmt: skip


@pytest.mark.parametrize("orientation", INVERSE_TURNS)
def test_each_orientation_with_numbers_of_each_kind(orientation: int) -> None:
    def stored(shares: Shares, bits: int) -> Numbers:
        return np.ascontiguousarray(INVERSE_TURNS[orientation](quantize(shares, bits)[0]))

    tag = {274: (3, [orientation])}
    exif = Image.Exif()
    exif[274] = orientation
    exif_chunk = {b"eXIf": exif.tobytes().removeprefix(b"Exif\0\0")}
    twelve = {b"sBIT": b"\x0c\x0c\x0c", **exif_chunk}
    gray, colors = SHARES[..., :1], SHARES[..., :3]
    floats = np.ascontiguousarray(INVERSE_TURNS[orientation](gray.astype(np.float32)))
    p3 = {b"cICP": bytes([12, 13, 0, 1]), **exif_chunk}
    kinds = {
        "16 bits, 0 is white": (tiff_file(stored(1 - gray, 16), 0, 16, tags=tag), gray),
        "float": (tiff_file(floats, 1, 32, sample_format=3, tags=tag), gray),
        "12 bits": (tiff_file(stored(gray, 12), 1, 12, tags=tag), gray),
        "16-bit colors": (tiff_file(stored(colors, 16), 2, 16, tags=tag), colors),
        "10 of 16 bits": (
            tiff_file(stored(colors, 10), 2, 16, tags=tag | {281: (3, [1023] * 3)}), colors,
        ),
        "12 of 16 bits": (png_file(stored(colors, 12), 16, COLOR, twelve), colors),
        "gray of 16 bits": (png_file(stored(gray, 16), 16, GRAY, exif_chunk), gray),
        "Display P3": (
            png_file(stored(colors, 8), 8, COLOR, p3),
            srgb_of_rgb(linear(quantize(colors, 8)[1]), "Display P3"),
        ),
    }  # fmt: skip
    for name, (content, expected) in kinds.items():
        assert largest_difference(read(content), expected) <= 2, name


# Broken tags.


def test_broken_tags_are_a_reason_and_nothing_else() -> None:
    """In the part of a TIFF file that holds its tags, and in the chunks of a PNG file."""
    generator = np.random.default_rng(2)
    contents = [kind.content for name, kind in KINDS.items() if not name.startswith("BMP")]
    reasons = []
    for _ in range(700):
        damaged = bytearray(contents[int(generator.integers(len(contents)))])
        for _ in range(int(generator.integers(1, 6))):
            place = int(generator.integers(min(260, len(damaged))))
            damaged[place] = generator.choice([0, 1, 2, 255, 12, 32])
        try:
            assert read(bytes(damaged)).shape == (HEIGHT, WIDTH, 3)
        except UnreadableImageError as error:
            reasons.append(str(error))
    assert len(reasons) > 50
    assert all(reason.isprintable() for reason in reasons)
