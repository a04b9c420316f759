"""The inputs that determine the result of a run: read from `dvc.lock`, or found for a new run.

`dvc.lock` records for each stage the command, the parameters, and the MD5 of each file and folder
that it used. Two runs with equal records have equal results, also in different commits.
"""

import re
import tomllib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from imgpipe.core.errors import PipelineError
from imgpipe.core.paths import RAW
from imgpipe.core.yaml_file import parse_yaml, read_yaml
from imgpipe.experiments.provenance import (
    STAGES_TO_EVALUATE,
    WORKSPACE,
    Revision,
    find_revision,
    find_stale_input,
    list_experiments,
    read_hashes,
    read_text,
)
from imgpipe.settings.params import PARAMS_FILE

_LOCK = "dvc.lock"
_PARAMS = PARAMS_FILE.as_posix()


@dataclass(frozen=True)
class StageInputs:
    """Everything that determines the outputs of a stage, except outputs of earlier stages."""

    command: str
    parameters: dict[str, Any]
    """Values by file and dotted key."""
    files: dict[str, str]
    """The MD5 of each file and folder, as DVC computes it."""


@dataclass(frozen=True)
class Candidate:
    """A finished run that may have the same inputs as a run of a study."""

    revision: Revision
    inputs: dict[str, StageInputs]
    """By stage."""
    raw_data: str
    """The MD5 of the output of `fetch`."""


def read_candidate(revision: Revision) -> Candidate | None:
    """Return the run that `dvc.lock` of a revision records, or None if the run is incomplete."""
    try:
        lock = parse_yaml(read_text(revision, _LOCK), f"{revision.name}: {_LOCK}")
    except PipelineError:
        return None
    inputs, outputs = parse_lock(lock)
    if RAW.as_posix() not in outputs:
        return None
    return Candidate(revision, inputs, outputs[RAW.as_posix()])


def parse_lock(lock: Mapping[str, Any]) -> tuple[dict[str, StageInputs], dict[str, str]]:
    """Return the inputs of each stage, and the MD5 of each output, from the content of `dvc.lock`.

    The first stage whose dependencies are not the outputs of the stages before, and all stages
    after it, are left out (see `find_stale_input`).
    """
    stages = lock.get("stages", {})
    inputs: dict[str, StageInputs] = {}
    outputs: dict[str, str] = {}
    for stage in STAGES_TO_EVALUATE:
        if stage not in stages:
            break
        entry = stages[stage]
        dependencies = read_hashes(entry, "deps")
        if find_stale_input(dependencies, outputs):
            break
        files = {path: md5 for path, md5 in dependencies.items() if path not in outputs}
        inputs[stage] = StageInputs(entry["cmd"], entry.get("params", {}), files)
        outputs |= read_hashes(entry, "outs")
    return inputs, outputs


def resolve_inputs(
    stages: Sequence[str],
    pipeline: Mapping[str, Any],
    params: Mapping[str, Any],
    read_file: Callable[[str], Any],
    hash_file: Callable[[str], str],
) -> dict[str, StageInputs]:
    """Return the inputs that stages would have with other parameters, as `dvc.lock` records them.

    DVC fills in `${...}` in dvc.yaml only from the params.yaml on the disk. So this function fills
    them in from `params`; a test checks that the result equals DVC's.

    Args:
        stages: names of stages, in the order in which they run.
        pipeline: the content of dvc.yaml.
        params: the content of params.yaml.
        read_file: returns the content of another file of parameters.
        hash_file: returns the MD5 of a file or folder.
    """

    def fill_in(text: str) -> str:
        return re.sub(r"\$\{([^}]+)\}", lambda found: str(_lookup(params, found[1], _PARAMS)), text)

    inputs: dict[str, StageInputs] = {}
    outputs: set[str] = set()
    for stage in stages:
        definition = pipeline["stages"][stage]
        parameters: dict[str, Any] = {}
        for item in definition.get("params", []):
            named = item if isinstance(item, dict) else {_PARAMS: [item]}
            for file, keys in named.items():
                values = params if file == _PARAMS else read_file(file)
                filled = map(fill_in, keys)
                parameters.setdefault(file, {}).update(
                    {key: _lookup(values, key, file) for key in filled}
                )
        paths = [fill_in(path) for path in definition.get("deps", [])]
        files = {path: hash_file(path) for path in paths if path not in outputs}
        inputs[stage] = StageInputs(fill_in(definition["cmd"]), parameters, files)
        for kind in ("outs", "metrics", "plots"):
            for item in definition.get(kind, []):
                outputs |= item.keys() if isinstance(item, dict) else {item}
    return inputs


def _lookup(values: Any, key: str, file: str) -> Any:
    for part in key.strip().split("."):
        try:
            values = values[part]
        except (KeyError, TypeError):
            raise PipelineError(f"{file}: {key}: not found; a stage in dvc.yaml uses it") from None
    return values


def read_parameter_file(path: str) -> Any:
    """Read a file of parameters, YAML or TOML."""
    if path.endswith(".toml"):
        return tomllib.loads(Path(path).read_text(encoding="utf-8"))
    return read_yaml(Path(path))


@contextmanager
def open_hasher() -> Iterator[Callable[[str], str]]:
    """Yield a function that returns the MD5 of a file or folder, as `dvc.lock` would record it.

    The function raises a PipelineError if the path is missing.
    """
    from dvc.dependency.base import Dependency  # 0.5 s, which `--help` does not need
    from dvc.repo import Repo

    with Repo() as repo:

        @cache
        def hash_file(path: str) -> str:
            try:
                value: str = Dependency(None, path, repo=repo).get_hash().value
            except FileNotFoundError:
                raise PipelineError(
                    f"{path}: not found; if DVC tracks this file, run `dvc checkout` or `dvc pull`"
                ) from None
            return value

        yield hash_file


def list_candidates() -> list[Candidate]:
    """Return the runs of all experiments, of HEAD and of the workspace."""
    revisions = [*list_experiments(), find_revision("HEAD"), find_revision(WORKSPACE)]
    return [found for revision in revisions if (found := read_candidate(revision))]
