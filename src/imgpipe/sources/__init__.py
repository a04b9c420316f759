"""Raw datasets behind one interface; who reads them never asks which kind they are."""

from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from imgpipe.catalog import DigitsEntry, Entry, IdxEntry
from imgpipe.errors import PipelineError
from imgpipe.sources.digits import Digits
from imgpipe.sources.idx import Idx


class Source(Protocol):
    """The images of a raw dataset, numbered 0 to N - 1. Can be sent to another process."""

    labels: NDArray[np.int64]
    """(N,) indices into the entry's classes."""
    splits: NDArray[np.str_]
    """(N,) the official split of each image, "" where the dataset leaves the choice."""

    def identity(self, index: int) -> str:
        """Return the text that leads back to the file and the place in it, e.g. `file.gz#17`."""

    def read(self, index: int) -> NDArray[np.uint8]:
        """Return one image, (H, W, C) uint8 in [0, 255], at its own size."""


def open_source(entry: DigitsEntry | IdxEntry, raw: Path, scratch: Path) -> Source:
    """Open the fetched files of a dataset.

    `scratch` is a folder for unpacked copies; it must last as long as the source is read.

    Raises:
        PipelineError: a file is damaged, or its labels do not fit the entry's classes.
    """
    source: Source = (
        Digits(entry, raw) if isinstance(entry, DigitsEntry) else Idx(entry, raw, scratch)
    )
    _check_labels(source, entry)
    return source


def _check_labels(source: Source, entry: Entry) -> None:
    count = np.bincount(source.labels, minlength=len(entry.classes))
    if len(count) > len(entry.classes):
        raise PipelineError(
            f"label {len(count) - 1} found in {source.identity(int(source.labels.argmax()))};"
            f" the catalog names {len(entry.classes)} classes"
        )
    if not count.all():
        raise PipelineError(f"class {entry.classes[int(count.argmin())]!r} has no images")
