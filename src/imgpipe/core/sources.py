"""The hashes of the project's source files."""

import hashlib
from contextlib import suppress
from pathlib import Path

SOURCES = Path(__file__).resolve().parents[2]
"""The folder `src` with the code that runs."""

_SUFFIXES = (".py", ".html")


def hash_sources(*places: str) -> dict[str, str]:
    """Return the SHA-256 of source files, modules and page templates, by their names under `src`.

    Args:
        places: files and folders under `src`; by default all of `src`.
    """
    hashes = {}
    # Hidden files are not listed: editors write lock files such as `.#train.py`, which are links to
    # files that do not exist. Other such links are not listed either.
    for file in sorted(SOURCES.rglob("[!.]*")):
        name = file.relative_to(SOURCES).as_posix()
        if file.suffix in _SUFFIXES and file.is_file() and is_within(name, places or (".",)):
            with suppress(FileNotFoundError):  # an editor may replace the file at this moment
                hashes[name] = hashlib.sha256(file.read_bytes()).hexdigest()
    return hashes


def is_within(path: str, places: tuple[str, ...] | list[str]) -> bool:
    """Return whether a path is one of some files, or in one of some folders."""
    return any(Path(path).is_relative_to(place) for place in places)
