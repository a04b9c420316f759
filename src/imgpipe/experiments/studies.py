"""Studies: several runs of the pipeline, as DVC experiments, and one result of all of them.

A study is a file `studies/NAME.yaml`. Its runs are experiments of `dvc exp run --temp`. So the
workspace is not changed, each finished run is in git, and an interrupted study resumes with the
first missing run.

The name of an experiment contains a hash of its parameters, data and code. A run is finished if
there is an experiment of its name, which may belong to another commit.
"""

import hashlib
import json
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

from imgpipe.console.messages import format_duration
from imgpipe.core.errors import PipelineError
from imgpipe.core.paths import HISTORY, PREDICTIONS, TEST_METRICS
from imgpipe.core.schema import check
from imgpipe.core.sources import hash_sources
from imgpipe.core.yaml_file import read_yaml
from imgpipe.experiments.pipeline import check_git, run_experiment
from imgpipe.experiments.provenance import (
    STAGES_TO_EVALUATE,
    STAGES_TO_TRAIN,
    WORKSPACE,
    Revision,
    find_revision,
    list_experiments,
    open_hasher,
    open_output,
    read_provenance,
)
from imgpipe.experiments.study import STUDIES, Study, StudyRun, expand_study, study_path
from imgpipe.running.entry import StageEntry, read_entries
from imgpipe.settings.params import PARAMS_FILE, Params


@dataclass(frozen=True)
class Summary:
    """The stages and outputs that a kind of summary needs from each run."""

    stages: tuple[str, ...]
    outputs: tuple[Path, ...]


SUMMARIES = {
    "folds": Summary(STAGES_TO_EVALUATE, (TEST_METRICS,)),
    "ensemble": Summary(STAGES_TO_EVALUATE, (TEST_METRICS, PREDICTIONS)),
    "errors": Summary(STAGES_TO_TRAIN, (HISTORY,)),
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
    plan: Plan = {}
    labels: dict[str, str] = {}  # by hash
    with open_hasher(find_revision(WORKSPACE)) as hash_path:
        for run in runs:
            entries = read_entries(SUMMARIES[study.summary].stages, run.params)
            digest = hash_inputs(entries.values(), hash_path)[:7]
            if digest in labels:
                raise PipelineError(
                    f"{study_path(name).as_posix()}: {labels[digest]} and {run.label} are the same"
                    " run: they differ only in values that their stages do not use"
                )
            labels[digest] = run.label
            plan[f"{name}-{run.label}-{digest}"] = run
    return plan


def hash_inputs(entries: Iterable[StageEntry], hash_path: Callable[[str], str | None]) -> str:
    """Return a hash of the values, source files and data that stages use.

    The entries are in the order in which the stages run. `hash_path` returns a hash of a file or
    folder that is no source file; None if the path is missing.

    Raises:
        PipelineError: a path is missing.
    """
    described: list[Any] = []
    outputs: set[str] = set()
    for entry in entries:
        data = {path: hash_path(path) for path in entry.data if path not in outputs}
        for path, digest in data.items():
            if digest is None:
                raise PipelineError(
                    f"{path}: not found; if DVC tracks this file, run `dvc checkout` or `dvc pull`"
                )
        described += [entry.command, entry.values, hash_sources(*entry.sources), data]
        outputs |= set(entry.outputs)
    text = json.dumps(described, default=str)  # YAML has dates, JSON has not
    return hashlib.sha256(text.encode()).hexdigest()


def load_result(revision: Revision, summary: Summary) -> dict[Path, bytes]:
    """Return the contents of the outputs of a finished run.

    Raises:
        PipelineError: the outputs are lost.
    """
    try:
        provenance = read_provenance(revision, summary.stages)
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
    target = () if "evaluate" in summary.stages else summary.stages[-1:]  # (): all stages
    finished = {each.name: each for each in list_experiments()}
    if not plan.keys() <= finished.keys():
        check_git()
    results = []
    for number, (experiment, run) in enumerate(plan.items(), start=1):
        print(f"run {number} of {len(plan)}: {run.label}", end=", ", flush=True)
        if experiment in finished:
            print("done before", flush=True)
        else:
            finished[experiment] = _run_missing(name, plan, experiment, target)
        results.append((run, load_result(finished[experiment], summary)))
    from imgpipe.experiments.study_results import WRITERS  # pandas, matplotlib: 2 s

    return f"{name}: {WRITERS[study.summary](STUDIES / name, results)}"


def _run_missing(name: str, plan: Plan, experiment: str, target: Sequence[str]) -> Revision:
    """Run an experiment, and print its time; check that nothing was edited since the plan."""
    print("running", end=", ", flush=True)
    start_s = time.monotonic()
    try:
        revision = run_experiment(experiment, plan[experiment].overrides, target)
        if read_study(name)[1].keys() != plan.keys():
            raise PipelineError(
                f"{experiment}: parameters, data or code changed while the study was running; run"
                " the study again"
            )
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
