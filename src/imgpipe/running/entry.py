"""The entry of a stage in dvc.yaml: the values, source files and libraries that the stage uses.

dvc.yaml is the only declaration of these. DVC reads it too, but `import dvc.repo` takes 0.5 s, and
this module takes 33 ms. It knows only the templates that dvc.yaml has: `${key}`, a value of
params.yaml, in `deps` and `params`.
"""

import re
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from imgpipe.core.errors import PipelineError
from imgpipe.core.libraries import PINS_FILE
from imgpipe.core.yaml_file import read_yaml
from imgpipe.settings.params import PARAMS_FILE

PIPELINE_FILE = Path("dvc.yaml")

_GROUPS = "project.optional-dependencies."
SOURCES_FOLDER = "src/"


@dataclass(frozen=True)
class StageEntry:
    """What dvc.yaml declares of one stage."""

    command: str
    dependencies: list[str]
    """Files and folders."""
    values: dict[str, dict[str, Any]]
    """By file, then by dotted key."""
    outputs: list[str]
    """Files and folders."""

    @property
    def groups(self) -> list[str]:
        """The groups of pyproject.toml with the libraries that the stage imports."""
        pins = self.values.get(PINS_FILE.as_posix(), {})
        return [key.removeprefix(_GROUPS) for key in pins]

    @property
    def sources(self) -> list[str]:
        """The files and folders under `src`, by their names there."""
        return [
            path.removeprefix(SOURCES_FOLDER)
            for path in self.dependencies
            if path.startswith(SOURCES_FOLDER)
        ]

    @property
    def data(self) -> list[str]:
        """The files and folders that the stage reads, besides the source files."""
        return [path for path in self.dependencies if not path.startswith(SOURCES_FOLDER)]


def read_entries(
    stages: Sequence[str], params: Mapping[str, Any] | None = None
) -> dict[str, StageEntry]:
    """Read the entries of stages, with the values that they name: by default those in the files.

    Raises:
        PipelineError: dvc.yaml has no such stage, or a key that an entry names is missing.
    """
    definitions = read_yaml(PIPELINE_FILE)
    contents = {PARAMS_FILE.as_posix(): read_yaml(PARAMS_FILE) if params is None else params}
    return {
        stage: _resolve(
            _look_up(definitions, f"stages.{stage}", PIPELINE_FILE.as_posix()), contents
        )
        for stage in stages
    }


def _resolve(definition: Mapping[str, Any], contents: dict[str, Any]) -> StageEntry:
    """Return the entry that follows from a definition in dvc.yaml.

    The contents are of parameter files, by name; other files are read and added.
    """
    params_name = PARAMS_FILE.as_posix()

    def fill_in(text: str) -> str:
        return re.sub(
            r"\$\{([^}]+)\}",
            lambda found: str(_look_up(contents[params_name], found[1], params_name)),
            text,
        )

    values: dict[str, dict[str, Any]] = {}
    for item in definition.get("params", []):
        for file, keys in (item if isinstance(item, dict) else {params_name: [item]}).items():
            if file not in contents:
                contents[file] = _read_parameters(file)
            for key in map(fill_in, keys):
                values.setdefault(file, {})[key] = _look_up(contents[file], key, file)
    outputs = [
        path
        for kind in ("outs", "metrics", "plots")
        for item in definition.get(kind, [])
        for path in (item if isinstance(item, dict) else [item])
    ]
    return StageEntry(
        command=definition["cmd"],
        dependencies=[fill_in(path) for path in definition.get("deps", [])],
        values=values,
        outputs=outputs,
    )


def _look_up(content: Any, key: str, file: str) -> Any:
    for part in key.split("."):
        try:
            content = content[part]
        except (KeyError, TypeError):
            raise PipelineError(
                f"{file}: {key}: this key is missing, but a stage needs it"
            ) from None
    return content


def _read_parameters(file: str) -> Any:
    if file.endswith(".toml"):
        return tomllib.loads(Path(file).read_text(encoding="utf-8"))
    return read_yaml(Path(file))
