"""Gzipped IDX archives: one file of images and one of labels for each split.

Format: http://yann.lecun.com/exdb/mnist/ (two zero bytes, a type code, the number of dimensions,
each dimension as a big-endian 32-bit integer, then the values, the last dimension fastest).
"""

import gzip
import math
import shutil
import struct
import zlib
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from imgpipe.core.errors import PipelineError
from imgpipe.datasets.catalog import IdxEntry
from imgpipe.preprocessing.splits import SPLITS

UNSIGNED_BYTE = 0x08


class Idx:
    """A `RawDataset`; images are read through a memory map, so memory stays flat."""

    def __init__(self, entry: IdxEntry, raw: Path, scratch: Path) -> None:
        shape = tuple(entry.format.image_shape)
        self._parts: list[tuple[str, Path, int, int]] = []  # file name, values, offset, first index
        labels, splits, first = [], [], 0
        for split, names in (
            ("train", entry.format.splits.train),
            ("test", entry.format.splits.test),
        ):
            path, offset, dimensions = _unpack(raw / names.images, scratch)
            found = (*dimensions[1:], 1) if len(dimensions) == 3 else dimensions[1:]
            if found != shape:
                raise PipelineError(
                    f"{raw.as_posix()}/{names.images}: expected images of {shape}"
                    f" (image_shape in the catalog); found {found}"
                )
            split_labels = _read_labels(raw / names.labels, scratch)
            if len(split_labels) != dimensions[0]:
                raise PipelineError(
                    f"{raw.as_posix()}/{names.labels}: expected {dimensions[0]} labels, one for"
                    f" each image in {names.images}; found {len(split_labels)}"
                )
            self._parts.append((names.images, path, offset, first))
            labels.append(split_labels)
            splits.append(np.full(len(split_labels), SPLITS.index(split), dtype=np.int8))
            first += len(split_labels)
        self._shape = shape
        self.classes = entry.format.classes
        self.labels: NDArray[np.int64] = np.concatenate(labels)
        self.splits: NDArray[np.int8] = np.concatenate(splits)

    def identities(self, indices: NDArray[np.int64]) -> list[str]:
        parts = [(index, self._part(index)) for index in indices.tolist()]
        return [f"{name}#{index - first}" for index, (name, _, _, first) in parts]

    def read(self, index: int) -> Image.Image:
        _, path, offset, first = self._part(index)
        size_bytes = math.prod(self._shape)
        with path.open("rb") as stream:
            stream.seek(offset + (index - first) * size_bytes)
            values = np.frombuffer(stream.read(size_bytes), dtype=np.uint8)
        image = values.reshape(self._shape)
        return Image.fromarray(image[..., 0] if self._shape[2] == 1 else image)

    def _part(self, index: int) -> tuple[str, Path, int, int]:
        return next(part for part in reversed(self._parts) if index >= part[3])


def _unpack(path: Path, scratch: Path) -> tuple[Path, int, tuple[int, ...]]:
    """Unpack one archive into `scratch`; return the file, where its values begin, and its shape."""
    unpacked = scratch / path.with_suffix("").name
    try:
        with gzip.open(path, "rb") as source, unpacked.open("wb") as target:
            shutil.copyfileobj(source, target)
    except FileNotFoundError:
        raise PipelineError(f"{path.as_posix()}: not found; `dvc repro fetch` brings it") from None
    except (OSError, EOFError, zlib.error) as error:
        raise PipelineError(f"{path.as_posix()}: damaged gzip archive: {error}") from None
    with unpacked.open("rb") as stream:
        magic = stream.read(4)
        if len(magic) < 4 or magic[:2] != b"\0\0" or magic[2] != UNSIGNED_BYTE or magic[3] == 0:
            raise PipelineError(
                f"{path.as_posix()}: expected an IDX file of unsigned bytes"
                f" (magic 00 00 08 0n); found {magic.hex(' ') or 'nothing'}"
            )
        header = stream.read(4 * magic[3])
    if len(header) < 4 * magic[3]:
        raise PipelineError(f"{path.as_posix()}: the IDX header is cut short")
    dimensions = struct.unpack(f">{magic[3]}I", header)
    offset = 4 + len(header)
    expected_bytes, found_bytes = offset + math.prod(dimensions), unpacked.stat().st_size
    if found_bytes != expected_bytes:
        raise PipelineError(
            f"{path.as_posix()}: its header {dimensions} promises {expected_bytes} bytes;"
            f" found {found_bytes}"
        )
    return unpacked, offset, dimensions


def _read_labels(path: Path, scratch: Path) -> NDArray[np.int64]:
    unpacked, offset, dimensions = _unpack(path, scratch)
    if len(dimensions) != 1:
        raise PipelineError(
            f"{path.as_posix()}: expected one dimension, of labels; found {len(dimensions)}"
        )
    return np.fromfile(unpacked, dtype=np.uint8, offset=offset).astype(np.int64)
