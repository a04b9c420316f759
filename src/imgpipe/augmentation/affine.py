"""Random rotation, shift, zoom, flips and brightness, with the meaning of ImageDataGenerator.

Source: https://keras.io/2.18/api/data_loading/image/ and `apply_affine_transform` there: rotation,
shift and zoom become one matrix about the image's center, sampled with bilinear interpolation.
Sine, cosine and pixels are computed with elementwise IEEE arithmetic only, so the bytes are the
same on every processor.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from imgpipe.core.elementary import cos, sin
from imgpipe.settings.augment import Augment

# The working arrays stay in the cache, and below the size (128 KiB) from which the C library
# returns memory to the system each time: new memory takes longer than the arithmetic.
_PIXELS_AT_ONCE = 1 << 14


@dataclass(frozen=True)
class Transforms:
    """One transformation for each of N images."""

    matrix: NDArray[np.float64]
    """(N, 2, 2), from (row, column) of the result to (row, column) of the original image. Both are
    measured from the center."""
    shift_px: NDArray[np.float64]
    """(N, 2) (rows, columns), added after the matrix."""
    flip_horizontal: NDArray[np.bool_]
    """(N,)."""
    flip_vertical: NDArray[np.bool_]
    """(N,)."""
    brightness: NDArray[np.float64]
    """(N,) factor of the pixel values."""


def apply_randomly(
    images: NDArray[np.uint8], settings: Augment, generator: np.random.Generator
) -> NDArray[np.uint8]:
    """Draw and apply one transformation for each image: (N, H, W, C) uint8 to the same shape."""
    count, height_px, width_px, _ = images.shape
    transforms = draw_transforms(settings, count, height_px, width_px, generator)
    return transform_images(images, transforms, settings.fill_mode, settings.cval)


def draw_transforms(
    settings: Augment, count: int, height_px: int, width_px: int, generator: np.random.Generator
) -> Transforms:
    """Draw `count` random transformations.

    Every kind is drawn even if it is not used, so that the others do not change if one is switched
    off.
    """
    draws = generator.random((count, 8))
    signed = 2 * draws[:, :5] - 1  # [-1, 1)
    angle = np.deg2rad(settings.rotation_range * signed[:, 0])
    cosine, sine = cos(angle), sin(angle)
    shift_rows = settings.height_shift_range * height_px * signed[:, 1]
    shift_columns = settings.width_shift_range * width_px * signed[:, 2]
    zoom_rows = 1 + settings.zoom_range * signed[:, 3]
    zoom_columns = 1 + settings.zoom_range * signed[:, 4]
    low, high = settings.brightness_range
    return Transforms(
        matrix=np.stack(
            [cosine * zoom_rows, -sine * zoom_columns, sine * zoom_rows, cosine * zoom_columns],
            axis=1,
        ).reshape(count, 2, 2),
        shift_px=np.stack(
            [
                cosine * shift_rows - sine * shift_columns,
                sine * shift_rows + cosine * shift_columns,
            ],
            axis=1,
        ),
        flip_horizontal=(draws[:, 5] < 0.5) & settings.horizontal_flip,
        flip_vertical=(draws[:, 6] < 0.5) & settings.vertical_flip,
        brightness=low + (high - low) * draws[:, 7],
    )


def transform_images(
    images: NDArray[np.uint8], transforms: Transforms, fill_mode: str, cval: int
) -> NDArray[np.uint8]:
    """Apply one transformation to each image: (N, H, W, C) uint8 to the same shape.

    A pixel from outside the image is `cval` for `fill_mode` "constant", the nearest edge pixel for
    "nearest", and a pixel of the mirrored or repeated image for "reflect" (dcba|abcd|dcba) and
    "wrap" (abcd|abcd|abcd).
    """
    count, height_px, width_px, _ = images.shape
    result = np.empty_like(images)
    step = max(1, _PIXELS_AT_ONCE // (height_px * width_px))
    for start in range(0, count, step):
        part = slice(start, min(start + step, count))
        result[part] = _transform_part(images[part], transforms, part, fill_mode, cval)
    return result


def _transform_part(
    images: NDArray[np.uint8], transforms: Transforms, part: slice, fill_mode: str, cval: int
) -> NDArray[np.uint8]:
    _, height_px, width_px, channels = images.shape
    matrix, shift_px = transforms.matrix[part], transforms.shift_px[part]
    brightness = transforms.brightness[part].astype(np.float32)
    flips = ((transforms.flip_vertical[part], 1), (transforms.flip_horizontal[part], 2))
    is_moved = bool((matrix != np.eye(2)).any() or shift_px.any())
    if is_moved:
        rows, columns = _coordinates(matrix, shift_px, height_px, width_px)
        for flags, axis in flips:
            for coordinates in (rows, columns):
                coordinates[flags] = np.flip(coordinates[flags], axis)
        if fill_mode == "constant":
            outside = (rows < 0) | (rows > height_px - 1) | (columns < 0) | (columns > width_px - 1)
        top, left = np.floor(rows), np.floor(columns)
        corners = _look_up(images, top.astype(np.int32), left.astype(np.int32), fill_mode)
        down, right = np.subtract(rows, top, out=rows), np.subtract(columns, left, out=columns)
    result = np.empty_like(images)
    for channel in range(channels):
        if is_moved:
            values = _interpolate(corners[..., channel], down, right)
            if fill_mode == "constant":
                np.copyto(values, cval, where=outside)
        else:
            values = images[..., channel].astype(np.float32)
        if (brightness != 1).any():
            values *= brightness[:, None, None]
            np.minimum(values, 255, out=values)
        np.copyto(result[..., channel], np.rint(values, out=values), casting="unsafe")
    if not is_moved:
        for flags, axis in flips:
            result[flags] = np.flip(result[flags], axis)
    return result


def _coordinates(
    matrix: NDArray[np.float64], shift_px: NDArray[np.float64], height_px: int, width_px: int
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Return the row and the column, (N, H, W) each, of the original that each pixel comes from."""
    m = matrix.astype(np.float32)[:, :, :, None, None]
    t = shift_px.astype(np.float32)[:, :, None, None]
    center_row, center_column = np.float32(height_px / 2 - 0.5), np.float32(width_px / 2 - 0.5)
    i = np.arange(height_px, dtype=np.float32)[:, None] - center_row
    j = np.arange(width_px, dtype=np.float32)[None, :] - center_column
    rows = m[:, 0, 0] * i + (m[:, 0, 1] * j + (t[:, 0] + center_row))
    columns = m[:, 1, 0] * i + (m[:, 1, 1] * j + (t[:, 1] + center_column))
    return rows, columns


def _look_up(
    images: NDArray[np.uint8], top: NDArray[np.int32], left: NDArray[np.int32], fill_mode: str
) -> NDArray[np.uint8]:
    """Return the four pixels around each coordinate.

    Args:
        images: (N, H, W, C).
        top: (N, H, W), rounded down rows; overwritten.
        left: (N, H, W), rounded down columns; overwritten.
        fill_mode: how pixels outside the image are found.

    Returns:
        (2, 2, N, H, W, C or more): above and below, left and right.
    """
    count, height_px, width_px, channels = images.shape
    # A pixel becomes one number, and the four pixels of each place are stored side by side, so that
    # one look-up finds them all. Three channels are stored as four.
    pixels: NDArray[Any]
    if channels == 1:
        pixels, place = images[..., 0], "uint32"
    else:
        padded = np.empty((count, height_px, width_px, 4), dtype=np.uint8)
        for channel in range(channels):
            padded[..., channel] = images[..., channel]
        pixels, place = padded.view(np.uint32)[..., 0], "complex128"
    first, rows = _lay_out(height_px, fill_mode)
    _, columns = _lay_out(width_px, fill_mode)
    pixels = pixels.take(rows, axis=1).take(columns, axis=2)
    places_down, places_across = len(rows) - 1, len(columns) - 1
    places = np.empty((count, places_down, places_across, 2, 2), dtype=pixels.dtype)
    for below in (0, 1):
        for beside in (0, 1):
            places[..., below, beside] = pixels[
                :, below : below + places_down, beside : beside + places_across
            ]
    index = _fold(top, height_px, fill_mode)
    index *= places_across
    index += _fold(left, width_px, fill_mode)
    of_images = np.arange(count, dtype=np.int32) * (places_down * places_across)
    index += (of_images - first * (places_across + 1))[:, None, None]
    found = places.reshape(-1).view(place).take(index).view(np.uint8)
    return found.reshape(*index.shape, 2, 2, -1).transpose(3, 4, 0, 1, 2, 5)


def _lay_out(size: int, fill_mode: str) -> tuple[int, NDArray[np.intp]]:
    """Lay out the pixels along an axis so that a folded coordinate is between two neighbors.

    Returns:
        the coordinate of the first pixel of the layout, and the index in the image of each pixel.
    """
    match fill_mode:
        case "wrap":
            return 0, np.arange(size + 1) % size
        case "reflect":
            return 0, np.concatenate([np.arange(size), np.arange(size)[::-1], [0]])
        case _:  # "constant" overwrites the pixels outside afterwards
            return -1, np.clip(np.arange(-1, size + 1), 0, size - 1)


def _fold(floor: NDArray[np.int32], size: int, fill_mode: str) -> NDArray[np.int32]:
    """Map coordinates, in place, into the range for which `_lay_out` has pixels."""
    match fill_mode:
        case "wrap":
            return np.remainder(floor, size, out=floor)
        case "reflect":
            return np.remainder(floor, 2 * size, out=floor)
        case _:
            return np.clip(floor, -1, size - 1, out=floor)


def _interpolate(
    corners: NDArray[np.uint8], down: NDArray[np.float32], right: NDArray[np.float32]
) -> NDArray[np.float32]:
    """Interpolate between corners (2, 2, N, H, W): along each row, then between the two rows."""

    def along_row(left: NDArray[np.uint8], beside: NDArray[np.uint8]) -> NDArray[np.float32]:
        values, values_right = left.astype(np.float32), beside.astype(np.float32)
        values_right -= values
        values_right *= right
        values_right += values
        return values_right

    upper, lower = (along_row(*row) for row in corners)
    lower -= upper
    lower *= down
    lower += upper
    return lower
