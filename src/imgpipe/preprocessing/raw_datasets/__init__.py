"""The readers of raw datasets, one for each format of `imgpipe.datasets.formats`."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from imgpipe.core.errors import PipelineError
from imgpipe.datasets.catalog import Entry
from imgpipe.preprocessing.image_files import UnusedFiles
from imgpipe.preprocessing.raw_datasets.digits import Digits
from imgpipe.preprocessing.raw_datasets.idx import Idx
from imgpipe.preprocessing.raw_datasets.image_folder import ImageFolder


class RawDataset(Protocol):
    """The images of a raw dataset, numbered 0 to N - 1.

    A dataset can be sent to another process, which opens the files itself.
    """

    classes: list[str]
    unused: UnusedFiles
    """The files beside the images."""

    @property
    def labels(self) -> NDArray[np.int64]:
        """(N,) indices into `classes`."""

    @property
    def splits(self) -> NDArray[np.int8]:
        """(N,) official splits, indices into `splits.SPLITS`, or `splits.UNASSIGNED`."""

    @property
    def groups(self) -> NDArray[np.int64] | None:
        """(N,) numbers, equal for images that belong together, or `groups.NO_GROUP`.

        None if the dataset has no groups.
        """

    def identities(self, indices: NDArray[np.int64]) -> list[str]:
        """Return the texts that lead back to the file and the place in it, e.g. `file.gz#17`."""

    def paths(self, indices: NDArray[np.int64]) -> list[str]:
        """Return the paths of images inside the dataset, e.g. `oak/IMG_1.jpg`, or their numbers.

        They do not depend on the names of the dataset, its folder, its archives or its `root`, nor
        on other images, because they decide the splits.
        """

    def prefetch(self, indices: NDArray[np.int64]) -> None:
        """Get images that will be read next, if that saves time."""

    def read(self, index: int) -> Image.Image:
        """Return one picture; the pixels of an image file are decoded by `decode_and_resize`.

        Raises:
            UnreadableImageError: the file is not an image, or is damaged.
        """

    def close(self) -> None:
        """Close the files of the dataset."""


# Each takes the entry, the folder of the fetched files, and a folder for unpacked copies.
READERS: dict[str, Callable[[Any, Path, Path], RawDataset]] = {
    "digits": Digits,
    "idx": Idx,
    "image_folder": ImageFolder,
}


def open_dataset(entry: Entry, raw: Path, scratch: Path) -> RawDataset:
    """Open the fetched files of a dataset.

    The folder `scratch`, for unpacked copies, must last as long as the dataset is read.

    Raises:
        PipelineError: a file is damaged, or its labels do not fit the entry's classes.
    """
    dataset = READERS[entry.format.kind](entry, raw, scratch)
    _check_labels(dataset)
    return dataset


def _check_labels(dataset: RawDataset) -> None:
    count = np.bincount(dataset.labels, minlength=len(dataset.classes))
    if len(count) > len(dataset.classes):
        (where,) = dataset.identities(np.flatnonzero(dataset.labels == len(count) - 1)[:1])
        raise PipelineError(
            f"label {len(count) - 1} found in {where};"
            f" the catalog names {len(dataset.classes)} classes"
        )
    if not count.all():
        raise PipelineError(
            f"class {dataset.classes[int(count.argmin())]!r} has no images;"
            " add some, or remove the class from the catalog or its folder"
        )
