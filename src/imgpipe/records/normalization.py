"""How uint8 pixels become a network's input: fitted on the training split, see `info.json`."""

import math
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from imgpipe.core.schema import Section


class Normalization(Section):
    """normalized = pixel * scale + offset, channel by channel; pixel is in [0, 255]."""

    method: Literal["rescale", "standardize"]
    scale: list[float]
    offset: list[float]


def count_pixels(image: NDArray[np.uint8]) -> NDArray[np.int64]:
    """Count each pixel value in each channel of an image: (H, W, C) to (C, 256).

    Counts of several images can be added in any order with the same result: they are integers.
    """
    return np.stack(
        [np.bincount(channel.ravel(), minlength=256) for channel in np.moveaxis(image, 2, 0)]
    )


def fit_normalization(
    method: Literal["rescale", "standardize"], counts: NDArray[np.int64]
) -> Normalization:
    """Fit the normalization to the pixels of the training split.

    "rescale" maps [0, 255] to [0, 1]; "standardize" gives each channel mean 0 and standard
    deviation 1 over the training pixels (a constant channel is only centered).

    The counts (C, 256) are the sum of `count_pixels` over the images.
    """
    if method == "rescale":
        channels = len(counts)
        return Normalization(method=method, scale=[1 / 255] * channels, offset=[0.0] * channels)
    values = np.arange(256)
    scale, offset = [], []
    for of_channel in counts:
        pixels = int(of_channel.sum())
        total = int((of_channel * values).sum())
        square_total = int((of_channel * values * values).sum())
        variance = (pixels * square_total - total * total) / (pixels * pixels)
        deviation = math.sqrt(variance) or 1.0
        scale.append(1 / deviation)
        offset.append(-total / pixels / deviation)
    return Normalization(method=method, scale=scale, offset=offset)
