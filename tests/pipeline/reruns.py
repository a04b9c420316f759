"""Measure which stages DVC would run again after each possible change; write docs/reruns.md.

    make reruns

In a copy of the project every value, source file and pin is changed in turn, and DVC is asked.
"""

import re
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml
from dvc.repo import Repo

from imgpipe.core.yaml_file import read_yaml

ROOT = Path(__file__).resolve().parent.parent
TABLE = ROOT / "docs" / "reruns.md"
STAGES = ("fetch", "preprocess", "augment", "train", "evaluate", "plot")

HEADER = """\
# What a change reruns

Measured by `make reruns`, and by a test: in a copy of the project each item was changed alone, and
DVC was asked which stages depend on it (x). Stages after them run again as far as the outputs
before them change. `plot` is always among them, because its model card lists all values and
versions. With the committed values; of the catalog the chosen dataset, of the architectures the
chosen one.
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


def leaves(value: dict[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Yield every leaf of a mapping with its dotted key."""
    for key, item in value.items():
        if isinstance(item, dict) and item:
            yield from leaves(item, f"{prefix}{key}.")
        else:
            yield prefix + key, item


def set_leaf(folder: Path, dotted: str, leaf: Any, file: str = "params.yaml") -> None:
    """Change one value of a YAML file."""
    value = read_yaml(folder / file)
    section = value
    *path, last = dotted.split(".")
    for key in path:
        section = section[key]
    section[last] = leaf
    (folder / file).write_text(yaml.safe_dump(value, sort_keys=False))


def find_reruns(folder: Path, file: str) -> set[str]:
    """Return the stages of dvc.yaml for which DVC finds that a file, or a value in it, changed."""
    with Repo(folder.as_posix()) as repo:
        status = repo.status((folder / "dvc.yaml").as_posix())
    return {
        stage.rpartition(":")[2]  # a path stands before it when the current folder is another
        for stage, changes in status.items()
        for change in changes
        if isinstance(change, dict)
        and change.get("changed deps", {}).get(file, "deleted") != "deleted"
    }


def measure_table(folder: Path) -> str:
    """Return the page, measured in a copy of the project, which is left as it was."""
    sections = {
        "Values of params.yaml": measure_params(folder),
        "Fields of the chosen dataset in data/catalog.yaml": measure_catalog(folder),
        "Source files": measure_sources(folder),
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
        # Of these another valid one, because they choose what else is a dependency.
        other = {"dataset": "mnist", "train.architecture": "mlp"}.get(leaf, change(value))
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
    """Yield each source file, and the stages that depend on it."""
    for path in sorted((folder / "src").rglob("*.py")):
        text = path.read_text()
        path.write_text(text + "# changed\n")
        file = path.relative_to(folder).as_posix()
        yield file, find_reruns(folder, file)
        path.write_text(text)


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
    from support import make_copy

    with tempfile.TemporaryDirectory() as scratch:
        page = measure_table(make_copy(Path(scratch)))
    TABLE.parent.mkdir(exist_ok=True)
    TABLE.write_text(page, encoding="utf-8", newline="\n")


if __name__ == "__main__":
    main()
