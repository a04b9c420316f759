"""Studies: several runs of the pipeline, as DVC experiments, and one result of all of them.

A study is a file `studies/NAME.yaml`. Its runs are experiments of `dvc exp run --temp`. So the
workspace is not changed, each finished run is in git, and an interrupted study resumes with the
first missing run.

The name of an experiment contains a hash of its parameters, data and code. A run is finished if
there is an experiment of its name, which may belong to another commit.
"""

import hashlib
import json
import subprocess
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, TypeAlias

from imgpipe.console.messages import format_duration
from imgpipe.core.errors import PipelineError
from imgpipe.core.paths import HISTORY, PREDICTIONS, TEST_METRICS
from imgpipe.core.schema import check
from imgpipe.core.sources import hash_sources
from imgpipe.core.yaml_file import read_yaml
from imgpipe.experiments.pipeline import run_dvc
from imgpipe.experiments.provenance import (
    STAGES_TO_EVALUATE,
    STAGES_TO_TRAIN,
    Revision,
    find_revision,
    list_experiments,
    open_output,
    read_provenance,
)
from imgpipe.experiments.study import STUDIES, Study, StudyRun, expand_study, study_path
from imgpipe.running.entry import SOURCES_FOLDER, StageEntry, read_entries
from imgpipe.settings.params import PARAMS_FILE, Params

_CHANGED = "parameters, data or code changed while the study was running; run the study again"
_LOGS = Path(".dvc/tmp/studies")


@dataclass(frozen=True)
class Summary:
    """The stages and outputs that a kind of summary needs from each run."""

    stages: tuple[str, ...]
    """The stages that must have run."""
    target: tuple[str, ...]
    """The stage to run; empty for the whole pipeline."""
    outputs: tuple[Path, ...]
    """The outputs to read."""


SUMMARIES = {
    "folds": Summary(STAGES_TO_EVALUATE, (), (TEST_METRICS,)),
    "ensemble": Summary(STAGES_TO_EVALUATE, (), (TEST_METRICS, PREDICTIONS)),
    "errors": Summary(STAGES_TO_TRAIN, ("train",), (HISTORY,)),
}


Plan: TypeAlias = dict[str, StudyRun]
"""The runs of a study by the names of their experiments, in the order of the file."""


def plan_runs(name: str, study: Study, runs: Iterable[StudyRun]) -> Plan:
    """Return the runs of a study by the names of their experiments.

    The name contains a hash of everything that determines the result of the run. So runs with
    equal names have equal results, also in different commits.

    Raises:
        PipelineError: two runs have the same inputs.
    """
    stages = SUMMARIES[study.summary].stages
    plan: Plan = {}
    with open_hasher() as hash_data:
        for run in runs:
            entries = read_entries(stages, run.params)
            digest = hash_inputs(entries.values(), hash_data)[:7]
            twin = next((each for key, each in plan.items() if key.endswith(f"-{digest}")), None)
            if twin:
                raise PipelineError(
                    f"{study_path(name).as_posix()}: {twin.label} and {run.label} are the same run:"
                    " they differ only in values that their stages do not use"
                )
            plan[f"{name}-{run.label}-{digest}"] = run
    return plan


def hash_inputs(entries: Iterable[StageEntry], hash_data: Callable[[str], str]) -> str:
    """Return a hash of the values, source files and data that stages use.

    Args:
        entries: the entries of stages, in the order in which they run.
        hash_data: returns a hash of a file or folder that is no source file.

    Raises:
        PipelineError: a file is missing.
    """
    described: list[Any] = []
    outputs: set[str] = set()
    for entry in entries:
        data = [path for path in entry.dependencies if not path.startswith(SOURCES_FOLDER)]
        described += [
            entry.command,
            entry.values,
            hash_sources(*entry.sources),
            {path: hash_data(path) for path in data if path not in outputs},
        ]
        outputs |= set(entry.outputs)
    text = json.dumps(described, default=str)  # YAML has dates, JSON has not
    return hashlib.sha256(text.encode()).hexdigest()


@contextmanager
def open_hasher() -> Iterator[Callable[[str], str]]:
    """Yield a function that returns the MD5 of a file or folder; DVC stores the MD5s.

    The function raises a PipelineError if the path is missing.
    """
    from dvc.dependency.base import Dependency  # 0.5 s, which `--help` does not need
    from dvc.repo import Repo

    with Repo() as repo:

        @cache
        def hash_data(path: str) -> str:
            try:
                value: str = Dependency(None, path, repo=repo).get_hash().value
            except FileNotFoundError:
                raise PipelineError(
                    f"{path}: not found; if DVC tracks this file, run `dvc checkout` or `dvc pull`"
                ) from None
            return value

        yield hash_data


def load_result(revision: Revision, summary: Summary) -> dict[Path, bytes]:
    """Return the contents of the outputs of a finished run.

    Raises:
        PipelineError: the outputs are lost.
    """
    try:
        provenance = read_provenance(revision, to_evaluate=not summary.target)
        return {
            path: open_output(revision, provenance, path.as_posix()) for path in summary.outputs
        }
    except PipelineError as error:
        raise PipelineError(  # a new run could not be saved: its name is in use
            f"{error}; or remove the experiment with `dvc exp remove {revision.name}` and run the"
            " study again"
        ) from None


def run_study(name: str) -> str:
    """Run the missing runs of a study, and write its results to `studies/NAME`.

    The first run that fails stops the study; the next call finds the finished runs.

    Returns:
        the result in one line.

    Raises:
        PipelineError: the study is not valid, or a run failed.
    """
    study, plan = read_study(name)
    summary = SUMMARIES[study.summary]
    finished = {each.name: each for each in list_experiments() if each.name in plan}
    if len(finished) < len(plan):
        check_git(["src"])
    results = []
    for number, (experiment, run) in enumerate(plan.items(), start=1):
        print(f"run {number} of {len(plan)}: {run.label}", end=", ", flush=True)
        if experiment in finished:
            print("done before", flush=True)
        else:
            finished[experiment] = _run_missing(name, study, plan, experiment)
        results.append((run, load_result(finished[experiment], summary)))
    from imgpipe.experiments.study_results import write_results  # pandas, matplotlib: 2 s

    return f"{name}: {write_results(STUDIES / name, study, results)}"


def _run_missing(name: str, study: Study, plan: Plan, experiment: str) -> Revision:
    """Run an experiment, and print its time; check that nothing was edited since the plan."""
    print("running", end=", ", flush=True)
    start_s = time.monotonic()
    try:
        if read_study(name) != (study, plan):
            raise PipelineError(f"{name}: {_CHANGED}")
        revision = run_experiment(experiment, plan[experiment], SUMMARIES[study.summary])
        if read_study(name) != (study, plan):
            raise PipelineError(f"{experiment}: {_CHANGED}")
    except BaseException:  # also Ctrl-C; the error starts on a new line
        print("stopped", flush=True)
        raise
    print(f"finished in {format_duration(time.monotonic() - start_s)}", flush=True)
    return revision


def read_study(name: str) -> tuple[Study, Plan]:
    """Read and check a study; return the study and its runs.

    Raises:
        PipelineError: there is no such study, or its file or params.yaml is not valid.
    """
    path = study_path(name)
    study = check(Study, read_yaml(path), path.as_posix())
    params = read_yaml(PARAMS_FILE)
    check(Params, params, PARAMS_FILE.as_posix())
    return study, plan_runs(name, study, expand_study(study, path.as_posix(), params))


def check_git(paths: Iterable[str]) -> None:
    """Check that DVC can save an experiment with the files of the workspace in git.

    Raises:
        PipelineError: git has no name of the user, or does not track a file.
    """
    for who in ("GIT_AUTHOR_IDENT", "GIT_COMMITTER_IDENT"):
        if _run_git("-c", "user.useConfigOnly=true", "var", who) is None:
            raise PipelineError(
                "git: user.name and user.email are not set, and `dvc exp run` needs them;"
                " `git config user.name NAME` and `git config user.email ADDRESS` set them"
            )
    untracked = _run_git("ls-files", "--others", "--exclude-standard", "--", *paths)
    if untracked:
        raise PipelineError(
            f"{untracked.splitlines()[0]}: git does not track this file, so experiments would run"
            " without it; `git add` it first, or delete it"
        )


def _run_git(*arguments: str) -> str | None:
    """Return the output of git, or None if git fails."""
    result = subprocess.run(["git", *arguments], check=False, capture_output=True, text=True)
    return result.stdout if result.returncode == 0 else None


def run_experiment(experiment: str, run: StudyRun, summary: Summary) -> Revision:
    """Run the pipeline as an experiment.

    If DVC's run cache has the results of a stage, from any other run, DVC restores the results.

    Raises:
        PipelineError: the run failed.
    """
    # JSON and the grammar of -S agree for all values that params.yaml allows.
    settings = [f"{key}={json.dumps(value)}" for key, value in run.overrides.items()]
    command = ["exp", "run", "--temp", "--name", experiment]
    command += [part for setting in settings for part in ("--set-param", setting)]
    log = _LOGS / f"{experiment}.log"
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("wb") as stream:
        status = run_dvc(*command, *summary.target, output=stream)
    if status:
        raise PipelineError(
            f"{experiment}: the run failed: {_find_error(log)}; its output is in"
            f" {log.as_posix()}; finished runs are not run again"
        )
    return find_revision(experiment)


def _find_error(log: Path) -> str:
    """Return the error of the stage that failed, or else of DVC."""
    lines = log.read_text(encoding="utf-8", errors="replace").splitlines()
    for start in ("error: ", "ERROR: "):
        if found := [line for line in lines if line.startswith(start)]:
            return found[-1].removeprefix(start)
    return lines[-1] if lines else "it printed no output"
