"""Pack the user's own folder of images into one archive, because DVC is slow with many files.

The memory does not grow with the number of files: SQLite sorts their names in a temporary file, and
the archive's list of members is in another one.
"""

import os
import pickle
import shlex
import shutil
import sqlite3
import stat
import tempfile
import zipfile
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import IO, Any, NamedTuple

from imgpipe.console.messages import escape_unprintable
from imgpipe.console.progress import ProgressBar
from imgpipe.core.errors import PipelineError
from imgpipe.core.files import replace_directory
from imgpipe.datasets.catalog import LocalEntry

_EARLIEST_DATE = (1980, 1, 1, 0, 0, 0)  # the first that a zip archive can express
_CHUNK_BYTES = 1 << 20
_UNIX = 3  # the system that made the archive, on every system, so that the bytes are the same
_REGULAR_FILE = 0o100644
# What systems and programs leave in folders, in lower case; names that begin with a dot besides.
_LITTER = {
    "$recycle.bin",
    "@eadir",  # thumbnails and indexes of network disks
    "__macosx",
    "desktop.ini",
    "ehthumbs.db",
    "ehthumbs_vista.db",
    "icon\r",
    "lost+found",
    "picasa.ini",
    "system volume information",
    "thumbs.db",
}
# Backups, and the edits that programs store beside a photograph.
_LITTER_ENDINGS = ("~", ".aae", ".tmp", ".xmp")


class PackedFiles(NamedTuple):
    """The number of files in an archive, and of the files and folders that were ignored."""

    packed: int
    ignored: int


def pack_local_dataset(entry: LocalEntry[Any], raw: Path) -> PackedFiles:
    """Replace `raw` by a folder with one archive of the user's files; return their numbers.

    Raises:
        PipelineError: as `pack_folder`; or the folder is not in this copy of the project.
    """
    shown = entry.folder.as_posix()
    in_copy = Path(os.environ.get("DVC_ROOT", ".")).resolve() != Path.cwd()
    if in_copy and not entry.folder.exists():
        raise PipelineError(
            f"{shown}: not in this copy of the project, which holds only what git or DVC track;"
            f" run `dvc add {shlex.quote(shown)}` first"
        )
    with replace_directory(raw) as folder:
        return pack_folder(entry.folder, folder / entry.archive_name)


def pack_folder(folder: Path, path: Path) -> PackedFiles:
    """Pack a folder into a zip archive with stable bytes; return the numbers of its files.

    Members are stored without compression, in the order of their names, all with the same date.
    Links to files are followed. Links to folders are refused, because DVC does not see changes
    behind them.

    Raises:
        PipelineError: the folder is missing or empty, holds a link to a folder or a file that
            cannot be read, or changes during the packing: DVC records the hash of the folder when
            `fetch` ends, so it would record the archive as made from the changed folder.
    """
    packed = fingerprint = 0
    with (
        closing(_sort_on_disk(find_items(folder))) as members,
        tempfile.TemporaryFile() as stream,
        zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as archive,
        ProgressBar("fetch", _count_files(members), "file") as bar,
    ):
        archive.filelist = _MembersOnDisk(stream)  # type: ignore[assignment]
        for row in members.execute("SELECT * FROM member WHERE NOT is_ignored ORDER BY name"):
            member = FolderItem(*row)
            fingerprint += hash(member)
            _write_member(archive, folder, member)
            archive.NameToInfo.clear()  # a second index of the members in memory
            if not member.is_folder:
                packed += 1
                bar.update()
        (ignored,) = members.execute("SELECT count(*) FROM member WHERE is_ignored").fetchone()
    if packed == 0:
        raise PipelineError(
            f"{folder.as_posix()}: no files there; put a folder of images for each class into it"
        )
    if sum(hash(item) for item in find_items(folder) if not item.is_ignored) != fingerprint:
        raise PipelineError(f"{folder.as_posix()}: changed while it was read; run the stage again")
    return PackedFiles(packed, ignored)


class FolderItem(NamedTuple):
    """A file or folder below a folder."""

    name: str
    """From there, with "/" between its parts, and at its end if it is a folder."""
    size_bytes: int = 0
    changed_ns: int = 0
    """The time of the last change; 0 for a folder."""
    is_ignored: bool = False
    """Whether it is hidden, left by a system or a program, or neither a file nor a folder."""

    @property
    def is_folder(self) -> bool:
        """Whether it is a folder."""
        return self.name.endswith("/")


def is_litter(name: str) -> bool:
    """Return whether a file or folder is hidden, or one that systems and programs leave in folders.

    The name has "/" between its parts, and at its end if it is a folder.
    """
    lower = name.lower()
    return lower.endswith(_LITTER_ENDINGS) or any(
        part.startswith(".") or part in _LITTER for part in lower.split("/")
    )


def find_items(folder: Path) -> Iterator[FolderItem]:
    """Yield all that is below a folder, in no order; nothing that is below ignored folders.

    Raises:
        PipelineError: the folder is missing, or holds a link to a folder, a folder that cannot be
            read, or a name that is not UTF-8 or has a backslash or a control character.
    """
    if not folder.is_dir():
        raise PipelineError(
            f"{folder.as_posix()}: no such folder; put a folder of images for each class into it"
        )
    if folder.is_symlink():
        raise _link_to_folder(folder)
    pending = [""]
    while pending:
        parent = pending.pop()
        try:
            with os.scandir(folder / parent) as entries:
                for entry in entries:
                    item = _describe(entry, parent)
                    yield item
                    if item.is_folder and not item.is_ignored:
                        pending.append(item.name)
        except OSError as error:
            raise describe_unreadable(Path(error.filename), error) from None


def _describe(entry: os.DirEntry[str], parent: str) -> FolderItem:
    """Return an item of the folder `parent`, "" or ending with "/"."""
    is_folder = entry.is_dir()
    last_part = entry.name + "/" * is_folder
    if is_litter(last_part):
        name = (parent + last_part).encode(errors="backslashreplace").decode()
        return FolderItem(name, is_ignored=True)
    try:
        last_part.encode()
    except UnicodeEncodeError:
        raise PipelineError(
            f"{parent + last_part!r}: the name is not UTF-8; rename the file"
        ) from None
    if "\\" in last_part or any(ord(character) < 32 for character in last_part):
        raise PipelineError(
            f"{parent + last_part!r}: the name has a backslash or a control character; rename the"
            " file"
        )
    if is_folder:
        if entry.is_symlink():
            raise _link_to_folder(Path(entry.path))
        return FolderItem(parent + last_part)
    try:
        found = entry.stat()
    except FileNotFoundError:  # a link to nothing; who reads it reports it
        return FolderItem(parent + last_part)
    if not stat.S_ISREG(found.st_mode):  # a socket or the like
        return FolderItem(parent + last_part, is_ignored=True)
    return FolderItem(parent + last_part, found.st_size, found.st_mtime_ns)


def _sort_on_disk(members: Iterator[FolderItem]) -> sqlite3.Connection:
    """Return a temporary database with the members, which SQLite can sort on the disk.

    Its order of names is the order of Python: by code points.
    """
    database = sqlite3.connect("")  # a file without a name
    database.execute(
        "CREATE TABLE member"
        " (name TEXT, size_bytes INTEGER, changed_ns INTEGER, is_ignored INTEGER)"
    )
    database.executemany("INSERT INTO member VALUES (?, ?, ?, ?)", members)
    return database


def _count_files(members: sqlite3.Connection) -> int:
    (count,) = members.execute(
        "SELECT count(*) FROM member WHERE NOT is_ignored AND name NOT LIKE '%/'"
    ).fetchone()
    return int(count)


class _MembersOnDisk:
    """The members of an archive that is written, in a temporary file; `zipfile` has a list."""

    def __init__(self, stream: IO[bytes]) -> None:
        self._stream, self._count = stream, 0

    def append(self, info: zipfile.ZipInfo) -> None:
        pickle.dump(info, self._stream)
        self._count += 1

    def __len__(self) -> int:
        return self._count

    def __iter__(self) -> Iterator[zipfile.ZipInfo]:
        self._stream.seek(0)
        for _ in range(self._count):
            yield pickle.load(self._stream)


def _write_member(archive: zipfile.ZipFile, folder: Path, member: FolderItem) -> None:
    info = zipfile.ZipInfo(member.name, _EARLIEST_DATE)
    info.create_system = _UNIX
    if member.is_folder:
        archive.writestr(info, b"")
        return
    info.external_attr = _REGULAR_FILE << 16
    info.file_size = member.size_bytes  # decides whether zip64 is needed
    # Text, because Python keeps a part of the memory for the names in each `Path`.
    file = f"{folder.as_posix()}/{member.name}"
    try:
        with open(file, "rb", buffering=0) as source, archive.open(info, "w") as target:
            shutil.copyfileobj(source, target, min(member.size_bytes + 1, _CHUNK_BYTES))
    except OSError as error:
        raise describe_unreadable(Path(file), error) from None


def _link_to_folder(path: Path) -> PipelineError:
    shown = escape_unprintable(path.as_posix())
    return PipelineError(
        f"{shown}: a link to a folder; DVC does not see changes behind it; put the folder itself"
        " there"
    )


def describe_unreadable(path: Path, error: OSError) -> PipelineError:
    """Return the error about a file or folder of a person that cannot be read."""
    if path.is_symlink() and not path.exists():
        return PipelineError(
            f"{path.as_posix()}: a link to a file that does not exist; delete the link, or put the"
            " file there"
        )
    return PipelineError(
        f"{path.as_posix()}: cannot be read: {error.strerror}; change its permissions, or delete it"
    )
