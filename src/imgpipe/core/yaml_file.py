"""Read and write YAML with the library that DVC uses, so that both read the same values."""

import io
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from imgpipe.core.errors import PipelineError


def read_yaml(path: Path) -> Any:
    """Read a YAML file.

    Raises:
        PipelineError: the file is missing, is not YAML, or has a key twice.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise PipelineError(
            f"{path.as_posix()}: not found; run from the project's top folder"
        ) from None
    except UnicodeDecodeError:
        raise PipelineError(f"{path.as_posix()}: expected UTF-8 text") from None
    return parse_yaml(text, path.as_posix())


def parse_yaml(text: str, where: str) -> Any:
    """Parse YAML as `read_yaml` does; `where` names the text in an error."""
    try:
        return YAML(typ="safe").load(text)
    except (YAMLError, ValueError, LookupError) as error:  # the last two: no value of its tag
        mark = getattr(error, "problem_mark", None)
        place = f" line {mark.line + 1}, column {mark.column + 1}:" if mark else ""
        problem = str(getattr(error, "problem", None) or error)
        problem = problem.partition(" with value")[0]  # the values of a duplicate key may be long
        line = " ".join(problem.split())
        raise PipelineError(f"{where}:{place} not valid YAML: {line}") from None


def format_yaml(value: Any) -> str:
    """Return a value as YAML; comments of a document that ruamel.yaml loaded are kept."""
    yaml = YAML()
    yaml.width = 1000  # so that no line is wrapped
    stream = io.StringIO()
    yaml.dump(value, stream)
    return stream.getvalue()


def flatten(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Return the values of nested mappings by dotted key."""
    flat: dict[str, Any] = {}
    for key, value in values.items():
        if isinstance(value, dict):
            flat |= flatten(value, f"{prefix}{key}.")
        else:
            flat[f"{prefix}{key}"] = value
    return flat
