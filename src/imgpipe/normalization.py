"""How uint8 pixels become a network's input: fitted on the training split, kept in `info.json`."""

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from imgpipe.params import Section


class Normalization(Section):
    """normalised = pixel * scale + offset, channel by channel; pixel is in [0, 255]."""

    method: Literal["rescale", "standardize"]
    scale: list[float]
    offset: list[float]


@dataclass(frozen=True)
class PixelSums:
    """Exact sums over the pixels of some images, so that no order of summation can show."""

    pixels: int
    """Height times width, over all images."""
    total: tuple[int, ...]
    """Of the values of each channel."""
    square_total: tuple[int, ...]

    @classmethod
    def of_image(cls, image: NDArray[np.uint8]) -> "PixelSums":
        """Return the sums over one image (H, W, C)."""
        values = image.reshape(-1, image.shape[2]).astype(np.int64)
        return cls(
            len(values),
            tuple(values.sum(axis=0).tolist()),
            tuple((values * values).sum(axis=0).tolist()),
        )

    @classmethod
    def merge(cls, parts: "Iterable[PixelSums]") -> "PixelSums":
        """Return the sums over all images of the parts."""
        rows = [(part.pixels, part.total, part.square_total) for part in parts]
        pixels, totals, square_totals = zip(*rows, strict=True)
        return cls(
            sum(pixels),
            tuple(map(sum, zip(*totals, strict=True))),
            tuple(map(sum, zip(*square_totals, strict=True))),
        )


def fit_normalization(method: Literal["rescale", "standardize"], train: PixelSums) -> Normalization:
    """Decide the normalisation from the pixels of the training split.

    "rescale" maps [0, 255] to [0, 1]; "standardize" gives each channel mean 0 and standard
    deviation 1 over the training pixels (a channel without any variation is only centred).
    """
    if method == "rescale":
        channels = len(train.total)
        return Normalization(method=method, scale=[1 / 255] * channels, offset=[0.0] * channels)
    scale, offset = [], []
    for total, square_total in zip(train.total, train.square_total, strict=True):
        variance = (train.pixels * square_total - total * total) / train.pixels**2
        deviation = math.sqrt(variance) or 1.0
        scale.append(1 / deviation)
        offset.append(-total / train.pixels / deviation)
    return Normalization(method=method, scale=scale, offset=offset)
