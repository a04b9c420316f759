"""Measure which stages DVC runs again after each possible change; write docs/reruns.md.

    make reruns

In a copy of the project, each value, source file and pin is changed in turn.
"""

import ast
import re
import tempfile
from collections.abc import Iterator
from itertools import groupby
from pathlib import Path
from typing import Any

from support import ROOT, STAGES, leaves, make_copy, set_leaf

from imgpipe.core.yaml_file import read_yaml

TABLE = ROOT / "docs" / "reruns.md"

# Valid values of the parameters that choose what else is a dependency.
_CHOICES = {"dataset": "mnist", "method": "transfer", "network": "mlp"}

HEADER = """\
# What a change re-runs

Measured by `make reruns`, and by a test: in a copy of the project, each item was changed by itself,
and DVC reported which stages depend on it (x). A later stage runs again too if an output that it
reads changes. Every value and version re-runs `plot`, because its model card lists all of them. The
table holds for the committed values: the chosen dataset of the catalog, method and network.
"""


def change(leaf: Any) -> Any:
    """Return another value of the same kind; DVC compares it, no stage reads it."""
    match leaf:
        case bool():
            return not leaf
        case int() | float():
            return leaf + 1
        case str():
            return leaf + " other"
        case list():
            return [*leaf, leaf[-1]]
        case _:
            return {**leaf, "other": 1}


def find_reruns(folder: Path, file: str) -> set[str]:
    """Return the stages for which DVC reports that a file, a value in it, or its folder changed."""
    from dvc.repo import Repo

    with Repo(folder.as_posix()) as repo:
        status = repo.status()
    return {
        stage.rpartition(":")[2]  # a path stands before it when the current folder is another
        for stage, changes in status.items()
        for change in changes
        if isinstance(change, dict)
        for dependency, what in change.get("changed deps", {}).items()
        if what != "deleted" and (file == dependency or file.startswith(f"{dependency}/"))
    }


def measure_table(folder: Path) -> str:
    """Return the page, measured in a copy of the project, which is left as it was."""
    sections = {
        "Values of params.yaml": measure_params(folder),
        "Fields of the chosen dataset in data/catalog.yaml": measure_catalog(folder),
        "Source code": measure_sources(folder),
        "Pins of pyproject.toml": measure_pins(folder),
    }
    page = HEADER
    for title, rows in sections.items():
        page += f"\n## {title}\n\n| | {' | '.join(STAGES)} |\n|---|{'---|' * len(STAGES)}\n"
        for item, stages in rows:
            marks = " | ".join("x" if stage in stages else "" for stage in STAGES)
            page += f"| `{item}` | {marks} |\n"
    return page


def measure_params(folder: Path) -> Iterator[tuple[str, set[str]]]:
    """Yield each value, and the stages that depend on it."""
    path = folder / "params.yaml"
    text = path.read_text()
    for leaf, value in leaves(read_yaml(path)):
        other = _CHOICES.get(leaf, change(value))
        set_leaf(folder, leaf, other)
        yield leaf, find_reruns(folder, "params.yaml")
        path.write_text(text)


def measure_catalog(folder: Path) -> Iterator[tuple[str, set[str]]]:
    """Yield each field of the chosen dataset, and the stages that depend on it."""
    file = "data/catalog.yaml"
    text = (folder / file).read_text()
    dataset = read_yaml(folder / "params.yaml")["dataset"]
    for field, value in read_yaml(folder / file)[dataset].items():
        set_leaf(folder, f"{dataset}.{field}", change(value), file)
        yield field, find_reruns(folder, file)
        (folder / file).write_text(text)


def measure_sources(folder: Path) -> Iterator[tuple[str, set[str]]]:
    """Yield each script, package and module of `settings`, and the stages that depend on it.

    If the files of a package re-run different stages, yield each of its files.
    """
    measured: dict[str, set[str]] = {}
    for path in sorted((folder / "src").rglob("*.py")):
        text = path.read_text()
        if path.name == "__init__.py" and len(ast.parse(text).body) <= 1:
            continue  # a docstring; some stages depend on the folder, some not
        file = path.relative_to(folder).as_posix()
        path.write_text(text + "# changed\n")
        measured[file] = find_reruns(folder, file)
        path.write_text(text)
    for package, files in groupby(measured, name_package):
        names = list(files)
        stages = measured[names[0]]
        if all(measured[name] == stages for name in names):
            yield package, stages
        else:
            yield from ((name, measured[name]) for name in names)


def name_package(file: str) -> str:
    """Return the package of a source file; the file itself if it has a row of its own."""
    _, *parts = Path(file).parts
    if parts[0] != "imgpipe" or len(parts) == 2 or parts[1] == "settings":
        return file
    return "/".join(["src", *parts[: 3 if parts[1] == "nn" else 2]])


def measure_pins(folder: Path) -> Iterator[tuple[str, set[str]]]:
    """Yield each pinned library, and the stages that depend on it."""
    path = folder / "pyproject.toml"
    text = path.read_text()
    for pin in sorted(re.findall(r'"([a-z0-9-]+)==', text)):
        path.write_text(text.replace(f'"{pin}==', f'"{pin}==99'))
        yield pin, find_reruns(folder, "pyproject.toml")
        path.write_text(text)


def main() -> None:
    """Write the page."""

    with tempfile.TemporaryDirectory() as scratch:
        page = measure_table(make_copy(Path(scratch)))
    TABLE.parent.mkdir(exist_ok=True)
    TABLE.write_text(page, encoding="utf-8", newline="\n")


if __name__ == "__main__":
    main()
