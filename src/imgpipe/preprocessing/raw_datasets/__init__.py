"""Raw datasets behind one interface; who reads them never asks which kind they are."""

from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from imgpipe.core.errors import PipelineError
from imgpipe.datasets.catalog import DigitsEntry, Entry, IdxEntry
from imgpipe.preprocessing.raw_datasets.digits import Digits
from imgpipe.preprocessing.raw_datasets.idx import Idx
from imgpipe.preprocessing.raw_datasets.image_folder import ImageFolder


class RawDataset(Protocol):
    """The images of a raw dataset, numbered 0 to N - 1. Can be sent to another process."""

    classes: list[str]
    labels: NDArray[np.int64]
    """(N,) indices into `classes`."""
    splits: NDArray[np.int8]
    """(N,) official splits, indices into `splits.SPLITS`, or `splits.UNASSIGNED`."""

    def identities(self, indices: NDArray[np.int64]) -> list[str]:
        """Return the texts that lead back to the file and the place in it, e.g. `file.gz#17`."""

    def read(self, index: int) -> Image.Image:
        """Return one picture; a compressed one is decoded when it is used (`decode_and_resize`).

        Raises:
            UnreadableImageError: the file is no image, or is damaged.
        """


def open_dataset(entry: Entry, raw: Path, scratch: Path) -> RawDataset:
    """Open the fetched files of a dataset.

    `scratch` is a folder for unpacked copies; it must last as long as the source is read.

    Raises:
        PipelineError: a file is damaged, or its labels do not fit the entry's classes.
    """
    source: RawDataset
    match entry:
        case DigitsEntry():
            source = Digits(entry, raw)
        case IdxEntry():
            source = Idx(entry, raw, scratch)
        case _:
            source = ImageFolder(entry, raw, scratch)
    _check_labels(source)
    return source


def _check_labels(source: RawDataset) -> None:
    count = np.bincount(source.labels, minlength=len(source.classes))
    if len(count) > len(source.classes):
        (where,) = source.identities(np.flatnonzero(source.labels == len(count) - 1)[:1])
        raise PipelineError(
            f"label {len(count) - 1} found in {where};"
            f" the catalog names {len(source.classes)} classes"
        )
    if not count.all():
        raise PipelineError(
            f"class {source.classes[int(count.argmin())]!r} has no images;"
            " add some, or remove the class from the catalog or its folder"
        )
