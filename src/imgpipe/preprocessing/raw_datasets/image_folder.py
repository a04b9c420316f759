"""Image files in an archive: a folder for each class, in folders for the official splits if any."""

from array import array
from collections.abc import Iterable
from pathlib import Path, PurePosixPath

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from imgpipe.core.errors import PipelineError
from imgpipe.datasets.catalog import ImageArchiveEntry, ImageFolderFormat, LocalImagesEntry
from imgpipe.datasets.packing import is_litter
from imgpipe.preprocessing.archives import open_archive
from imgpipe.preprocessing.decoding import open_image
from imgpipe.preprocessing.splits import SPLITS, UNASSIGNED

_NAMES_OF_SPLITS = {"train", "training", "val", "valid", "validation", "test", "testing"}


class ImageFolder:
    """A `RawDataset`; an image is known by its position in the archive, 8 bytes each."""

    def __init__(
        self, entry: ImageArchiveEntry | LocalImagesEntry, raw: Path, scratch: Path
    ) -> None:
        if isinstance(entry, LocalImagesEntry):
            path = raw / entry.archive_name
            self._shown = entry.files.rstrip("/")
            self._identity_prefix = f"{self._shown}/"
        else:
            path = raw / entry.files[0].name
            self._shown = path.as_posix()
            self._identity_prefix = f"{path.name}#"
        self._archive = open_archive(path, scratch)
        self._index(entry.format)

    def _index(self, reading: ImageFolderFormat) -> None:
        folders = _split_folders(reading)
        positions, labels, splits = array("q"), array("i"), array("b")
        found: dict[str, int] = {}  # each class, numbered as it is found
        folders_of_split: dict[int, set[str]] = {split: set() for split in folders.values()}
        tops: set[str] = set()
        for position, name in self._archive.scan():
            if is_litter(name):
                continue
            if "/" in name:
                tops.add(name.split("/")[0])
            for folder, split in folders.items():
                class_name, slash, rest = name.removeprefix(folder).partition("/")
                # What lies beside the folders of the classes, a licence for example, is no image.
                if not (name.startswith(folder) and slash):
                    continue
                folders_of_split[split].add(class_name)
                if reading.classes is None or class_name in reading.classes:
                    label = found.setdefault(class_name, len(found))
                    if rest and not rest.endswith("/"):
                        positions.append(position)
                        labels.append(label)
                        splits.append(split)
        self.classes = reading.classes or sorted(found)
        self._check_folders(reading, folders, folders_of_split, tops)
        renumbered = np.array([self.classes.index(name) for name in found], dtype=np.int64)
        self._positions = np.frombuffer(positions, dtype=np.int64)
        self.labels: NDArray[np.int64] = renumbered[np.frombuffer(labels, dtype=np.int32)]
        self.splits: NDArray[np.int8] = np.frombuffer(splits, dtype=np.int8)

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
                    " say in the catalog where they are: format.root, format.splits"
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
                f"{self._shown}: a single class, {only!r}; at least two are needed, a folder for"
                f" each; if they are inside {only!r}, say so in the catalog's format.root"
            )
        if reading.splits is None and {name.lower() for name in self.classes} <= _NAMES_OF_SPLITS:
            example = ", ".join(f"{name}: {name}" for name in self.classes)
            raise PipelineError(
                f"{self._shown}: the folders {_list(self.classes)} look like splits, not classes;"
                f" say so in the catalog: format.splits: {{{example}}}"
            )

    def identities(self, indices: NDArray[np.int64]) -> list[str]:
        names = self._archive.names_at(self._positions[indices].tolist())
        return [self._identity_prefix + name for name in names]

    def read(self, index: int) -> Image.Image:
        name, content = self._archive.read_at(int(self._positions[index]))
        return open_image(content, PurePosixPath(name).suffix.lower())


def _split_folders(reading: ImageFolderFormat) -> dict[str, int]:
    """Return the folder, with its closing "/", of each official split; "" for the top."""
    root = f"{reading.root}/" if reading.root else ""
    if reading.splits is None:
        return {root: UNASSIGNED}
    named = reading.splits.model_dump(exclude_none=True)
    return {f"{root}{folder}/": SPLITS.index(split) for split, folder in named.items()}


def _list(names: Iterable[str]) -> str:
    shown = sorted(names)
    return ", ".join(shown[:10]) + (f" and {len(shown) - 10} more" if len(shown) > 10 else "")
