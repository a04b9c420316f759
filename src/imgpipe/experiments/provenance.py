"""Revisions of the project, and what git and DVC recorded about the run of each.

A revision is a commit, an experiment of `dvc exp run`, or the workspace. Its `dvc.lock` records the
parameters, data and code of the run; `params.yaml` and source files may have been edited since.
"""

import hashlib
import os
import subprocess
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from imgpipe.core.errors import PipelineError
from imgpipe.core.libraries import PINS_FILE, parse_pin
from imgpipe.core.yaml_file import flatten, parse_yaml
from imgpipe.running.entry import SOURCES_FOLDER
from imgpipe.settings.params import PARAMS_FILE

WORKSPACE = "workspace"
_LOCK = "dvc.lock"
_PARAMS = PARAMS_FILE.as_posix()
STAGES_TO_TRAIN = ("fetch", "preprocess", "augment", "train")
STAGES_TO_EVALUATE = (*STAGES_TO_TRAIN, "evaluate")
# DVC uses the repository around the project. Hooks of git set these variables, which may name
# another one.
_GIT_VARIABLES = {"GIT_COMMON_DIR", "GIT_DIR", "GIT_INDEX_FILE", "GIT_PREFIX", "GIT_WORK_TREE"}


@dataclass(frozen=True)
class Revision:
    """A commit, an experiment, or the workspace."""

    name: str
    """The name as the user writes it."""
    commit: str | None
    """The hash of the commit; None for the workspace."""


@dataclass(frozen=True)
class Provenance:
    """Everything that determines the results of a run, from `fetch` to `train` or `evaluate`."""

    parameters: dict[str, Any]
    """Values by dotted key; the key starts with the name of the file if it is not params.yaml."""
    libraries: dict[str, str]
    """The pinned version of each library."""
    sources: dict[str, str]
    """The MD5 of each source file or folder that a stage depends on; the MD5 of a folder, from
    DVC, ends with `.dir`."""
    outputs: dict[str, str]
    """The MD5 of each output of a stage, by path."""


def list_experiments() -> list[Revision]:
    """Return the experiments that `dvc exp run` saved in git, sorted by name."""
    lines = run_git("for-each-ref", "--format=%(refname) %(objectname)", "refs/exps").splitlines()
    found = []
    for ref, commit in (line.split() for line in lines):
        # refs/exps/<2 digits>/<38 digits of the commit that the experiment started from>/<name>
        parts = ref.split("/")
        if len(parts) == 5 and len(parts[2]) == 2:
            found.append(Revision(parts[4], commit))
    return sorted(found, key=lambda revision: (revision.name, revision.commit))


def find_revision(name: str) -> Revision:
    """Return the workspace, the experiment, or the commit that `name` means to git.

    Raises:
        PipelineError: nothing has this name, or several experiments have it.
    """
    if name == WORKSPACE:
        return Revision(name, None)
    experiments = list_experiments()
    with_name = [revision for revision in experiments if revision.name == name]
    if len(with_name) > 1:
        commits = ", ".join(str(revision.commit)[:7] for revision in with_name)
        raise PipelineError(f"{name}: several experiments have this name; give a commit: {commits}")
    if with_name:
        return with_name[0]
    try:
        commit = run_git(
            "rev-parse", "--verify", "--quiet", "--end-of-options", f"{name}^{{commit}}"
        ).strip()
    except PipelineError:
        names = ", ".join(revision.name for revision in experiments) or "none"
        shown = name if name.isprintable() else repr(name)
        raise PipelineError(
            f"{shown}: not found; expected a commit, branch or tag, an experiment (existing:"
            f" {names}), or {WORKSPACE}"
        ) from None
    return Revision(name, commit)


def read_text(revision: Revision, path: str) -> str:
    """Read a file that git tracks; the path is from the folder of the project.

    Raises:
        PipelineError: the revision has no such file.
    """
    try:
        if revision.commit is None:
            return Path(path).read_text(encoding="utf-8")
        # The project may be a folder of a larger repository.
        return run_git("show", f"{revision.commit}:./{path}")
    except (FileNotFoundError, PipelineError):
        raise PipelineError(f"{revision.name}: {path} not found") from None


def read_provenance(revision: Revision, stages: Iterable[str]) -> Provenance:
    """Read the provenance of a run from `dvc.lock`.

    The stages are STAGES_TO_TRAIN or STAGES_TO_EVALUATE.

    Raises:
        PipelineError: a stage has not run, or an earlier stage has run again since then.
    """
    where = f"{revision.name}: {_LOCK}"
    lock = parse_yaml(read_text(revision, _LOCK), where) or {}
    parameters: dict[str, Any] = {}
    libraries: dict[str, str] = {}
    sources: dict[str, str] = {}
    outputs: dict[str, str] = {}
    for stage in stages:
        entry = lock.get("stages", {}).get(stage)
        if not entry:
            raise PipelineError(f"{where}: the stage {stage} has not run; run `dvc repro`")
        for file, values in entry.get("params", {}).items():
            if file == PINS_FILE.as_posix():
                pins = (parse_pin(text) for group in values.values() for text in group)
                libraries |= {pin.name: pin.version for pin in pins if pin}
            else:
                prefix = "" if file == _PARAMS else f"{file}: "
                parameters |= {f"{prefix}{key}": value for key, value in flatten(values).items()}
        dependencies = read_hashes(entry, "deps")
        # After an experiment that stopped at `train`, the lock still has the entry of `evaluate`
        # from the previous commit.
        for path, md5 in dependencies.items():
            if outputs.get(path, md5) != md5:
                raise PipelineError(
                    f"{where}: the stage {stage} has not run since {path} changed; run `dvc repro`"
                )
        sources |= {
            path: md5 for path, md5 in dependencies.items() if path.startswith(SOURCES_FOLDER)
        }
        outputs |= read_hashes(entry, "outs")
    return Provenance(parameters, libraries, sources, outputs)


def read_hashes(entry: Mapping[str, Any], kind: str) -> dict[str, str]:
    """Return the MD5 of each file and folder under `deps` or `outs` of a stage in `dvc.lock`."""
    return {each["path"]: each["md5"] for each in entry.get(kind, [])}


def find_parameter_edits(revision: Revision, provenance: Provenance) -> list[str]:
    """Return the parameters that were edited since the run, as "key: value"."""
    text = read_text(revision, _PARAMS)
    values = flatten(parse_yaml(text, f"{revision.name}: {_PARAMS}"))
    return [
        f"{key}: {values[key]}"
        for key, used in provenance.parameters.items()
        if key in values and values[key] != used
    ]


def open_output(revision: Revision, provenance: Provenance, path: str) -> bytes:
    """Read a file among the outputs of a run, from the workspace, DVC's cache, or DVC's remote.

    No stage is run; nothing is checked out. The path is an output, or a file in an output folder.

    Raises:
        PipelineError: the file is in none of these places, or is not the output of the run.
    """
    try:
        with _open_repository(revision) as repo:
            content: bytes = repo.dvcfs.read_bytes(path)
    except (OSError, LookupError):
        raise PipelineError(
            f"{revision.name}: {path} is neither in DVC's cache nor in a remote; run `dvc pull` (if"
            " it was pushed), or `dvc repro` at that commit"
        ) from None
    expected = provenance.outputs.get(path)
    if expected is not None and hashlib.md5(content).hexdigest() != expected:
        raise PipelineError(
            f"{revision.name}: {path} is not the file that {_LOCK} records; run `dvc repro`"
        )
    return content


@contextmanager
def _open_repository(revision: Revision) -> Iterator[Any]:
    """Yield DVC's repository at a revision.

    Raises:
        PipelineError: DVC cannot read its own files there.
    """
    from dvc.exceptions import DvcException  # takes 0.5 s, which not every caller needs
    from dvc.repo import Repo

    try:
        # The paths of `Repo(rev=...)` would be from the top of a larger repository.
        with Repo() as repo, repo.switch(revision.commit or WORKSPACE):
            yield repo
    except DvcException as error:
        raise PipelineError(f"{revision.name}: DVC: {' '.join(str(error).split())}") from None


@contextmanager
def open_hasher(revision: Revision) -> Iterator[Callable[[str], str | None]]:
    """Yield a function that returns DVC's MD5 of a file or folder; None if the path is missing."""
    from dvc.dependency.base import Dependency  # as above

    with _open_repository(revision) as repo:

        @cache
        def hash_path(path: str) -> str | None:
            try:
                value: str = Dependency(None, path, repo=repo).get_hash().value
            except FileNotFoundError:
                return None
            return value

        yield hash_path


def list_changed_files(first: Revision, second: Revision, path: str) -> list[str]:
    """Return the files under a path that differ between two revisions."""
    commits = [revision.commit for revision in (first, second) if revision.commit]
    # From the folder of the project, which may be a folder of a larger repository.
    names = run_git("diff", "-z", "--name-only", "--relative", "--no-renames", *commits, "--", path)
    if WORKSPACE in (first.name, second.name):
        names += run_git("ls-files", "-z", "--others", "--exclude-standard", "--", path)
    return names.rstrip("\0").split("\0") if names else []


def find_environment() -> dict[str, str]:
    """Return the environment of this process without the variables that name a repository."""
    return {name: value for name, value in os.environ.items() if name not in _GIT_VARIABLES}


def run_git(*arguments: str) -> str:
    """Return the output of git, in the repository around the project.

    Raises:
        PipelineError: git failed, or is not installed.
    """
    try:
        return subprocess.run(
            ["git", *arguments],
            env=find_environment(),
            check=True,
            capture_output=True,
            text=True,
            encoding="utf-8",
        ).stdout
    except FileNotFoundError:
        raise PipelineError("git: not found; install it") from None
    except subprocess.CalledProcessError as error:
        raise PipelineError(f"git {arguments[0]}: {' '.join(error.stderr.split())}") from None
