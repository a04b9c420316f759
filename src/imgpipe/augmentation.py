"""Random transformations of uint8 images, with the names and meaning of Keras's ImageDataGenerator.

Source: https://keras.io/2.18/api/data_loading/image/ and `apply_affine_transform` there: rotation,
shift and zoom become one matrix about the image's centre, sampled with bilinear interpolation.
Only elementwise IEEE arithmetic touches pixels, so the bytes are the same on every processor.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from imgpipe.params import Augment

_PIXELS_AT_ONCE = 1 << 17  # keeps the working arrays in the processor's cache


@dataclass(frozen=True)
class Transforms:
    """One transformation for each of N images."""

    matrix: NDArray[np.float64]
    """(N, 2, 2) from (row, column) of the result to those of the original, both from the centre."""
    shift_px: NDArray[np.float64]
    """(N, 2) added after the matrix."""
    flip_horizontal: NDArray[np.bool_]
    flip_vertical: NDArray[np.bool_]
    brightness: NDArray[np.float64]
    """(N,) factor of the pixel values."""


def draw_transforms(
    settings: Augment, count: int, height_px: int, width_px: int, generator: np.random.Generator
) -> Transforms:
    """Draw `count` random transformations.

    Every kind is drawn whether it is used or not, so that switching one off leaves the others as
    they were.
    """
    draws = generator.random((count, 8))
    signed = 2 * draws[:, :5] - 1  # [-1, 1)
    angle = np.deg2rad(settings.rotation_range * signed[:, 0])
    cosine, sine = np.cos(angle), np.sin(angle)
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

    What lies outside the image is `cval` for `fill_mode` "constant", the nearest edge pixel for
    "nearest", and the image mirrored or repeated for "reflect" (dcba|abcd|dcba) and "wrap"
    (abcd|abcd|abcd).
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
    matrix, shift_px = transforms.matrix[part], transforms.shift_px[part]
    if (matrix == np.eye(2)).all() and not shift_px.any():
        values = images.astype(np.float32)
    else:
        values = _resample(images, matrix, shift_px, fill_mode, cval)
    values *= transforms.brightness[part, None, None, None].astype(np.float32)
    result = np.rint(np.minimum(values, 255)).astype(np.uint8)
    for flags, axis in ((transforms.flip_vertical[part], 1), (transforms.flip_horizontal[part], 2)):
        result[flags] = np.flip(result[flags], axis)
    return result


def _resample(
    images: NDArray[np.uint8],
    matrix: NDArray[np.float64],
    shift_px: NDArray[np.float64],
    fill_mode: str,
    cval: int,
) -> NDArray[np.float32]:
    count, height_px, width_px, channels = images.shape
    m = matrix.astype(np.float32)[:, :, :, None, None]
    t = shift_px.astype(np.float32)[:, :, None, None]
    centre_row, centre_column = np.float32(height_px / 2 - 0.5), np.float32(width_px / 2 - 0.5)
    i = np.arange(height_px, dtype=np.float32)[:, None] - centre_row
    j = np.arange(width_px, dtype=np.float32)[None, :] - centre_column
    rows = m[:, 0, 0] * i + (m[:, 0, 1] * j + (t[:, 0] + centre_row))
    columns = m[:, 1, 0] * i + (m[:, 1, 1] * j + (t[:, 1] + centre_column))

    top, left = np.floor(rows), np.floor(columns)
    down, right = (rows - top)[..., None], (columns - left)[..., None]
    top_row, bottom_row = _neighbours(top.astype(np.int32), height_px, fill_mode)
    left_column, right_column = _neighbours(left.astype(np.int32), width_px, fill_mode)
    pixels = images.reshape(-1, channels)
    image_start = (np.arange(count, dtype=np.int32) * (height_px * width_px))[:, None, None]
    above, below = image_start + top_row * width_px, image_start + bottom_row * width_px

    def blend(row_start: NDArray[np.int32]) -> NDArray[np.float32]:
        first = pixels.take(row_start + left_column, axis=0).astype(np.float32)
        second = pixels.take(row_start + right_column, axis=0).astype(np.float32)
        second -= first
        second *= right
        second += first
        return second

    upper, values = blend(above), blend(below)
    values -= upper
    values *= down
    values += upper
    if fill_mode == "constant":
        outside = (rows < 0) | (rows > height_px - 1) | (columns < 0) | (columns > width_px - 1)
        values[outside] = cval
    return values


def _neighbours(
    first: NDArray[np.int32], size: int, fill_mode: str
) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
    """Return the indices of the two pixels around a coordinate whose floor is `first`."""
    return _inside(first, size, fill_mode), _inside(first + 1, size, fill_mode)


def _inside(index: NDArray[np.int32], size: int, fill_mode: str) -> NDArray[np.int32]:
    match fill_mode:
        case "wrap":
            return index % size
        case "reflect":
            folded = index % (2 * size)
            return np.minimum(folded, 2 * size - 1 - folded)
        case _:  # "constant" overwrites afterwards what lies outside
            return np.clip(index, 0, size - 1)
