"""The reader of the digits in scikit-learn: gzipped CSV, one image of 8 x 8 values in a line."""

import gzip
import zlib
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from imgpipe.core.errors import PipelineError
from imgpipe.datasets.catalog import DownloadEntry
from imgpipe.datasets.formats import DigitsFormat
from imgpipe.preprocessing.image_files import UnusedFiles
from imgpipe.preprocessing.splits import UNASSIGNED

LARGEST_VALUE = 16  # of a pixel, which is the number of set bits in a block of 4 x 4


class Digits:
    """A `RawDataset`; each line of the file holds the pixels, row by row, then the label."""

    def __init__(self, entry: DownloadEntry[DigitsFormat], raw: Path, scratch: Path) -> None:
        self.unused = UnusedFiles()  # there are none
        self.groups = None
        self._file_name = entry.files[0].name
        path = raw / self._file_name
        try:
            with gzip.open(path, "rt", encoding="ascii") as stream:
                table = np.loadtxt(stream, delimiter=",", dtype=np.int64, ndmin=2)
        except FileNotFoundError:
            raise PipelineError(f"{path.as_posix()}: not found; run `dvc repro fetch`") from None
        except (OSError, EOFError, ValueError, zlib.error) as error:
            raise PipelineError(
                f"{path.as_posix()}: not a gzipped table of digits: {error}"
            ) from None
        height_px, width_px, _ = entry.format.image_shape
        if table.shape[1] != height_px * width_px + 1:
            raise PipelineError(
                f"{path.as_posix()}: expected {height_px * width_px} pixels and a label"
                f" in a line; found {table.shape[1]} values"
            )
        _check_values(table, path)
        pixels = np.rint(table[:, :-1] * (255 / LARGEST_VALUE)).astype(np.uint8)
        self._images: NDArray[np.uint8] = pixels.reshape(-1, height_px, width_px)
        self.classes = entry.format.classes
        self.labels: NDArray[np.int64] = table[:, -1]
        self.splits: NDArray[np.int8] = np.full(len(table), UNASSIGNED, dtype=np.int8)

    def identities(self, indices: NDArray[np.int64]) -> list[str]:
        return [f"{self._file_name}#{index}" for index in indices.tolist()]

    def paths(self, indices: NDArray[np.int64]) -> list[str]:
        return [str(index) for index in indices.tolist()]

    def prefetch(self, indices: NDArray[np.int64]) -> None:
        """Do nothing: the images are on this machine."""

    def read(self, index: int) -> Image.Image:
        return Image.fromarray(self._images[index])

    def close(self) -> None:
        """Do nothing: the images are in memory, and no file is open."""


def _check_values(table: NDArray[np.int64], path: Path) -> None:
    """Check pixels and labels; others would become other pixels and labels without a word."""
    largest = np.full(table.shape[1], LARGEST_VALUE)
    largest[-1] = np.iinfo(np.int64).max  # a label that is too large is found with the classes
    wrong = np.argwhere((table < 0) | (table > largest))
    if len(wrong):
        row, column = wrong[0].tolist()
        is_label = column == table.shape[1] - 1
        expected = "a label of 0 or more" if is_label else f"a pixel from 0 to {LARGEST_VALUE}"
        raise PipelineError(
            f"{path.as_posix()}: row {row + 1}, column {column + 1}: expected {expected}; found"
            f" {table[row, column]}"
        )
