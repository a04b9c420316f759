"""The project's source files: their hashes, and which of them import which."""

import ast
import hashlib
from collections.abc import Collection
from contextlib import suppress
from pathlib import Path

SOURCES = Path(__file__).resolve().parents[2]
"""The folder `src` with the code that runs."""

_SUFFIXES = (".py", ".html")


def hash_sources(*places: str) -> dict[str, str]:
    """Return the SHA-256 of source files, modules and page templates, by their names under `src`.

    The places are files and folders under `src`; by default all of `src`.
    """
    hashes = {}
    folders = tuple(f"{place.rstrip('/')}/" for place in places) or ("",)
    # Hidden files are not listed: editors write lock files such as `.#train.py`, which are links to
    # files that do not exist. Other such links are not listed either.
    for file in sorted(SOURCES.rglob("[!.]*")):
        name = file.relative_to(SOURCES).as_posix()
        is_asked_for = f"{name}/".startswith(folders)
        if file.suffix in _SUFFIXES and file.is_file() and is_asked_for:
            with suppress(FileNotFoundError):  # an editor may replace the file at this moment
                hashes[name] = hashlib.sha256(file.read_bytes()).hexdigest()
    return hashes


def find_imports(*modules: str, without: Collection[str] = ()) -> set[str]:
    """Return the modules of the project that some modules import, directly or not, and these.

    A package counts if its `__init__.py` has more than a docstring.

    Args:
        modules: dotted names.
        without: modules and packages to leave out, with all that only they import.
    """
    found: set[str] = set()
    waiting = list(modules)
    while waiting:
        module = waiting.pop()
        if module in found or any(f"{module}.".startswith(f"{name}.") for name in without):
            continue
        file = SOURCES / name_file(module)
        if file.is_file() and (names := _read_imports(file)) is not None:
            found.add(module)
            waiting += names
    return found


def name_file(module: str) -> str:
    """Return the name under `src` of the file of a module or a package."""
    path = module.replace(".", "/")
    return f"{path}/__init__.py" if (SOURCES / path).is_dir() else f"{path}.py"


def _read_imports(file: Path) -> list[str] | None:
    """Return every dotted name that a file imports, inside functions too, and all packages in it.

    Return None for a package that has only a docstring.
    """
    tree = ast.parse(file.read_bytes())
    if file.name == "__init__.py" and len(tree.body) <= 1:
        return None
    names = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            names += [f"{node.module}.{alias.name}" for alias in node.names]
    parts = [name.split(".") for name in names]
    return [".".join(part[:end]) for part in parts for end in range(1, len(part) + 1)]
