"""The reader of gzipped IDX files: one file of images and one of labels for each split.

Format: http://yann.lecun.com/exdb/mnist/ (two zero bytes, a type code, the number of dimensions,
each dimension as a big-endian 32-bit integer, then the values, the last dimension fastest).
"""

import gzip
import math
import shutil
import struct
import zlib
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from imgpipe.core.errors import PipelineError
from imgpipe.datasets.catalog import DownloadEntry
from imgpipe.datasets.formats import IdxFormat
from imgpipe.preprocessing.image_files import UnusedFiles
from imgpipe.preprocessing.splits import SPLITS

UNSIGNED_BYTE = 0x08


class _Part(NamedTuple):
    """The images of one split."""

    split: str
    name: str
    """Name of the compressed file."""
    unpacked: Path
    offset_bytes: int
    """Where the values begin in the unpacked file."""
    shape: tuple[int, int, int, int]
    """(N, H, W, C)."""


class Idx:
    """A `RawDataset`; each process maps the unpacked images into memory, so memory stays flat."""

    def __init__(self, entry: DownloadEntry[IdxFormat], raw: Path, scratch: Path) -> None:
        height_px, width_px, channels = entry.format.image_shape
        self.unused = UnusedFiles()  # there are none
        self.groups = None
        self._parts: list[_Part] = []
        labels, splits = [], []
        for split, names in (
            ("train", entry.format.splits.train),
            ("test", entry.format.splits.test),
        ):
            path, offset_bytes, dimensions = _unpack(raw / names.images, scratch)
            found = (*dimensions[1:], 1) if len(dimensions) == 3 else dimensions[1:]
            if found != (height_px, width_px, channels):
                raise PipelineError(
                    f"{raw.as_posix()}/{names.images}: expected images of"
                    f" {(height_px, width_px, channels)} (image_shape in the catalog);"
                    f" found {found}"
                )
            split_labels = _read_labels(raw / names.labels, scratch)
            if len(split_labels) != dimensions[0]:
                raise PipelineError(
                    f"{raw.as_posix()}/{names.labels}: expected {dimensions[0]} labels, one for"
                    f" each image in {names.images}; found {len(split_labels)}"
                )
            shape = (dimensions[0], height_px, width_px, channels)
            self._parts.append(_Part(split, names.images, path, offset_bytes, shape))
            labels.append(split_labels)
            splits.append(np.full(len(split_labels), SPLITS.index(split), dtype=np.int8))
        self.classes = entry.format.classes
        self.labels: NDArray[np.int64] = np.concatenate(labels)
        self.splits: NDArray[np.int8] = np.concatenate(splits)

    def identities(self, indices: NDArray[np.int64]) -> list[str]:
        places = map(self._find, indices.tolist())
        return [f"{self._parts[part].name}#{number}" for part, number in places]

    def paths(self, indices: NDArray[np.int64]) -> list[str]:
        places = map(self._find, indices.tolist())
        return [f"{self._parts[part].split}/{number}" for part, number in places]

    def prefetch(self, indices: NDArray[np.int64]) -> None:
        """Do nothing: the images are on this machine."""

    def read(self, index: int) -> Image.Image:
        part, number = self._find(index)
        image = np.array(self._images[part][number])
        return Image.fromarray(image[..., 0] if image.shape[-1] == 1 else image)

    def close(self) -> None:
        self.__dict__.pop("_images", None)  # a map is closed when nothing refers to it

    def __getstate__(self) -> dict[str, Any]:
        """Another process maps the files itself; sent there, a map would become a copy."""
        return {name: value for name, value in self.__dict__.items() if name != "_images"}

    @cached_property
    def _images(self) -> list[NDArray[np.uint8]]:
        return [
            np.memmap(part.unpacked, np.uint8, "r", part.offset_bytes, part.shape)
            for part in self._parts
        ]

    def _find(self, index: int) -> tuple[int, int]:
        """Return the part that holds an image, and the number of the image in this part."""
        part = 0
        while index >= self._parts[part].shape[0]:
            index -= self._parts[part].shape[0]
            part += 1
        return part, index


def _unpack(path: Path, scratch: Path) -> tuple[Path, int, tuple[int, ...]]:
    """Unpack a file into `scratch`; return the path, the byte where values begin, and the shape."""
    unpacked = scratch / path.with_suffix("").name
    try:
        with gzip.open(path, "rb") as source, unpacked.open("wb") as target:
            shutil.copyfileobj(source, target)
    except FileNotFoundError:
        raise PipelineError(f"{path.as_posix()}: not found; run `dvc repro fetch`") from None
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
