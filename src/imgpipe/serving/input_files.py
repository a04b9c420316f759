"""The files that a person names, and the files in the named folders, to be predicted."""

import os
import re
import shlex
import sys
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from pathlib import Path
from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray

from imgpipe.archives.folders import is_litter
from imgpipe.archives.members import MEMBER_LIMIT_BYTES
from imgpipe.core.errors import PipelineError, UnreadableImageError
from imgpipe.nn.inference.file_prediction import FilePrediction
from imgpipe.preprocessing.decoding import START_BYTES, decode_and_resize, open_image
from imgpipe.preprocessing.image_files import IGNORED, NOT_AN_IMAGE, UnusedFiles, is_image_file
from imgpipe.settings.image_spec import ImageSpec

STANDARD_INPUT = Path("-")
NOT_A_FILE = "not a file"
# A scheme of one letter is a drive of Windows.
_ADDRESS = re.compile(r"([a-z][a-z0-9+.-]+):/+(.*)", re.IGNORECASE | re.DOTALL)
_FETCHED_BY_CURL = ("http", "https", "ftp", "ftps")


class InputFiles:
    """The files at the places that a person names.

    Attributes:
        images: the named files, and the images in the named folders and below, by the rule of
            `imgpipe.preprocessing.image_files`; sorted for each place.
        failures: the places and the parts of folders that cannot be read, each with its reason.
        unused: the other files in the folders.
    """

    def __init__(self, places: Sequence[str]) -> None:
        """Find the files; "-" is standard input.

        Raises:
            PipelineError: a name is empty.
        """
        self.images: list[Path] = []
        self.failures: list[FilePrediction] = []
        self.unused = UnusedFiles()
        for place in places:
            path = Path(place)
            if not place:
                raise PipelineError("expected a file or folder; found an empty name")
            if place == STANDARD_INPUT.name:
                self.images.append(STANDARD_INPUT)
            elif path.is_dir():
                self._add_folder(path)
            elif os.path.lexists(path):
                self._add_images([path])
            elif address := _ADDRESS.fullmatch(place):
                self._fail(*_answer_address(*address.groups()))
            else:
                self._fail(path.as_posix(), "no such file or folder")

    def _fail(self, file: str, reason: str) -> None:
        self.failures.append(FilePrediction(file, [], error=reason))

    def _add_images(self, paths: Sequence[Path]) -> None:
        # A file of this name is not standard input.
        self.images += [path.absolute() if path == STANDARD_INPUT else path for path in paths]

    def _add_folder(self, place: Path) -> None:
        images = sorted(path for path in self._walk(place) if self._is_used(path))
        if not images:
            self._fail(place.as_posix(), "no images in this folder")
        self._add_images(images)

    def _walk(self, folder: Path) -> Iterator[Path]:
        """Yield the files below a folder that are neither ignored nor failures."""
        try:
            with os.scandir(folder) as entries:
                found = sorted(entries, key=lambda entry: entry.name)
        except OSError as error:
            self._fail(folder.as_posix(), f"cannot be read: {error.strerror}")
            return
        for entry in found:
            path = folder / entry.name
            if is_litter(entry.name + "/" * entry.is_dir()):
                self.unused.add(IGNORED, path.as_posix())
            elif entry.is_dir() and entry.is_symlink():
                reason = "a link to a folder, which is not followed; name it as well"
                self._fail(path.as_posix(), reason)
            elif entry.is_dir():
                yield from self._walk(path)
            elif entry.is_file() or not path.exists():  # a link to nothing fails when it is read
                yield path
            else:  # a pipe, which could make the program wait, or the like
                self.unused.add(NOT_A_FILE, path.as_posix())

    def _is_used(self, path: Path) -> bool:
        """Return whether a file of a folder is an image; if it is none, list it."""
        try:
            is_image = is_image_file(path.name, partial(_read_start, path))
        except OSError:  # the error is reported when the whole file is read
            return True
        if not is_image:
            self.unused.add(NOT_AN_IMAGE, path.as_posix())
        return is_image


def _answer_address(scheme: str, rest: str) -> tuple[str, str]:
    """Return an address without what may be secret, and what to do in place of naming it."""
    _, at, rest = rest.rpartition("@")
    rest, mark, _ = rest.partition("?")
    shown = f"{scheme}://{at and '***@'}{rest}{mark and '?***'}"
    if scheme.lower() not in _FETCHED_BY_CURL:
        return shown, "an address; download the file, and name that"
    fetch = f"curl -L {'ADDRESS' if at or mark else shlex.quote(shown)}"
    return shown, f"an address; to read it: {fetch} | python src/predict.py -"


def _read_start(path: Path) -> bytes:
    with path.open("rb") as stream:
        return stream.read(START_BYTES)


def read_image(path: Path, image_spec: ImageSpec) -> NDArray[np.uint8]:
    """Return the image in a file, or in standard input, as `preprocess` would convert it.

    Returns:
        (H, W, C) uint8.

    Raises:
        UnreadableImageError: it cannot be read.
    """
    try:
        with _open(path) as stream:
            if os.fstat(stream.fileno()).st_size > MEMBER_LIMIT_BYTES:
                raise UnreadableImageError(f"more than the limit of {MEMBER_LIMIT_BYTES} bytes")
            content = stream.read()
    except OSError as error:
        raise UnreadableImageError(f"cannot be read: {error.strerror}") from None
    return decode_and_resize(open_image(content), image_spec)


def _open(path: Path) -> AbstractContextManager[BinaryIO]:
    if path != STANDARD_INPUT:
        return path.open("rb")
    if sys.stdin is None:
        raise UnreadableImageError("standard input is closed")
    return nullcontext(sys.stdin.buffer)
