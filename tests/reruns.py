"""Measure which stages DVC runs again after each possible change; write docs/reruns.md.

    make reruns

In a copy of the project, each value, source file and pin is changed once. Items of different
sections, packages and groups are changed at once, because DVC reports these separately.
"""

import ast
import tempfile
import tomllib
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from itertools import groupby
from pathlib import Path
from typing import Any

from support import ROOT, STAGES, leaves, make_copy, set_leaf

from imgpipe.core.yaml_file import read_yaml

TABLE = ROOT / "docs" / "reruns.md"

HEADER = """\
# What a change re-runs

Measured by `make reruns`, and by a test: in a copy of the project, each item was changed, and DVC
reported which stages depend on it (x). A later stage runs again too if an output that it reads
changes. Every value and version re-runs `plot`, because its model card lists all of them. The table
holds for the committed values: the chosen dataset of the catalog, method and network.
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


@dataclass(frozen=True)
class Item:
    """Something that may change: a file, or a value in a file."""

    name: str
    """In the table."""
    group: str
    """DVC reports a folder or a section that changed, not what changed in it; so one at a time."""
    file: str
    key: str
    """Dotted key of a value, or empty."""
    edit: Callable[[], object]


def find_reruns(folder: Path, items: Iterable[Item]) -> dict[str, set[str]]:
    """Return the name of each item, and the stages that DVC would run if the item were changed."""
    waiting: dict[str, deque[Item]] = {}
    for item in items:
        waiting.setdefault(item.group, deque()).append(item)
    found = {item: set[str]() for queue in waiting.values() for item in queue}
    while any(waiting.values()):
        changed = [queue.popleft() for queue in waiting.values() if queue]
        texts = {item.file: (folder / item.file).read_text() for item in changed}
        for item in changed:
            item.edit()
        for stage, dependency, key in list_changes(folder):
            for item in changed:
                if is_below(item.file, dependency, "/") and is_below(item.key, key, "."):
                    found[item].add(stage)
        for file, text in texts.items():
            (folder / file).write_text(text)
    return {item.name: stages for item, stages in found.items()}


def is_below(path: str, whole: str, separator: str) -> bool:
    """Return whether a path is another path, or a part of it."""
    return path == whole or path.startswith(whole + separator)


def list_changes(folder: Path) -> Iterator[tuple[str, str, str]]:
    """Yield the changed dependencies that DVC reports: stage, path, and dotted key or nothing."""
    from dvc.repo import Repo

    with Repo(folder.as_posix()) as repo:
        status = repo.status()
    for stage, changes in status.items():
        name = stage.rpartition(":")[2]  # a path is before it if the current folder is another
        for change in changes:
            if isinstance(change, dict):
                for dependency, what in change.get("changed deps", {}).items():
                    if what != "deleted":
                        keys = what if isinstance(what, dict) else [""]
                        yield from ((name, dependency, key) for key in keys)


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
        for item, stages in rows.items():
            marks = " | ".join("x" if stage in stages else "" for stage in STAGES)
            page += f"| `{item}` | {marks} |\n"
    return page


def measure_params(folder: Path) -> dict[str, set[str]]:
    """Return each value, and the stages that depend on it."""
    file = "params.yaml"
    values = dict(leaves(read_yaml(folder / file)))
    # Of these another valid one, by itself, because they choose what else is a dependency.
    chosen = {"dataset": "mnist", "method": "transfer", "network": "mlp"}
    found: dict[str, set[str]] = {}
    items = []
    for leaf, value in values.items():
        edit = partial(set_leaf, folder, leaf, chosen.get(leaf, change(value)))
        item = Item(leaf, leaf.split(".")[0], file, leaf, edit)
        if leaf in chosen:
            found |= find_reruns(folder, [item])
        else:
            items.append(item)
    found |= find_reruns(folder, items)
    return {leaf: found[leaf] for leaf in values}


def measure_catalog(folder: Path) -> dict[str, set[str]]:
    """Return each field of the chosen dataset, and the stages that depend on it."""
    file = "data/catalog.yaml"
    dataset = read_yaml(folder / "params.yaml")["dataset"]
    items = []
    for field, value in read_yaml(folder / file)[dataset].items():
        key = f"{dataset}.{field}"
        items.append(
            Item(field, key, file, key, partial(set_leaf, folder, key, change(value), file))
        )
    return find_reruns(folder, items)


def measure_sources(folder: Path) -> dict[str, set[str]]:
    """Return each script, package and module of `settings`, and the stages that depend on it.

    If the files of a package re-run different stages, return each of its files.
    """
    items = []
    for path in sorted((folder / "src").rglob("*.py")):
        text = path.read_text()
        file = path.relative_to(folder).as_posix()
        if path.name == "__init__.py" and len(ast.parse(text).body) <= 1:
            continue  # a docstring; some stages depend on the folder, some not
        group = "/".join(file.split("/")[:3])  # a script or module, or an outermost package
        edit = partial(path.write_text, text + "# changed\n")
        items.append(Item(file, group, file, "", edit))
    found = find_reruns(folder, items)
    measured: dict[str, set[str]] = {}
    for package, files in groupby(sorted(found), name_package):
        names = list(files)
        if all(found[name] == found[names[0]] for name in names):
            measured[package] = found[names[0]]
        else:
            measured |= {name: found[name] for name in names}
    return measured


def name_package(file: str) -> str:
    """Return the package of a source file; the file itself if it has a row of its own."""
    _, *parts = Path(file).parts
    if parts[0] != "imgpipe" or len(parts) == 2 or parts[1] == "settings":
        return file
    return "/".join(["src", *parts[: 3 if parts[1] == "nn" else 2]])


def measure_pins(folder: Path) -> dict[str, set[str]]:
    """Return each pinned library, and the stages that depend on it."""
    path = folder / "pyproject.toml"
    groups = tomllib.loads(path.read_text())["project"]["optional-dependencies"]
    items = []

    def raise_pin(name: str) -> None:
        path.write_text(path.read_text().replace(f'"{name}==', f'"{name}==99'))

    for group, pins in groups.items():
        for pin in pins:
            name, is_plain, _ = pin.partition("==")
            if is_plain and "[" not in name:
                key = f"project.optional-dependencies.{group}"
                items.append(Item(name, group, path.name, key, partial(raise_pin, name)))
    return dict(sorted(find_reruns(folder, items).items()))


def main() -> None:
    """Write the page."""

    with tempfile.TemporaryDirectory() as scratch:
        page = measure_table(make_copy(Path(scratch)))
    TABLE.parent.mkdir(exist_ok=True)
    TABLE.write_text(page, encoding="utf-8", newline="\n")


if __name__ == "__main__":
    main()
