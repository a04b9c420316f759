"""Which files of a folder or an archive are images: one rule for training and for `predict`.

A file is an image if its name has the ending of an image, or if its first bytes belong to a
known format, whichever ending it has. So only files with other endings are opened to decide, and an
image that is damaged or of a format that cannot be read still counts as an image: an unreadable
one. All other files are unused files. Hidden files, and files that systems and programs leave in
folders, are unused files without a look at their content.
"""

import posixpath
from collections import Counter, defaultdict
from collections.abc import Callable
from typing import Any

from imgpipe.preprocessing.decoding import FORMAT_OF_SUFFIX, find_format

NOT_AN_IMAGE = "not an image"
OUTSIDE_CLASSES = "outside of the folders of the classes"
WITHOUT_ROW = "without a row in the table of labels"
WITHOUT_MATCH = "with a name that does not match the pattern of labels"
OTHER_LABEL = "of a class that format.classes leaves out"
IGNORED = "hidden, or left by a system or a program"

# Endings of formats that are not read: who puts such a file into a folder of images means an image.
_UNREAD_ENDINGS = {
    ".arw", ".cr2", ".cr3", ".dng", ".exr", ".ico", ".j2k", ".jp2", ".jxl", ".nef", ".orf", ".pbm",
    ".pgm", ".pnm", ".ppm", ".psd", ".raf", ".rw2", ".svg", ".tga",
}  # fmt: skip
_IMAGE_ENDINGS = FORMAT_OF_SUFFIX.keys() | _UNREAD_ENDINGS
_SHOWN_FILES = 100


def has_image_ending(name: str) -> bool:
    """Return whether the name of a file, with "/" between its parts, ends as names of images do."""
    return posixpath.splitext(name)[1].lower() in _IMAGE_ENDINGS


def is_image_file(name: str, read_start: Callable[[], bytes]) -> bool:
    """Return whether a file is an image, by its name, or else by its first bytes.

    `read_start` returns at least the first `START_BYTES` bytes of the file; it is only called if
    the name has no ending of an image.
    """
    return has_image_ending(name) or find_format(read_start()) is not None


class UnusedFiles:
    """The files that are not among the images of a dataset, by the reason.

    All are counted. The first names of each reason are stored, so that the memory does not grow.
    """

    def __init__(self) -> None:
        """Begin without files."""
        self._counts: Counter[str] = Counter()
        self._first: defaultdict[str, list[str]] = defaultdict(list)

    def add(self, reason: str, name: str) -> None:
        """Add a file."""
        self._counts[reason] += 1
        if self._counts[reason] <= _SHOWN_FILES:
            self._first[reason].append(name)

    def count(self) -> int:
        """Return the number of all files."""
        return self._counts.total()

    def to_metrics(self) -> list[dict[str, Any]]:
        """Return reason, count and first names, in the order of the reasons."""
        return [
            {"reason": reason, "files": count, "first": self._first[reason]}
            for reason, count in sorted(self._counts.items())
        ]
