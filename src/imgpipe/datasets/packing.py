"""Pack the user's own folder of images into one archive, because DVC is slow with many files."""

import os
import shutil
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from imgpipe.core.errors import PipelineError
from imgpipe.core.files import replace_directory
from imgpipe.core.progress import progress_bar
from imgpipe.datasets.catalog import LocalEntry

_EARLIEST_DATE = (1980, 1, 1, 0, 0, 0)  # the first that a zip archive can express
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


def pack_local_dataset(entry: LocalEntry[Any], raw: Path) -> int:
    """Replace `raw` by a folder with one archive of the user's images; return their number.

    Raises:
        PipelineError: as `pack_folder`; or the folder is not in this copy of the project.
    """
    shown = entry.folder.as_posix()
    in_copy = Path(os.environ.get("DVC_ROOT", ".")).resolve() != Path.cwd()
    if in_copy and not entry.folder.exists():
        raise PipelineError(
            f"{shown}: not in this copy of the project, which holds only what git or DVC track;"
            f" run `dvc add {shown}` first"
        )
    with replace_directory(raw) as folder:
        return pack_folder(entry.folder, folder / entry.archive_name)


def pack_folder(folder: Path, path: Path) -> int:
    """Pack a folder into a zip archive with stable bytes; return the number of its files.

    Members are stored without compression, in the order of their names, all with the same date.
    Hidden files, and files that systems and programs leave in folders, are left out. Links to files
    are followed. Links to folders are refused, because DVC does not see changes behind them.

    Raises:
        PipelineError: the folder is missing or empty, holds a link to a folder or a file that
            cannot be read, or changes during the packing: DVC records the hash of the folder when
            `fetch` ends, so it would record the archive as made from the changed folder.
    """
    count = 0
    before = _stat_files(folder)
    with (
        zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as archive,
        progress_bar("fetch", len(before), "file") as bar,
    ):
        for file, name in list_folder(folder):
            info = zipfile.ZipInfo(name, _EARLIEST_DATE)
            info.create_system = _UNIX
            if name.endswith("/"):
                archive.writestr(info, b"")
                continue
            info.external_attr = _REGULAR_FILE << 16
            try:
                info.file_size = file.stat().st_size  # decides whether zip64 is needed
                with file.open("rb") as source, archive.open(info, "w") as target:
                    shutil.copyfileobj(source, target)
            except OSError as error:
                raise _unreadable(file, error) from None
            count += 1
            bar.update()
    if count == 0:
        raise PipelineError(
            f"{folder.as_posix()}: no files there; put a folder of images for each class into it"
        )
    if _stat_files(folder) != before:
        raise PipelineError(f"{folder.as_posix()}: changed while it was read; run the stage again")
    return count


def is_litter(name: str) -> bool:
    """Return whether a file or folder is hidden, or one that systems and programs leave in folders.

    Args:
        name: with "/" between its parts, and at its end if it is a folder.
    """
    lower = name.lower()
    return lower.endswith(_LITTER_ENDINGS) or any(
        part.startswith(".") or part in _LITTER for part in lower.split("/")
    )


def list_folder(folder: Path) -> Iterator[tuple[Path, str]]:
    """Yield all that is below a folder, each with its name from there, in the order of the names.

    Names of folders end with "/". Hidden files and the files that operating systems leave in
    folders are left out.

    Raises:
        PipelineError: the folder is missing, or holds a link to a folder, a folder that cannot be
            read, or a name that is not UTF-8.
    """
    if not folder.is_dir():
        raise PipelineError(
            f"{folder.as_posix()}: no such folder; put a folder of images for each class into it"
        )

    def refuse(error: OSError) -> None:
        raise _unreadable(Path(error.filename), error)

    found = []
    for parent, folders, files in os.walk(folder, onerror=refuse):
        paths = [Path(parent) / name for name in folders]
        for path in (folder, *paths):
            if path.is_symlink():
                raise PipelineError(
                    f"{path.as_posix()}: a link to a folder; DVC does not see changes behind it;"
                    " put the folder itself there"
                )
        found += [(path.relative_to(folder).as_posix() + "/", path) for path in paths]
        for path in (Path(parent) / name for name in files):
            if path.is_file() or not path.exists():  # no sockets and the like
                found.append((path.relative_to(folder).as_posix(), path))
    for name, path in sorted(found):
        if not is_litter(name):
            if any("\ud800" <= character <= "\udfff" for character in name):
                raise PipelineError(f"{name!r}: the name is not UTF-8; rename the file")
            yield path, name


def _stat_files(folder: Path) -> list[tuple[str, int, int]]:
    """Return name, size and time of change of every file below a folder."""
    stats = [(name, file.stat()) for file, name in list_folder(folder) if file.is_file()]
    return [(name, stat.st_size, stat.st_mtime_ns) for name, stat in stats]


def _unreadable(path: Path, error: OSError) -> PipelineError:
    if path.is_symlink() and not path.exists():
        return PipelineError(
            f"{path.as_posix()}: a link to a file that does not exist; delete the link, or put the"
            " file there"
        )
    return PipelineError(
        f"{path.as_posix()}: cannot be read: {error.strerror}; change its permissions, or delete it"
    )
