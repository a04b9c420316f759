"""The reader of image files: a folder for each class, in folders for the official splits if any."""

from array import array
from collections.abc import Iterable, Iterator
from pathlib import Path, PurePosixPath

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from imgpipe.core.errors import PipelineError
from imgpipe.datasets.catalog import DownloadEntry, LocalEntry
from imgpipe.datasets.formats import ImageFolderFormat
from imgpipe.datasets.packing import is_litter
from imgpipe.preprocessing.archives import open_archive
from imgpipe.preprocessing.decoding import open_image
from imgpipe.preprocessing.splits import SPLITS, UNASSIGNED

# The split that a folder holds, by the name of the folder in lower case.
SPLIT_OF_NAME = {
    "train": "train",
    "training": "train",
    "val": "validation",
    "valid": "validation",
    "validation": "validation",
    "test": "test",
    "testing": "test",
}


class ImageFolder:
    """A `RawDataset`; an image is found by its number among the members of its archive."""

    def __init__(
        self,
        entry: DownloadEntry[ImageFolderFormat] | LocalEntry[ImageFolderFormat],
        raw: Path,
        scratch: Path,
    ) -> None:
        self._shown = entry.show_archives(raw)
        self._identity_prefixes = entry.identity_prefixes
        self._archives = [open_archive(raw / name, scratch) for name in entry.archive_names]
        self._root = _root_folder(entry.format)
        self._index(entry.format)

    def _index(self, reading: ImageFolderFormat) -> None:
        folders = _split_folders(reading)
        archives, members, labels, splits = array("q"), array("q"), array("i"), array("b")
        found: dict[str, int] = {}  # each class, numbered as it is found
        folders_of_split: dict[int, set[str]] = {split: set() for split in folders.values()}
        tops: set[str] = set()
        for archive, member, name in self._list_members():
            if is_litter(name):
                continue
            if "/" in name:
                tops.add(name.split("/")[0])
            for folder, split in folders.items():
                class_name, slash, rest = name.removeprefix(folder).partition("/")
                # A file beside the folders of the classes, for example a license, is not an image.
                if not (name.startswith(folder) and slash):
                    continue
                folders_of_split[split].add(class_name)
                if reading.classes is None or class_name in reading.classes:
                    label = found.setdefault(class_name, len(found))
                    if rest and not rest.endswith("/"):
                        archives.append(archive)
                        members.append(member)
                        labels.append(label)
                        splits.append(split)
        self.classes = reading.classes or sorted(found)
        self._check_folders(reading, folders, folders_of_split, tops)
        renumbered = np.array([self.classes.index(name) for name in found], dtype=np.int64)
        self._archive_of = np.frombuffer(archives, dtype=np.int64)
        self._member_of = np.frombuffer(members, dtype=np.int64)
        self.labels: NDArray[np.int64] = renumbered[np.frombuffer(labels, dtype=np.int32)]
        self.splits: NDArray[np.int8] = np.frombuffer(splits, dtype=np.int8)

    def _list_members(self) -> Iterator[tuple[int, int, str]]:
        """Yield the number of the archive, the number of the member in it, and its name."""
        for number, archive in enumerate(self._archives):
            for member, name in enumerate(archive.names):
                yield number, member, name

    def _check_folders(
        self,
        reading: ImageFolderFormat,
        folders: dict[str, int],
        folders_of_split: dict[int, set[str]],
        tops: set[str],
    ) -> None:
        for folder, split in folders.items():
            place = f"{self._shown}: {folder.rstrip('/') or 'its top'}"
            missing = sorted(set(self.classes) - folders_of_split[split])
            if len(missing) == len(self.classes):
                raise PipelineError(
                    f"{place}: no folder of a class there; found at the top: {_list(tops)};"
                    " write in the catalog where they are: format.root, format.splits"
                )
            if missing:
                raise PipelineError(
                    f"{place}: no folder for the class {missing[0]!r}; found there:"
                    f" {_list(folders_of_split[split])}; the classes must be the same everywhere:"
                    " rename folders, or list them in the catalog's format.classes"
                )
        if len(self.classes) == 1:
            (only,) = self.classes
            raise PipelineError(
                f"{self._shown}: only one class, {only!r}; at least two are needed, a folder for"
                f" each; if the classes are inside {only!r}, write format.root: {only}"
                " in the catalog"
            )
        look_like_splits = {name.lower() for name in self.classes} <= SPLIT_OF_NAME.keys()
        if reading.splits is None and look_like_splits:
            example = ", ".join(f"{name}: {name}" for name in self.classes)
            raise PipelineError(
                f"{self._shown}: the folders {_list(self.classes)} look like splits, not classes;"
                f" if they are, write in the catalog: format.splits: {{{example}}}"
            )

    def identities(self, indices: NDArray[np.int64]) -> list[str]:
        places = zip(self._archive_of[indices], self._member_of[indices], strict=True)
        return [
            self._identity_prefixes[archive] + self._archives[archive].names[member]
            for archive, member in places
        ]

    def paths(self, indices: NDArray[np.int64]) -> list[str]:
        places = zip(self._archive_of[indices], self._member_of[indices], strict=True)
        return [
            self._archives[archive].names[member].removeprefix(self._root)
            for archive, member in places
        ]

    def read(self, index: int) -> Image.Image:
        archive = self._archives[self._archive_of[index]]
        member = int(self._member_of[index])
        return open_image(archive.read(member), PurePosixPath(archive.names[member]).suffix.lower())

    def close(self) -> None:
        for archive in self._archives:
            archive.close()


def _root_folder(reading: ImageFolderFormat) -> str:
    """Return the folder of the dataset in its archives, with "/" at its end; "" for the top."""
    return f"{reading.root}/" if reading.root else ""


def _split_folders(reading: ImageFolderFormat) -> dict[str, int]:
    """Return the folder of each official split, with "/" at its end; "" for the top."""
    root = _root_folder(reading)
    if reading.splits is None:
        return {root: UNASSIGNED}
    named = reading.splits.model_dump(exclude_none=True)
    return {f"{root}{folder}/": SPLITS.index(split) for split, folder in named.items()}


def _list(names: Iterable[str]) -> str:
    shown = sorted(names)
    return ", ".join(shown[:10]) + (f" and {len(shown) - 10} more" if len(shown) > 10 else "")
