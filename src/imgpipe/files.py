"""Files: writes that appear whole or not at all, and text formats with stable bytes."""

import csv
import json
import os
import shutil
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from imgpipe.errors import PipelineError

PARTIAL_SUFFIX = ".partial"


@contextmanager
def replace_file(path: Path) -> Iterator[Path]:
    """Yield a partial path beside `path`; move it into place when the block ends without error.

    A reader sees the old file or the whole new one, never a part. On an error the partial file is
    removed; what a killed process leaves is overwritten by the next one.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(path.name + PARTIAL_SUFFIX)
    try:
        yield partial
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)


@contextmanager
def replace_directory(path: Path) -> Iterator[Path]:
    """Yield an empty partial directory; let it take the place of `path` when the block ends.

    On an error `path` stays as it was and the partial directory is removed; what a killed process
    leaves is removed by the next one.
    """
    with scratch_directory(path.with_name(path.name + PARTIAL_SUFFIX)) as partial:
        yield partial
        _remove_tree(path)
        os.replace(partial, path)


@contextmanager
def scratch_directory(path: Path) -> Iterator[Path]:
    """Yield an empty directory for intermediate files; remove it when the block ends."""
    _remove_tree(path)
    path.mkdir(parents=True)
    try:
        yield path
    finally:
        _remove_tree(path)


def _remove_tree(path: Path) -> None:
    if path.exists():
        shutil.rmtree(path)


def write_json(path: Path, value: Any) -> None:
    """Write JSON with stable bytes: keys in the order given, two spaces, no NaN, final newline."""
    text = json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False) + "\n"
    with replace_file(path) as partial:
        partial.write_text(text, encoding="utf-8", newline="\n")


def read_json(path: Path) -> Any:
    """Read a JSON file that an earlier stage wrote; raise `PipelineError` if it is not there."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise PipelineError(
            f"{path.as_posix()}: not found; `dvc repro` runs the stage that writes it"
        ) from None


def write_csv(path: Path, header: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """Write a CSV table with a header line and stable bytes: UTF-8, Unix line ends."""
    with (
        replace_file(path) as partial,
        partial.open("w", encoding="utf-8", newline="") as stream,
    ):
        writer = csv.writer(stream, lineterminator="\n")
        writer.writerow(header)
        writer.writerows(rows)
