"""What DVC and git know of a run at a commit, of an experiment, or of the last one here.

A run is told by its `dvc.lock`, which holds what has made its outputs; `params.yaml` beside it may
have been edited since.
"""

import hashlib
import subprocess
from collections.abc import Mapping
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from imgpipe.core.errors import PipelineError
from imgpipe.core.yaml_file import parse_yaml

WORKSPACE = "workspace"
_LOCK = "dvc.lock"
_PARAMS = "params.yaml"
_PINS = "pyproject.toml"
_STAGES_TO_TRAIN = ("fetch", "preprocess", "augment", "train")
_STAGES_TO_EVALUATE = (*_STAGES_TO_TRAIN, "evaluate")


@dataclass(frozen=True)
class Revision:
    """A commit, an experiment, or the workspace."""

    name: str
    """As a person says it."""
    commit: str | None
    """Its hash; of the workspace None."""


@dataclass(frozen=True)
class Provenance:
    """What has made the results of a run, from `fetch` to `train` or `evaluate`."""

    parameters: dict[str, Any]
    """By dotted key; of another file than params.yaml with its name before it."""
    libraries: dict[str, str]
    """Their versions."""
    sources: dict[str, str]
    """MD5 of each source file."""
    outputs: dict[str, str]
    """MD5 of what the stages have written, by path."""


def list_experiments() -> list[Revision]:
    """Return the experiments that `dvc exp run` has kept in git, in the order of their names."""
    lines = _git("for-each-ref", "--format=%(refname) %(objectname)", "refs/exps").splitlines()
    found = []
    for ref, commit in (line.split() for line in lines):
        # refs/exps/<2 digits>/<38 digits of the commit it began from>/<name>
        parts = ref.split("/")
        if len(parts) == 5 and len(parts[2]) == 2:
            found.append(Revision(parts[4], commit))
    return sorted(found, key=lambda revision: (revision.name, revision.commit))


def find_revision(name: str) -> Revision:
    """Find what a person calls `name`: workspace, an experiment, or anything that git knows.

    Raises:
        PipelineError: there is no such thing, or more than one experiment of that name.
    """
    if name == WORKSPACE:
        return Revision(name, None)
    experiments = list_experiments()
    of_that_name = [revision for revision in experiments if revision.name == name]
    if len(of_that_name) > 1:
        commits = ", ".join(str(revision.commit)[:7] for revision in of_that_name)
        raise PipelineError(f"{name}: there are several experiments of that name: {commits}")
    if of_that_name:
        return of_that_name[0]
    try:
        return Revision(
            name, _git("rev-parse", "--verify", "--quiet", f"{name}^{{commit}}").strip()
        )
    except PipelineError:
        names = ", ".join(revision.name for revision in experiments) or "none"
        raise PipelineError(
            f"{name}: neither a commit, branch or tag that git knows, nor an experiment"
            f" (there are: {names}), nor '{WORKSPACE}'"
        ) from None


def read_text(revision: Revision, path: str) -> str:
    """Read a file that git tracks.

    Raises:
        PipelineError: it is not there.
    """
    if revision.commit is not None:
        try:
            return _git("show", f"{revision.commit}:{path}")
        except PipelineError:
            raise PipelineError(f"{revision.name}: there is no {path}") from None
    try:
        return Path(path).read_text(encoding="utf-8")
    except FileNotFoundError:
        raise PipelineError(f"{revision.name}: there is no {path}") from None


def read_provenance(revision: Revision, *, to_evaluate: bool) -> Provenance:
    """Read from `dvc.lock` what has made a run, to `train` or to `evaluate`.

    Raises:
        PipelineError: the pipeline has not been run there.
    """
    where = f"{revision.name}: {_LOCK}"
    recorded = parse_yaml(read_text(revision, _LOCK), where).get("stages", {})
    parameters: dict[str, Any] = {}
    libraries: dict[str, str] = {}
    sources: dict[str, str] = {}
    outputs: dict[str, str] = {}
    for stage in _STAGES_TO_EVALUATE if to_evaluate else _STAGES_TO_TRAIN:
        if stage not in recorded:
            raise PipelineError(f"{where}: the stage {stage} has not been run there")
        entry = recorded[stage]
        for file, values in entry.get("params", {}).items():
            if file == _PINS:
                pins = (pin for pins in values.values() for pin in pins)
                libraries |= dict(pin.split("==") for pin in pins)
            else:
                prefix = "" if file == _PARAMS else f"{file}: "
                parameters |= {f"{prefix}{key}": value for key, value in _flatten(values).items()}
        for dependency in entry.get("deps", []):
            if dependency["path"].startswith("src/"):
                sources[dependency["path"]] = dependency["md5"]
        outputs |= {output["path"]: output["md5"] for output in entry.get("outs", [])}
    return Provenance(parameters, libraries, sources, outputs)


def _flatten(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in values.items():
        if isinstance(value, dict):
            flat |= _flatten(value, f"{prefix}{key}.")
        else:
            flat[f"{prefix}{key}"] = value
    return flat


def find_edits(revision: Revision, record: Provenance) -> list[str]:
    """Return what params.yaml says there that the run was not made with, "key: value"."""
    values = _flatten(parse_yaml(read_text(revision, _PARAMS), f"{revision.name}: {_PARAMS}"))
    return [
        f"{key}: {values[key]}"
        for key, used in record.parameters.items()
        if key in values and values[key] != used
    ]


def open_output(revision: Revision, record: Provenance, path: str) -> bytes:
    """Read a file among the outputs of a run, from here, from DVC's cache, or from its remote.

    Nothing is run and nothing is checked out.

    Args:
        path: of an output, or of a file in one that is a folder.

    Raises:
        PipelineError: it is nowhere, or what is here is not what the run has written.
    """
    from dvc.api import DVCFileSystem  # half a second, which not every tool needs to pay

    try:
        with closing(DVCFileSystem(rev=revision.commit)) as files:
            content: bytes = files.read_bytes(path)
    except (OSError, LookupError):
        raise PipelineError(
            f"{revision.name}: {path} is neither in DVC's cache nor in a remote; `dvc pull`"
            " brings it where someone has pushed it, `dvc repro` at that commit makes it again"
        ) from None
    expected = record.outputs.get(path)
    if expected is not None and hashlib.md5(content).hexdigest() != expected:
        raise PipelineError(
            f"{revision.name}: {path} is not what {_LOCK} says; `dvc repro` brings them together"
        )
    return content


@dataclass(frozen=True)
class ProvenanceDifferences:
    """Where the records of two runs differ; None stands for what one of them has not."""

    parameters: dict[str, tuple[Any, Any]]
    libraries: dict[str, tuple[str | None, str | None]]
    sources: list[str]
    """Files that are changed, added or removed."""
    data: list[str]
    """Outputs of fetch, preprocess and augment that differ."""


def compare_provenance(first: Provenance, second: Provenance) -> ProvenanceDifferences:
    """Return where two records differ, each in the first one's order."""
    return ProvenanceDifferences(
        parameters=_differing(first.parameters, second.parameters),
        libraries=_differing(first.libraries, second.libraries),
        sources=list(_differing(first.sources, second.sources)),
        data=[
            path
            for path in _differing(first.outputs, second.outputs)
            if path in ("data/raw", "data/records", "data/augmented")
        ],
    )


def _differing(first: Mapping[str, Any], second: Mapping[str, Any]) -> dict[str, tuple[Any, Any]]:
    keys = [*first, *(key for key in second if key not in first)]
    return {
        key: (first.get(key), second.get(key)) for key in keys if first.get(key) != second.get(key)
    }


def _git(*arguments: str) -> str:
    try:
        return subprocess.run(
            ["git", *arguments],
            check=True, capture_output=True, text=True, encoding="utf-8",
        ).stdout  # fmt: skip
    except FileNotFoundError:
        raise PipelineError("git: not found; install it") from None
    except subprocess.CalledProcessError as error:
        raise PipelineError(f"git {arguments[0]}: {error.stderr.strip()}") from None
