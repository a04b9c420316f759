"""Members of zip and tar archives, read in place: one at a time, nothing is ever unpacked to files.

A member is known by its position in the archive, one number, so that an index of a million members
is a small array. Python's `zipfile` keeps an object of half a kilobyte for each.

Formats: APPNOTE.TXT 6.3 (https://pkware.cachefly.net/webdocs/casestudies/APPNOTE.TXT) for zip,
stored and deflated members, zip64 too; `tarfile` for tar, plain or packed with gzip, bzip2 or xz.
"""

import os
import shutil
import zipfile
from collections.abc import Iterator
from pathlib import Path

from imgpipe.core.errors import PipelineError
from imgpipe.core.progress import progress_bar
from imgpipe.preprocessing.archives import _UNIX

_EARLIEST_DATE = (1980, 1, 1, 0, 0, 0)  # the first that a zip archive can express


_REGULAR_FILE = 0o100644


_LITTER = ("__MACOSX", "Thumbs.db", "desktop.ini")


def pack_folder(folder: Path, path: Path) -> int:
    """Pack a folder into a zip archive with stable bytes; return the number of its files.

    Members are stored as they are, in the order of their names, with one date for all. Hidden
    files and what operating systems leave in folders are left out. Links to files are followed;
    links to folders are refused, because DVC does not see what is behind them.

    Raises:
        PipelineError: the folder is missing or empty, holds a link to a folder, or changes
            meanwhile: DVC would take the archive for one of what the folder holds then.
    """
    count = 0
    before = _stat_files(folder)
    with (
        zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as archive,
        progress_bar("fetch", len(before), "file") as bar,
    ):
        for file, name in _list_folder(folder):
            info = zipfile.ZipInfo(name, _EARLIEST_DATE)
            info.create_system = _UNIX  # on every system
            if name.endswith("/"):
                archive.writestr(info, b"")
                continue
            info.external_attr = _REGULAR_FILE << 16
            try:
                info.file_size = file.stat().st_size  # decides whether zip64 is needed
                with file.open("rb") as source, archive.open(info, "w") as target:
                    shutil.copyfileobj(source, target)
            except OSError as error:
                raise PipelineError(f"{file.as_posix()}: {error.strerror}") from None
            except UnicodeEncodeError:
                raise PipelineError(f"{name!r}: the name is not UTF-8; rename the file") from None
            count += 1
            bar.update()
    if count == 0:
        raise PipelineError(
            f"{folder.as_posix()}: no files there; put a folder of images for each class into it"
        )
    if _stat_files(folder) != before:
        raise PipelineError(f"{folder.as_posix()}: changed while it was read; run it again")
    return count


def _stat_files(folder: Path) -> list[tuple[str, int, int]]:
    """Return name, size and time of change of every file below a folder."""
    stats = [(name, file.stat()) for file, name in _list_folder(folder) if file.is_file()]
    return [(name, stat.st_size, stat.st_mtime_ns) for name, stat in stats]


def _list_folder(folder: Path) -> Iterator[tuple[Path, str]]:
    """Yield what is below a folder, each with its name from there, in the order of the names."""
    if not folder.is_dir():
        raise PipelineError(
            f"{folder.as_posix()}: no such folder; put a folder of images for each class into it"
        )
    found = []
    for parent, folders, files in os.walk(folder):
        paths = [Path(parent) / name for name in folders]
        for path in (folder, *paths):
            if path.is_symlink():
                raise PipelineError(
                    f"{path.as_posix()}: a link to a folder, whose changes DVC does not see;"
                    " put the folder itself there"
                )
        found += [(path.relative_to(folder).as_posix() + "/", path) for path in paths]
        for path in (Path(parent) / name for name in files):
            if path.is_file() or not path.exists():  # no sockets and the like
                found.append((path.relative_to(folder).as_posix(), path))
    yield from ((path, name) for name, path in sorted(found) if not is_litter(name))


def is_litter(name: str) -> bool:
    """Whether a file or folder is hidden, or what operating systems leave in folders unasked."""
    return any(part.startswith(".") or part in _LITTER for part in name.split("/"))
