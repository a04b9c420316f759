"""Images that stay in the shards until they are used."""

import math
import mmap
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from imgpipe.records.info import RecordsInfo
from imgpipe.records.shards import ShardIndex

_MOST_OPEN_FILES = 128


class StoredImages:
    """The images of some shards, read from memory-mapped files when they are used.

    Images are numbered through all shards, in their order. Each takes 16 bytes of memory. The
    system caches as much of the files as fits. `index_shard` has validated the files; they must not
    change afterwards.
    """

    def __init__(self, shards: Sequence[ShardIndex], info: RecordsInfo) -> None:
        """Use the images of these shards; `info` describes their shape."""
        self._paths = [shard.path for shard in shards]
        self._image_shape = info.image_shape
        self._map = lru_cache(maxsize=_MOST_OPEN_FILES)(_map_file)
        self._ends = np.cumsum([len(shard.image_ranges) for shard in shards])
        ranges = np.concatenate([shard.image_ranges for shard in shards])
        self._starts, self._stops = ranges.T.copy()

    @property
    def shape(self) -> tuple[int, ...]:
        """(N, H, W, C)."""
        return len(self._starts), *self._image_shape

    @property
    def dtype(self) -> np.dtype[np.uint8]:
        """Of every image."""
        return np.dtype(np.uint8)

    def __getitem__(self, numbers: NDArray[np.integer[Any]], /) -> NDArray[Any]:
        """Return the images of these numbers, (B, H, W, C)."""
        size_bytes = math.prod(self._image_shape)
        images = np.empty((len(numbers), *self._image_shape), dtype=np.uint8)
        pixels = images.reshape(-1).data
        places = zip(
            np.searchsorted(self._ends, numbers, side="right").tolist(),
            self._starts[numbers].tolist(),
            self._stops[numbers].tolist(),
            strict=True,
        )
        # Creating an array for each image would take as long as copying it.
        for number, (file, start, stop) in enumerate(places):
            content = self._map(self._paths[file])[start:stop]
            pixels[number * size_bytes : (number + 1) * size_bytes] = content
        return images


Inputs = NDArray[Any] | StoredImages
"""N inputs of a network, (N, ...), images or features, selected by an array of numbers."""


class LabeledInputs(NamedTuple):
    """Inputs of a network, (N, H, W, C) uint8 or (N, F) float32, and their labels (N,) int64."""

    inputs: Inputs
    labels: NDArray[np.int64]


def _map_file(path: Path) -> memoryview:
    with path.open("rb") as stream:
        return memoryview(mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ))
