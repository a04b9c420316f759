"""The index of the images in archives: for each image its place, name, label, split and group.

The index is in files, which each process maps into memory: the system can give this memory back at
any time, and all processes of a machine share it. In lists, an image would take 200 to 600 bytes.
"""

from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from imgpipe.archives.addresses import DIGEST_BYTES
from imgpipe.archives.members import Member
from imgpipe.core.files import replace_file
from imgpipe.preprocessing.labels import NO_LABEL, ImageLabels

_PLACE = np.dtype(
    [
        ("start", "<i8"),
        ("stored_bytes", "<i8"),
        ("size_bytes", "<i8"),
        ("crc32", "<i8"),
        ("name_start", "<i8"),
        ("name_bytes", "<i4"),
        ("archive", "<i4"),
        ("refusal", "<i4"),
        ("is_compressed", "?"),
        ("digest", f"V{DIGEST_BYTES}"),
    ]
)
_PLACES, _NAMES, _LABELS, _SPLITS = "places.bin", "names.bin", "labels.bin", "splits.bin"
_GROUPS = "groups.bin"  # only if there are groups
_ROWS_AT_ONCE = 1 << 14


class ImageIndex:
    """The index of N images; it can be sent to another process, which maps the files itself."""

    def __init__(self, folder: Path) -> None:
        """Open an index of `IndexWriter`; its folder must last as long as the index is used."""
        self._folder = folder

    @cached_property
    def labels(self) -> NDArray[np.int64]:
        """(N,)."""
        return _map(self._folder / _LABELS, np.dtype("<i8"))

    @cached_property
    def splits(self) -> NDArray[np.int8]:
        """(N,)."""
        return _map(self._folder / _SPLITS, np.dtype("i1"))

    @cached_property
    def groups(self) -> NDArray[np.int64] | None:
        """(N,), or None if there are no groups."""
        path = self._folder / _GROUPS
        return _map(path, np.dtype("<i8")) if path.exists() else None

    @cached_property
    def _places(self) -> NDArray[Any]:
        return _map(self._folder / _PLACES, _PLACE)

    @cached_property
    def _names(self) -> NDArray[np.uint8]:
        return _map(self._folder / _NAMES, np.dtype("u1"))

    def find_member(self, index: int) -> tuple[int, Member]:
        """Return the number of an image's archive, and the member of this archive."""
        # The order of the fields of _PLACE.
        start, stored, size, crc32, name, name_bytes, archive, refusal, is_compressed, digest = (
            self._places[index].item()
        )
        name = self._name_at(name, name_bytes)
        return archive, Member(name, start, stored, size, crc32, is_compressed, refusal, digest)

    def find_names(self, indices: NDArray[np.int64]) -> list[tuple[int, str]]:
        """Return the numbers of the archives of some images, and the names of the members."""
        places = self._places[indices]
        columns = (places[name].tolist() for name in ("archive", "name_start", "name_bytes"))
        return [
            (archive, self._name_at(start, size))
            for archive, start, size in zip(*columns, strict=True)
        ]

    def _name_at(self, start: int, size_bytes: int) -> str:
        return self._names[start : start + size_bytes].tobytes().decode("utf-8", "surrogatepass")

    def close(self) -> None:
        """Close the files; the next access opens them again."""
        for name in ("labels", "splits", "groups", "_places", "_names"):
            self.__dict__.pop(name, None)

    def __getstate__(self) -> dict[str, Any]:
        return {"_folder": self._folder}


class IndexWriter:
    """Writes an index, image by image; use it as a context manager."""

    def __init__(self, folder: Path) -> None:
        """Make the files in a folder."""
        self._folder = folder
        self._rows: list[tuple[Any, ...]] = []
        self._labels: list[int] = []
        self._splits: list[int] = []
        self._streams = {
            name: (folder / name).open("wb") for name in (_PLACES, _NAMES, _LABELS, _SPLITS)
        }
        self._names_bytes = 0

    def __enter__(self) -> "IndexWriter":
        return self

    def __exit__(self, *error: object) -> None:
        self._flush()
        for stream in self._streams.values():
            stream.close()

    def add(self, archive: int, member: Member, label: int, split: int) -> None:
        """Add an image: the number of its archive, the member, and its label and split."""
        name = member.name.encode("utf-8", "surrogatepass")
        self._streams[_NAMES].write(name)
        self._rows.append(
            (
                member.start, member.stored_bytes, member.size_bytes, member.crc32,
                self._names_bytes, len(name), archive, member.refusal, member.is_compressed,
                member.digest,
            )
        )  # fmt: skip
        self._labels.append(label)
        self._splits.append(split)
        self._names_bytes += len(name)
        if len(self._rows) == _ROWS_AT_ONCE:
            self._flush()

    def _flush(self) -> None:
        for name, values, dtype in (
            (_PLACES, self._rows, _PLACE),
            (_LABELS, self._labels, np.dtype("<i8")),
            (_SPLITS, self._splits, np.dtype("i1")),
        ):
            np.array(values, dtype=dtype).tofile(self._streams[name])
            values.clear()


def renumber_labels(folder: Path, new_labels: NDArray[np.int64]) -> None:
    """Replace each label of the index in a folder by `new_labels[label]`."""
    path = folder / _LABELS
    if not path.stat().st_size:
        return
    labels = np.memmap(path, dtype="<i8", mode="r+")
    for start in range(0, len(labels), _ROWS_AT_ONCE):
        some = slice(start, start + _ROWS_AT_ONCE)
        labels[some] = new_labels[labels[some]]
    labels.flush()


def replace_labels(folder: Path, found: ImageLabels) -> None:
    """Replace labels, splits and groups of the index in a folder; drop images without a label."""
    kept = np.flatnonzero(found.labels != NO_LABEL)
    places = _map(folder / _PLACES, _PLACE)
    with replace_file(folder / _PLACES) as partial, partial.open("wb") as stream:
        for start in range(0, len(kept), _ROWS_AT_ONCE):
            places[kept[start : start + _ROWS_AT_ONCE]].tofile(stream)
    found.labels[kept].astype("<i8").tofile(folder / _LABELS)
    found.splits[kept].astype("i1").tofile(folder / _SPLITS)
    if found.groups is not None:
        found.groups[kept].astype("<i8").tofile(folder / _GROUPS)


def _map(path: Path, dtype: np.dtype[Any]) -> NDArray[Any]:
    """Map a file into memory, to be read only; an empty file cannot be mapped."""
    if not path.stat().st_size:
        return np.empty(0, dtype=dtype)
    return np.asarray(np.memmap(path, dtype=dtype, mode="r"))
