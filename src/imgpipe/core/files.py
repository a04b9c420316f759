"""Durable files and directories, and text formats with stable bytes.

A file or directory appears under its final name only when it is complete and on the disk: it is
written under a temporary name, flushed, renamed, and its directory flushed. So a killed process or
a power cut leaves no partial or empty file in a place from which a later stage reads.
"""

import csv
import json
import os
import shutil
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from uuid import uuid4

from imgpipe.core.errors import PipelineError

PARTIAL_SUFFIX = ".partial"  # git and DVC ignore such names


@contextmanager
def replace_file(path: Path, *, shared: bool = False) -> Iterator[Path]:
    """Yield a temporary path; rename it to `path` when the block ends without error.

    A reader sees the old file or the whole new one, never a part, also after a power cut. On an
    error the temporary file is deleted. The next run overwrites the file of a killed process. If
    several processes or hosts may write `path` at once (`shared`), each gets a file of its own.

    The directory of `path` is made if it is missing; the temporary path is in this directory.
    """
    _make_directory(path.parent)
    unique = f".{uuid4().hex}" if shared else ""
    partial = path.with_name(f"{path.name}{unique}{PARTIAL_SUFFIX}")
    try:
        yield partial
        _sync(partial)
        os.replace(partial, path)
        _sync(path.parent)
    finally:
        partial.unlink(missing_ok=True)


@contextmanager
def replace_directory(path: Path) -> Iterator[Path]:
    """Yield an empty temporary directory; rename it to `path` when the block ends without error.

    A reader sees the whole old directory, none, or the whole new one, also after a power cut. On an
    error `path` is as it was before and the temporary directory is deleted. The next run deletes
    the directory of a killed process.
    """
    replaced = path.with_name(path.name + ".replaced" + PARTIAL_SUFFIX)
    _remove(replaced)
    with scratch_directory(path.with_name(path.name + PARTIAL_SUFFIX)) as partial:
        yield partial
        for parent, _, files in os.walk(partial):
            for name in files:
                if name.endswith(PARTIAL_SUFFIX):  # of a worker that died
                    (Path(parent) / name).unlink(missing_ok=True)
                else:
                    _sync(Path(parent) / name)
            _sync(Path(parent))
        # A directory cannot be renamed over another one, and deleting the old one in place would
        # leave a part of it under its name if the process is killed at that moment.
        if os.path.lexists(path):
            os.replace(path, replaced)
        os.replace(partial, path)
        _sync(path.parent)
    _remove(replaced)


@contextmanager
def scratch_directory(path: Path) -> Iterator[Path]:
    """Yield an empty directory for intermediate files; delete it when the block ends."""
    _remove(path)
    _make_directory(path)
    try:
        yield path
    finally:
        _remove(path)


def _make_directory(path: Path) -> None:
    """Make a directory and its missing parents, on the disk too."""
    if not path.is_dir():
        _make_directory(path.parent)
        path.mkdir(exist_ok=True)
        _sync(path.parent)


def _sync(path: Path) -> None:
    """Flush a file, or the names in a directory, to the disk.

    Source: the POSIX description of fsync, https://pubs.opengroup.org/onlinepubs/9699919799/
    """
    if os.name == "nt" and path.is_dir():
        return  # Windows has no way to flush a directory
    # Windows flushes only files that are open for writing.
    descriptor = os.open(path, os.O_RDWR if os.name == "nt" else os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _remove(path: Path) -> None:
    """Delete a directory with all that it holds, or a file or link; do nothing if there is none."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    """Write text with stable bytes: UTF-8, Unix line ends."""
    with replace_file(path) as partial:
        partial.write_text(text, encoding="utf-8", newline="\n")


def write_json(path: Path, value: Any) -> None:
    """Write JSON with stable bytes: keys in the order given, two spaces, no NaN, final newline."""
    write_text(path, json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False) + "\n")


def read_json(path: Path) -> Any:
    """Read a JSON file that an earlier stage wrote.

    Raises:
        PipelineError: the file is missing, or is not JSON.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise PipelineError(
            f"{path.as_posix()}: not found; `dvc repro` runs the stage that writes it"
        ) from None
    except ValueError as error:
        raise PipelineError(
            f"{path.as_posix()}: not valid JSON: {error}; run `dvc repro`"
        ) from None


def write_csv(path: Path, header: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """Write a CSV table with a header line and stable bytes: UTF-8, Unix line ends."""
    with replace_file(path) as partial, partial.open("w", encoding="utf-8", newline="") as stream:
        writer = csv.writer(stream, lineterminator="\n")
        writer.writerow(header)
        writer.writerows(rows)
