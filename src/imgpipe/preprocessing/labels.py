"""The labels of images that are not in a folder for each class: from their names, or a table."""

import posixpath
import re
import unicodedata
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from imgpipe.core.errors import PipelineError
from imgpipe.preprocessing.image_files import has_image_ending
from imgpipe.preprocessing.splits import UNASSIGNED, Paths

NO_LABEL = -1
PATHS_AT_ONCE = 1 << 12


class ImageLabels(NamedTuple):
    """The labels of N images."""

    classes: list[str]
    """Their names, in the order in which they are found."""
    labels: NDArray[np.int64]
    """(N,) indices into `classes`, or NO_LABEL."""
    splits: NDArray[np.int8]
    """(N,) official splits, indices into `splits.SPLITS`, or `splits.UNASSIGNED`."""
    groups: NDArray[np.int64] | None
    """(N,) numbers, equal for images that belong together, or `groups.NO_GROUP`; None without."""

    def renumber(self, classes: list[str]) -> NDArray[np.int64]:
        """Return the labels as indices into other classes; NO_LABEL for all that are not there."""
        numbers = {name: number for number, name in enumerate(classes)}
        new = [numbers.get(name, NO_LABEL) for name in self.classes]
        return np.array([*new, NO_LABEL])[self.labels]


def label_by_pattern(pattern: str, paths: Paths, images: int, shown: str) -> ImageLabels:
    """Take labels from the names of files, without folders and ending.

    Args:
        pattern: a regular expression for the whole name; its group is the name of the class.
        paths: returns the paths inside the dataset of the images with the given indices.
        images: N.
        shown: the name of the dataset in errors.

    Raises:
        PipelineError: the pattern matches no name.
    """
    compiled = re.compile(pattern)
    classes: dict[str, int] = {}
    labels = np.full(images, NO_LABEL, dtype=np.int64)
    name = ""
    for start in range(0, images, PATHS_AT_ONCE):
        indices = np.arange(start, min(start + PATHS_AT_ONCE, images))
        for index, path in zip(indices, paths(indices), strict=True):
            name = remove_ending(posixpath.basename(path))
            matched = compiled.fullmatch(name)
            if matched and (label := clean_label(matched[1] or "")):
                labels[index] = classes.setdefault(label, len(classes))
    if not classes:
        raise PipelineError(
            f"{shown}: the pattern {pattern} matches no name of an image without its ending, such"
            f" as {name!r}; it must match the whole name"
        )
    return ImageLabels(list(classes), labels, np.full(images, UNASSIGNED, dtype=np.int8), None)


def clean_label(text: str) -> str:
    """Return the text of a label with composed accents, and one space for each white space."""
    return " ".join(unicodedata.normalize("NFC", text).split())


def remove_ending(name: str) -> str:
    """Return the name of a file without the ending of an image, if it has one."""
    return posixpath.splitext(name)[0] if has_image_ending(name) else name
