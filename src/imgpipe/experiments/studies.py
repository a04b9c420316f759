"""Studies: several runs of the pipeline, as DVC experiments, and one result of all of them.

A study is a file `studies/NAME.yaml`. Its runs are experiments of `dvc exp run --temp`. So the
workspace is not changed, each finished run is in git, and an interrupted study resumes with the
first missing run.

A run exists if an experiment, HEAD or the workspace has the same parameters, data and code.
`dvc.lock` records them for each stage, so the run may also belong to another commit.
"""

import copy
import hashlib
import itertools
import json
import re
import subprocess
import time
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path
from typing import Annotated, Any, Literal, TypeAlias

from pydantic import AfterValidator, Field, StringConstraints, model_validator

from imgpipe.console.messages import format_duration
from imgpipe.core import paths
from imgpipe.core.errors import PipelineError
from imgpipe.core.schema import Section, check, nearest
from imgpipe.core.yaml_file import read_yaml
from imgpipe.evaluation.predictions import parse_predictions
from imgpipe.experiments.pipeline import run_dvc
from imgpipe.experiments.provenance import (
    STAGES_TO_EVALUATE,
    STAGES_TO_TRAIN,
    WORKSPACE,
    find_revision,
    open_output,
    read_provenance,
)
from imgpipe.experiments.run_inputs import (
    Candidate,
    StageInputs,
    list_candidates,
    open_hasher,
    read_candidate,
    read_parameter_file,
    resolve_inputs,
)
from imgpipe.settings.params import PARAMS_FILE, Params, load_params

STUDIES = Path("studies")
_CHANGED = "parameters, data or code changed while the study was running; run the study again"
_PIPELINE = Path("dvc.yaml")
_LOGS = Path(".dvc/tmp/studies")
_SCORES, _PREDICTIONS, _HISTORY = (
    path.as_posix() for path in (paths.TEST_METRICS, paths.PREDICTIONS, paths.HISTORY)
)
_FOLD_KEY, _SEED_KEY = "preprocess.test_fold", "train.seed"

Overrides: TypeAlias = dict[str, Any]
"""Values of params.yaml by dotted key, as `dvc exp run -S` takes them."""


@dataclass(frozen=True)
class Summary:
    """The stages and outputs that a kind of summary needs from each run."""

    stages: tuple[str, ...]
    """The stages that must have run."""
    target: tuple[str, ...]
    """The stage to run; empty for the whole pipeline."""
    outputs: tuple[str, ...]
    """The outputs to read."""


SUMMARIES = {
    "folds": Summary(STAGES_TO_EVALUATE, (), (_SCORES,)),
    "ensemble": Summary(STAGES_TO_EVALUATE, (), (_SCORES, _PREDICTIONS)),
    "errors": Summary(STAGES_TO_TRAIN, ("train",), (_HISTORY,)),
}


def _check_values(values: list[Any]) -> list[Any]:
    if not values or any(value in values[:number] for number, value in enumerate(values)):
        raise ValueError(f"expected one or more values, each once; found {values}")
    return values


GridValues = Annotated[list[Any], AfterValidator(_check_values)]
VariantName = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]*$")]


class Study(Section):
    """`studies/NAME.yaml`: the runs are every variant with every combination of the grid."""

    summary: Literal["folds", "ensemble", "errors"]
    set: Overrides = Field(default_factory=dict)
    """Values for every run."""
    variants: dict[VariantName, Overrides] = Field(default_factory=dict)
    """Values for every run of a variant."""
    grid: dict[str, GridValues] = Field(default_factory=dict)
    """Values for single runs, by key: each combination of values is a run."""

    @model_validator(mode="after")
    def _each_key_in_one_place(self) -> "Study":
        for place, variant in self.variants.items() or [("", {})]:
            keys = [*self.set, *variant, *self.grid]
            if twice := [key for key in keys if keys.count(key) > 1]:
                where = f"variants.{place}: " if twice[0] in variant else ""
                raise ValueError(f"{where}{twice[0]}: expected in one place; found in two")
        return self

    @model_validator(mode="after")
    def _runs_fit_the_summary(self) -> "Study":
        per_variant = len(list(itertools.product(*self.grid.values())))
        if self.summary == "folds" and (list(self.grid) != [_FOLD_KEY] or self.variants):
            raise ValueError(f"summary: folds needs a grid of {_FOLD_KEY} only, and no variants")
        if self.summary == "errors" and (
            list(self.grid) != [_SEED_KEY] or per_variant < 2 or not self.variants
        ):
            raise ValueError(
                f"summary: errors needs variants, and a grid of {_SEED_KEY} only, with two or more"
                " seeds"
            )
        if per_variant * max(1, len(self.variants)) < 2:
            raise ValueError(f"summary: {self.summary} needs two or more runs")
        return self


@dataclass(frozen=True)
class StudyRun:
    """One run of a study."""

    variant: str | None
    values: tuple[Any, ...]
    """The values of the run from the grid."""
    overrides: Overrides
    params: dict[str, Any]
    """The whole of params.yaml with the overrides."""
    label: str
    """Unique in the study, and valid in the name of an experiment."""


@dataclass(frozen=True)
class WantedRun:
    """A run of a study with everything that determines its result."""

    run: StudyRun
    inputs: dict[str, StageInputs]
    """By stage."""
    raw_data: str | None
    """The MD5 of the output of `fetch`; None if it is not known before `fetch` has run."""
    experiment: str
    """The name of its experiment: equal inputs have equal names."""

    def is_made_by(self, candidate: Candidate) -> bool:
        """Return whether a candidate has the same parameters, data and code."""
        recorded = candidate.inputs
        return self.raw_data in (None, candidate.raw_data) and all(
            recorded.get(stage) == inputs for stage, inputs in self.inputs.items()
        )


Results: TypeAlias = list[tuple[StudyRun, dict[str, bytes]]]
"""Each run with the content of the outputs that its summary needs, by path."""


def study_path(name: str) -> Path:
    """Return the file of a study.

    Raises:
        PipelineError: there is no such study.
    """
    path = STUDIES / f"{name}.yaml"
    names = sorted(path.stem for path in STUDIES.glob("*.yaml"))
    if name not in names:
        known = ", ".join(names) or "none; run from the project's top folder"
        raise PipelineError(
            f"{path.as_posix()}: not found{nearest(name, names)}; the studies are: {known}"
        )
    return path


def expand_study(study: Study, where: str, params: Mapping[str, Any]) -> list[StudyRun]:
    """Return the runs of a study, in the order of the file.

    Args:
        study: the study.
        where: the name of its file, for errors.
        params: the whole of params.yaml.

    Raises:
        PipelineError: an unknown key, or a value that params.yaml does not allow.
    """
    runs = []
    variants: list[tuple[str | None, Overrides]] = [*study.variants.items()] or [(None, {})]
    combinations = itertools.product(*study.grid.values())
    for (variant, overrides), values in itertools.product(variants, combinations):
        of_grid = dict(zip(study.grid, values, strict=True))
        overrides = {**study.set, **overrides, **of_grid}
        value = apply_overrides(params, overrides, where)
        label = _label_run(variant, of_grid)
        check(Params, value, f"{where}: run {label}")
        runs.append(StudyRun(variant, values, overrides, value, label))
    return runs


def _label_run(variant: str | None, values: Mapping[str, Any]) -> str:
    parts = [variant] if variant else []
    parts += [f"{key.rpartition('.')[2]}-{value}" for key, value in values.items()]
    return re.sub(r"[^A-Za-z0-9_.+]+", "-", "-".join(parts)).strip("-.")


def apply_overrides(params: Mapping[str, Any], overrides: Overrides, where: str) -> dict[str, Any]:
    """Return a copy of params.yaml with other values.

    Raises:
        PipelineError: params.yaml has no such key.
    """
    result = copy.deepcopy(dict(params))
    known = [key for key, _ in _leaves(result)]
    for key, value in overrides.items():
        if key not in known:
            raise PipelineError(
                f"{where}: {key}: unknown key{nearest(key, known)}; expected a key of"
                f" {PARAMS_FILE.as_posix()}, such as train.seed"
            )
        *sections, last = key.split(".")
        section = result
        for name in sections:
            section = section[name]
        section[last] = value
    return result


def _leaves(values: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in values.items():
        if isinstance(value, dict):
            yield from _leaves(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def plan_runs(name: str, study: Study, runs: Iterable[StudyRun]) -> list[WantedRun]:
    """Return the runs of a study with everything that determines their results.

    Raises:
        PipelineError: two runs have the same inputs.
    """
    pipeline = read_yaml(_PIPELINE)
    stages = SUMMARIES[study.summary].stages
    read_file = cache(read_parameter_file)
    here = read_candidate(find_revision(WORKSPACE))
    plan: dict[str, WantedRun] = {}
    with open_hasher() as hash_file:
        for run in runs:
            inputs = resolve_inputs(stages, pipeline, run.params, read_file, hash_file)
            # If `fetch` is up to date here, an experiment uses its output.
            fetched = here is not None and here.inputs["fetch"] == inputs["fetch"]
            raw_data = here.raw_data if here and fetched else None
            described = [[stage, asdict(each)] for stage, each in inputs.items()]
            digest = hashlib.sha256(json.dumps([described, raw_data]).encode()).hexdigest()[:7]
            if digest in plan:
                raise PipelineError(
                    f"{study_path(name).as_posix()}: {plan[digest].run.label} and {run.label} are"
                    " the same run: they differ only in values that their stages do not use"
                )
            plan[digest] = WantedRun(run, inputs, raw_data, f"{name}-{run.label}-{digest}")
    return list(plan.values())


def load_result(
    wanted: WantedRun, candidates: Iterable[Candidate], summary: Summary
) -> dict[str, bytes] | None:
    """Return the outputs of the first candidate with the same inputs, or None.

    A candidate without its outputs is skipped.

    Raises:
        PipelineError: the experiment with the name of the run has lost its outputs.
    """
    for candidate in candidates:
        if not wanted.is_made_by(candidate):
            continue
        revision = candidate.revision
        try:
            provenance = read_provenance(revision, to_evaluate=not summary.target)
            return {path: open_output(revision, provenance, path) for path in summary.outputs}
        except PipelineError as error:
            # A new run could not be saved: its name is in use.
            if revision.name == wanted.experiment:
                raise PipelineError(
                    f"{error}; or remove the experiment with `dvc exp remove {revision.name}` and"
                    " run the study again"
                ) from None
    return None


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
    candidates = list_candidates()
    found = [load_result(wanted, candidates, summary) for wanted in plan]
    if None in found:
        stages = (inputs for wanted in plan for inputs in wanted.inputs.values())
        check_git(sorted({path for inputs in stages for path in inputs.files}))
    results: Results = []
    for number, (wanted, outputs) in enumerate(zip(plan, found, strict=True), start=1):
        print(f"run {number} of {len(plan)}: {wanted.run.label}", end=", ", flush=True)
        if outputs is None:
            print("running", end=", ", flush=True)
            start_s = time.monotonic()
            try:
                if read_study(name) != (study, plan):
                    raise PipelineError(f"{name}: {_CHANGED}")
                outputs = run_experiment(wanted, summary)
            except BaseException:  # also Ctrl-C; the error starts on a new line
                print("stopped", flush=True)
                raise
            print(f"finished in {format_duration(time.monotonic() - start_s)}", flush=True)
        else:
            print("done before", flush=True)
        results.append((wanted.run, outputs))
    return f"{name}: {write_results(STUDIES / name, study, results)}"


def read_study(name: str) -> tuple[Study, list[WantedRun]]:
    """Read and check a study; return the study and its runs.

    Raises:
        PipelineError: there is no such study, or its file or params.yaml is not valid.
    """
    path = study_path(name)
    study = check(Study, read_yaml(path), path.as_posix())
    params = read_yaml(PARAMS_FILE)
    check(Params, params, PARAMS_FILE.as_posix())
    return study, plan_runs(name, study, expand_study(study, path.as_posix(), params))


def write_results(folder: Path, study: Study, results: Results) -> str:
    """Write the tables, scores and pictures of a study; return its result in one line."""
    dpi = load_params().plot.dpi
    from imgpipe.experiments import study_results as to  # pandas and matplotlib take 2 s

    if study.summary == "folds":
        folds = {
            int(str(run.values[0]).partition("/")[0]): to.parse_scores(outputs[_SCORES])
            for run, outputs in results
        }
        return to.write_folds(folder, folds, dpi)
    if study.summary == "ensemble":
        members = {
            "-".join(map(str, [*filter(None, [run.variant]), *run.values])): (
                to.parse_scores(outputs[_SCORES]),
                parse_predictions(outputs[_PREDICTIONS], f"{run.label}: {_PREDICTIONS}"),
            )
            for run, outputs in results
        }
        settings = results[0][0].params["evaluate"]
        return to.write_ensemble(
            folder, members, top_k=settings["top_k"], bins=settings["calibration_bins"], dpi=dpi
        )
    variants: dict[str, list[Any]] = {}
    for run, outputs in results:
        history = to.parse_history(outputs[_HISTORY])
        variants.setdefault(str(run.variant), []).append(history)
    return to.write_errors(folder, variants, dpi)


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


def run_experiment(wanted: WantedRun, summary: Summary) -> dict[str, bytes]:
    """Run the pipeline as an experiment; return the content of its outputs.

    Raises:
        PipelineError: the run failed, or the project changed during the run.
    """
    # JSON and the grammar of -S agree for all values that params.yaml allows.
    settings = [f"{key}={json.dumps(value)}" for key, value in wanted.run.overrides.items()]
    command = ["exp", "run", "--temp", "--name", wanted.experiment]
    command += [part for setting in settings for part in ("--set-param", setting)]
    log = _LOGS / f"{wanted.experiment}.log"
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("wb") as stream:
        status = run_dvc(*command, *summary.target, output=stream)
    if status:
        raise PipelineError(
            f"{wanted.experiment}: the run failed: {_find_error(log)}; its output is in"
            f" {log.as_posix()}; finished runs are not run again"
        )
    candidate = read_candidate(find_revision(wanted.experiment))
    outputs = load_result(wanted, [candidate] if candidate else [], summary)
    if outputs is None:
        raise PipelineError(f"{wanted.experiment}: {_CHANGED}")
    return outputs


def _find_error(log: Path) -> str:
    """Return the error of the stage that failed, or else of DVC."""
    lines = log.read_text(encoding="utf-8", errors="replace").splitlines()
    for start in ("error: ", "ERROR: "):
        if found := [line for line in lines if line.startswith(start)]:
            return found[-1].removeprefix(start)
    return lines[-1] if lines else "it printed no output"
