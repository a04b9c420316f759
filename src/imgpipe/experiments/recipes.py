"""Recipes: files of experiments that hold only the values that differ from the defaults.

`recipes/defaults.yaml` is a complete params.yaml. Each other `recipes/NAME.yaml` is an overlay: a
header of comments, then the values that differ. Applying a recipe writes the defaults, with the
values of the overlay, into params.yaml. The result does not depend on the old params.yaml.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML

from imgpipe.console.messages import format_count
from imgpipe.core.errors import PipelineError
from imgpipe.core.files import write_json, write_text
from imgpipe.core.schema import check, nearest
from imgpipe.core.yaml_file import flatten, format_yaml, read_yaml
from imgpipe.settings.params import PARAMS_FILE, Params, format_value

DEFAULTS = "defaults"
RECIPES = Path("recipes")
EFFECTIVE_FILE = "effective.json"
HEADER_FIELDS = ("command", "network", "parameters", "accuracy", "time")


@dataclass(frozen=True)
class Change:
    """The change of params.yaml when a recipe is applied."""

    recipe: str
    text: str
    """The new params.yaml."""

    values: Mapping[str, tuple[str, str]]
    """Old and new value, by dotted key, of each value that changes."""

    nearest_recipe: str
    edits: Mapping[str, str]
    """The user's own values, by dotted key, that the recipe replaces."""


def list_recipes(folder: Path = RECIPES) -> list[str]:
    """Return the names of all recipes, without the defaults, in alphabetical order."""
    return sorted(path.stem for path in folder.glob("*.yaml") if path.stem != DEFAULTS)


def load_recipe(name: str, folder: Path = RECIPES) -> dict[str, Any]:
    """Return the complete values of a recipe: the defaults with the values of its overlay.

    Raises:
        PipelineError: there is no such recipe, or its overlay has an unknown key or a value that
            params.yaml does not allow.
    """
    known = [DEFAULTS, *list_recipes(folder)]
    if name not in known:
        raise PipelineError(
            f"{folder.as_posix()}: expected the name of a recipe; found {name!r}"
            f"{nearest(name, known)}; known here: {', '.join(known)}"
        )
    path = folder / f"{name}.yaml"
    values = read_yaml(folder / f"{DEFAULTS}.yaml")
    if name != DEFAULTS:
        overlay = read_yaml(path)
        if not isinstance(overlay, dict):
            raise PipelineError(f"{path.as_posix()}: expected the values that differ; found none")
        values = _merge(values, overlay)
    check(Params, values, path.as_posix())
    return dict(values)


def plan_change(
    name: str,
    folder: Path = RECIPES,
    params_file: Path = PARAMS_FILE,
    *,
    dataset: str | None = None,
    groups: str | None = None,
) -> Change:
    """Find the values that a recipe changes, and the user's own values that it replaces.

    The user's own values are the values that differ from the nearest recipe. The nearest recipe is
    the recipe, or the defaults, with the fewest values that differ from params.yaml.

    If a dataset or groups are given, they replace `dataset` or `preprocess.groups` of the recipe.

    Raises:
        PipelineError: as `load_recipe`; or params.yaml is not readable, so that the user's own
            values cannot be found.
    """
    recipe = load_recipe(name, folder)
    if dataset is not None:
        recipe["dataset"] = dataset
    if groups is not None:
        recipe["preprocess"] = {**recipe["preprocess"], "groups": groups}
    new = flatten(recipe)
    present = read_yaml(params_file) if params_file.exists() else {}
    if not isinstance(present, dict):
        raise PipelineError(
            f"{params_file.as_posix()}: expected a mapping of keys to values; correct or delete it"
        )
    old = flatten(present)
    candidates = {
        other: _differences(flatten(load_recipe(other, folder)), old)
        for other in (DEFAULTS, *list_recipes(folder))
    }
    closest = min(candidates, key=lambda other: len(candidates[other]))
    values = _differences(old, new)
    edits = {key: own for key, (_, own) in candidates[closest].items() if key in old}
    return Change(
        recipe=name,
        text=_render(recipe, folder),
        values=values,
        nearest_recipe=closest,
        edits={key: own for key, own in edits.items() if key in values},
    )


def describe_change(change: Change) -> Iterator[str]:
    """Yield the lines that report a change, the user's own values first."""
    if change.edits:
        yield (
            f"{change.recipe} replaces your own values in params.yaml"
            f" (compared with the nearest recipe, {change.nearest_recipe}):"
        )
        yield from (f"  {key}: {value}" for key, value in change.edits.items())
    yield f"params.yaml: {change.recipe}, {format_count(len(change.values), 'value')} changed"
    yield from (f"  {key}: {old} -> {new}" for key, (old, new) in change.values.items())


def apply_change(change: Change, params_file: Path = PARAMS_FILE) -> None:
    """Write the params.yaml of a change."""
    write_text(params_file, change.text)


def read_header(name: str, folder: Path = RECIPES) -> dict[str, str]:
    """Return the fields of the header of a recipe: HEADER_FIELDS, and `published`, if any.

    The header is the comments before the first value: some text, then a line `#   FIELD  TEXT` for
    each field. Lines with a deeper indentation continue the field.

    Raises:
        PipelineError: a field is missing.
    """
    path = folder / f"{name}.yaml"
    fields: dict[str, str] = {}
    for line in path.read_text(encoding="utf-8").splitlines():
        if not line.startswith("#"):
            break
        text = line.removeprefix("#")
        words = text.split()
        indentation = len(text) - len(text.lstrip())
        if indentation == 3:
            field, *words = words
            fields[field] = " ".join(words)
        elif indentation > 3 and fields:
            fields[field] += f" {' '.join(words)}"
    missing = [field for field in HEADER_FIELDS if not fields.get(field)]
    if missing:
        raise PipelineError(f"{path.as_posix()}: its header has no line `#   {missing[0]}  ...`")
    return fields


def format_table(folder: Path = RECIPES) -> str:
    """Return the Markdown table of all recipes, from their headers."""
    columns = ("network", "parameters", "accuracy", "published", "time", "command")
    rows = [
        ["recipe", "network", "parameters", "test accuracy", "published", "time", "command"],
        ["---"] * (1 + len(columns)),
    ]
    for name in list_recipes(folder):
        fields = read_header(name, folder)
        cells = [fields.get(column, "") for column in columns]
        rows.append([f"[{name}]({name}.yaml)", *cells[:-1], f"`{cells[-1]}`"])
    return "".join(f"| {' | '.join(row)} |\n" for row in rows)


def write_generated(folder: Path = RECIPES) -> None:
    """Write the files that follow from the recipes: `effective.json` and README's table.

    `effective.json` holds every value of every published recipe by recipe and dotted key, so that
    a changed default shows which published experiments it changes.
    """
    effective = {name: flatten(load_recipe(name, folder)) for name in list_recipes(folder)}
    write_json(folder / EFFECTIVE_FILE, effective)
    readme = folder / "README.md"
    lines = readme.read_text(encoding="utf-8").splitlines(keepends=True)
    rows = [number for number, line in enumerate(lines) if line.startswith("|")]
    if not rows:
        raise PipelineError(f"{readme.as_posix()}: expected a table to replace; found none")
    write_text(readme, "".join([*lines[: rows[0]], format_table(folder), *lines[rows[-1] + 1 :]]))


def _render(values: Mapping[str, Any], folder: Path) -> str:
    document = YAML().load((folder / f"{DEFAULTS}.yaml").read_text(encoding="utf-8"))
    _set_values(document, values)
    return format_yaml(document)


def _merge(values: Mapping[str, Any], overlay: Mapping[str, Any]) -> dict[str, Any]:
    merged = dict(values)
    for key, value in overlay.items():
        both = isinstance(value, dict) and isinstance(merged.get(key), dict)
        merged[key] = _merge(merged[key], value) if both else value
    return merged


def _set_values(document: Any, values: Mapping[str, Any]) -> None:
    """Set the values of a document of ruamel.yaml in place: its nodes hold the comments."""
    for key, value in values.items():
        if isinstance(value, dict):
            _set_values(document[key], value)
        elif document[key] == value:
            continue  # keeps how the number is written
        elif isinstance(value, list):
            document[key].clear()
            document[key].extend(value)
        else:
            document[key] = value


def _differences(first: Mapping[str, Any], second: Mapping[str, Any]) -> dict[str, tuple[str, str]]:
    """Return both values, as text, of each key whose values differ."""
    return {
        key: (_show(first, key), _show(second, key))
        for key in {**first, **second}
        if _show(first, key) != _show(second, key)
    }


def _show(values: Mapping[str, Any], key: str) -> str:
    return format_value(values[key]) if key in values else "absent"
