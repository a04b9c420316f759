"""The reader of image files: a folder for each class, in folders for the official splits if any.

Or the classes are in a table of labels, or in the names of the files.
"""

import pickle
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any, Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from imgpipe.archives.addresses import ArchiveFile, LocalFile, RemoteFile, find_remote_files
from imgpipe.archives.folders import is_litter
from imgpipe.archives.members import (
    MEMBER_LIMIT_BYTES,
    Archive,
    Member,
    is_link,
    open_archive,
)
from imgpipe.console.messages import join_some
from imgpipe.core.errors import PipelineError, UnreadableImageError
from imgpipe.core.files import replace_file
from imgpipe.datasets.catalog import DownloadEntry, LocalEntry
from imgpipe.datasets.formats import ImageFolderFormat
from imgpipe.parallel.shards import map_shards
from imgpipe.parallel.task import Task
from imgpipe.preprocessing.decoding import find_format, open_image
from imgpipe.preprocessing.folder_levels import (
    Folder,
    Levels,
    check_class_names,
    check_levels,
)
from imgpipe.preprocessing.image_files import (
    IGNORED,
    NOT_AN_IMAGE,
    OTHER_LABEL,
    OUTSIDE_CLASSES,
    WITHOUT_MATCH,
    WITHOUT_ROW,
    UnusedFiles,
    has_image_ending,
)
from imgpipe.preprocessing.image_index import (
    ImageIndex,
    IndexWriter,
    renumber_labels,
    replace_labels,
)
from imgpipe.preprocessing.label_table import LabelTable
from imgpipe.preprocessing.labels import NO_LABEL, ImageLabels, label_by_pattern
from imgpipe.preprocessing.splits import SPLITS, UNASSIGNED

_MOST_OPEN_FILES = 128
_SHOWN_NAMES = 10
_MEMBERS_AT_ONCE = 64  # if an archive is at an address: the number of requests at a time
_LARGEST_PREFETCH_BYTES = 1 << 20  # larger images would fill the memory, and save little time

_Place: TypeAlias = tuple[int, Member]  # the number of an archive, and its member


class ImageFolder:
    """A `RawDataset`; an image is found by its number among the members of its archive."""

    def __init__(
        self,
        entry: DownloadEntry[ImageFolderFormat] | LocalEntry[ImageFolderFormat],
        raw: Path,
        scratch: Path,
    ) -> None:
        files = _find_files(entry, raw)
        # For errors. The user does not know the archive into which `fetch` packs a folder.
        is_own_folder = isinstance(entry, LocalEntry)
        self._shown = str(entry.files) if is_own_folder else _list(file.shown for file in files)
        self._identity_prefixes = entry.identity_prefixes
        self._archives = [open_archive(file, scratch) for file in files]
        self._is_remote = any(file.is_remote for file in files)
        self._open: dict[int, None] = {}  # the archives whose files are open, the oldest use first
        self._root = _root_folder(entry.format)
        self.unused = UnusedFiles()
        self._index = ImageIndex(scratch)
        tables: dict[str, _Place] = {}
        if entry.format.has_class_folders:
            self._write_index(entry.format, scratch, tables)
        else:
            self._write_labeled_index(entry.format, scratch, tables)
        if entry.format.corrections:
            self._correct(self._read_table("corrections", entry.format, tables), scratch)

    def _write_index(
        self, reading: ImageFolderFormat, folder: Path, tables: dict[str, _Place]
    ) -> None:
        folders = _split_folders(reading)
        found: dict[str, int] = {}  # each class, numbered as it is found
        folders_of_split: dict[int, set[str]] = {split: set() for split in folders.values()}
        tree = Folder()
        with IndexWriter(folder) as index:
            for archive, member, is_image in self._list_files(reading, folder, tables):
                name = member.name
                tree.add(name)
                if is_link(member) and reading.classes is None:
                    self._check_link(name, folders)
                is_in_class = False
                for split_folder, split in folders.items():
                    class_name, slash, rest = name.removeprefix(split_folder).partition("/")
                    if not (name.startswith(split_folder) and slash):
                        continue
                    folders_of_split[split].add(class_name)
                    if reading.classes is None or class_name in reading.classes:
                        is_in_class = True
                        label = found.setdefault(class_name, len(found))
                        if is_image and rest and not rest.endswith("/"):
                            index.add(archive, member, label, split)
                if not is_image:
                    self._add_unused(NOT_AN_IMAGE, archive, name)
                elif not is_in_class:
                    self._add_unused(OUTSIDE_CLASSES, archive, name)
        self.classes = reading.classes or sorted(found)
        self._check_folders(reading, folders, folders_of_split, tree)
        renumber_labels(folder, np.array([self.classes.index(name) for name in found]))

    def _write_labeled_index(
        self, reading: ImageFolderFormat, folder: Path, tables: dict[str, _Place]
    ) -> None:
        """Write the index of all images, and then reduce it to the images with a label."""
        with IndexWriter(folder) as index:
            for archive, member, is_image in self._list_files(reading, folder, tables):
                if not is_image:
                    self._add_unused(NOT_AN_IMAGE, archive, member.name)
                elif not member.name.startswith(self._root):
                    self._add_unused(OUTSIDE_CLASSES, archive, member.name)
                elif not member.name.endswith("/"):
                    index.add(archive, member, 0, UNASSIGNED)
        images = len(self.labels)
        if reading.label_pattern:
            reason = WITHOUT_MATCH
            found = label_by_pattern(reading.label_pattern, self.paths, images, self._shown)
        else:
            reason = WITHOUT_ROW
            table = self._read_table("labels", reading, tables)
            found = table.label_images(self.paths, images, self.identities)
        self.classes = reading.classes or sorted(found.classes)
        if reading.classes is None:
            check_class_names(self.classes, self._shown, "labels")
        if len(self.classes) == 1:
            raise PipelineError(
                f"{self._shown}: all labels are {self.classes[0]!r}; at least two are needed"
            )
        labels = found.renumber(self.classes)
        self._add_unlabeled(reason, found.labels == NO_LABEL)
        self._add_unlabeled(OTHER_LABEL, (found.labels != NO_LABEL) & (labels == NO_LABEL))
        replace_labels(folder, found._replace(labels=labels))
        self._index.close()

    def _correct(self, table: LabelTable, folder: Path) -> None:
        """Replace the labels of images by these in a table."""
        table.check_labels(self.classes)
        found = table.label_images(self.paths, len(self.labels), self.identities)
        corrected = found.renumber(self.classes)
        labels = np.where(corrected == NO_LABEL, self.labels, corrected)
        replace_labels(folder, ImageLabels(self.classes, labels, self.splits, self.groups))
        self._index.close()

    def _read_table(
        self,
        key: Literal["labels", "corrections"],
        reading: ImageFolderFormat,
        tables: Mapping[str, _Place],
    ) -> LabelTable:
        name = getattr(reading, key)
        place = tables.get(self._root + name)
        shown = f"{self._shown}/{self._root}{name}"
        if place is None:
            raise PipelineError(f"{shown}: no such file, but the catalog has format.{key}: {name}")
        archive, member = place
        try:
            return LabelTable(self._archives[archive].read(member), shown)
        except UnreadableImageError as error:
            raise PipelineError(f"{shown}: cannot be read: {error}") from None

    def _add_unlabeled(self, reason: str, chosen: NDArray[np.bool_]) -> None:
        for number in np.flatnonzero(chosen):
            self.unused.add(reason, *self.identities(np.array([number])))

    def _list_files(
        self, reading: ImageFolderFormat, folder: Path, tables: dict[str, _Place]
    ) -> Iterator[tuple[int, Member, bool]]:
        """Yield as `_list_members`, without ignored files; and store where the tables are."""
        names = [self._root + name for name in (reading.labels, reading.corrections) if name]
        for archive, member, is_image in self._list_members(folder):
            if member.name in names:
                tables[member.name] = archive, member
            elif is_litter(member.name):
                self._add_unused(IGNORED, archive, member.name)
            else:
                yield archive, member, is_image

    def _add_unused(self, reason: str, archive: int, name: str) -> None:
        if not name.endswith("/"):
            self.unused.add(reason, self._identity_prefixes[archive] + name)

    def _list_members(self, scratch: Path) -> Iterator[tuple[int, Member, bool]]:
        """Yield the number of the archive, the member, and whether it can be an image."""
        if not self._is_remote:
            for number, archive in enumerate(self._archives):
                yield from ((number, *member) for member in _find_images(archive))
            return
        # Each archive is read whole, to check it: in several processes, or on a cluster.
        paths = map_shards(
            partial(_store_members, scratch),
            [
                Task((number, archive), archive.file.shown, images=1)
                for number, archive in enumerate(self._archives)
            ],
            label="checking",
            unit="archive",
        )
        for number, path in enumerate(paths):
            yield from ((number, *member) for member in pickle.loads(path.read_bytes()))
            path.unlink()

    @property
    def labels(self) -> NDArray[np.int64]:
        """(N,) indices into `classes`."""
        return self._index.labels

    @property
    def splits(self) -> NDArray[np.int8]:
        """(N,) official splits."""
        return self._index.splits

    @property
    def groups(self) -> NDArray[np.int64] | None:
        """(N,) the column of groups of the table of labels; None without one."""
        return self._index.groups

    def _check_link(self, name: str, folders: Collection[str]) -> None:
        if f"{name.rpartition('/')[0]}/".removeprefix("/") in folders:
            raise PipelineError(
                f"{self._shown}: {name}: a link beside the folders of the classes; links in"
                " archives are not followed; put the folder itself there, or list the classes in"
                " the catalog's format.classes"
            )

    def _check_folders(
        self,
        reading: ImageFolderFormat,
        folders: dict[str, int],
        folders_of_split: dict[int, set[str]],
        tree: Folder,
    ) -> None:
        places = {folder.rstrip("/") or "its top": split for folder, split in folders.items()}
        for place, split in places.items():
            if not set(self.classes) & folders_of_split[split]:
                raise PipelineError(
                    f"{self._shown}: {place}: no folder of a class there; found at the top:"
                    f" {_list(tree.folders)}; write in the catalog where they are: format.root,"
                    " format.splits"
                )
        if reading.classes is None:  # the person who lists the classes knows them
            check_class_names(self.classes, self._shown)
            splits = reading.splits.model_dump(exclude_none=True) if reading.splits else None
            check_levels(tree, Levels(reading.root or "", splits), self._shown)
        for place, split in places.items():
            if missing := sorted(set(self.classes) - folders_of_split[split]):
                raise PipelineError(
                    f"{self._shown}: {place}: no folder for the class {missing[0]!r}; found there:"
                    f" {_list(folders_of_split[split])}; the classes must be the same everywhere:"
                    " rename folders, or list them in the catalog's format.classes"
                )
        if len(self.classes) == 1:
            raise PipelineError(
                f"{self._shown}: only one class, {self.classes[0]!r}; at least two are needed, a"
                " folder for each"
            )

    def identities(self, indices: NDArray[np.int64]) -> list[str]:
        found = self._index.find_names(indices)
        return [self._identity_prefixes[archive] + name for archive, name in found]

    def paths(self, indices: NDArray[np.int64]) -> list[str]:
        return [name.removeprefix(self._root) for _, name in self._index.find_names(indices)]

    def prefetch(self, indices: NDArray[np.int64]) -> None:
        if not self._is_remote:
            return  # the system reads ahead
        members: dict[int, list[Member]] = {}
        for archive, member in map(self._index.find_member, indices.tolist()):
            members.setdefault(archive, []).append(member)
        for archive, members_of_archive in members.items():
            _prefetch(self._archives[archive], members_of_archive)

    def read(self, index: int) -> Image.Image:
        archive, member = self._index.find_member(index)
        content = self._archives[archive].read(member)
        self._open.pop(archive, None)
        self._open[archive] = None
        if len(self._open) > _MOST_OPEN_FILES:
            oldest = next(iter(self._open))
            del self._open[oldest]
            self._archives[oldest].file.close()
        return open_image(content)

    def close(self) -> None:
        self._index.close()
        for archive in self._archives:
            archive.file.close()


def _find_files(entry: DownloadEntry[Any] | LocalEntry[Any], raw: Path) -> Sequence[ArchiveFile]:
    if isinstance(entry, DownloadEntry) and entry.in_place:
        return find_remote_files(entry)
    paths = [raw / name for name in entry.archive_names]
    return [LocalFile(path, path.as_posix()) for path in paths]


def _prefetch(archive: Archive, members: Iterable[Member]) -> None:
    """Get members that will be read next, if their archive is at an address."""
    if isinstance(archive.file, RemoteFile):
        parts = [archive.locate(member) for member in members]
        if small := [part for part in parts if part.size_bytes <= _LARGEST_PREFETCH_BYTES]:
            archive.file.prefetch(small)


def _find_images(archive: Archive) -> Iterator[tuple[Member, bool]]:
    """Yield each member, and whether it can be an image: folders and ignored files are not judged.

    A member is read, whole and with its checksum, only if its name does not decide.
    """
    members = archive.list_members()
    while some := list(islice(members, _MEMBERS_AT_ONCE)):
        unclear = [
            member
            for member in some
            if not (has_image_ending(member.name) or member.name.endswith("/"))
            and not is_litter(member.name)
        ]
        _prefetch(archive, unclear)
        others = {member for member in unclear if not _has_image_content(archive, member)}
        yield from ((member, member not in others) for member in some)
    archive.file.close()


def _has_image_content(archive: Archive, member: Member) -> bool:
    if member.size_bytes > MEMBER_LIMIT_BYTES:  # a video, or the like
        return False
    try:
        return find_format(archive.read(member)) is not None
    except UnreadableImageError:  # who reads it as an image reports the reason
        return True


def _store_members(folder: Path, task: tuple[int, Archive]) -> Path:
    """Write the list of the members of an archive, as of `_find_images`; return its path."""
    number, archive = task
    path = folder / f"members-{number:05d}.pickle"
    members = list(_find_images(archive))
    with replace_file(path, shared=True) as partial_path:
        partial_path.write_bytes(pickle.dumps(members))
    return path


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
    return join_some(sorted(names), _SHOWN_NAMES)
