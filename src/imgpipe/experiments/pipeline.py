"""Run the pipeline by DVC, also as an experiment; link its outputs to DVC's cache; report."""

import csv
import json
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import IO, Any

from imgpipe.console.messages import format_bytes, format_count, report
from imgpipe.core.errors import PipelineError
from imgpipe.core.files import read_json
from imgpipe.core.paths import (
    AUGMENTED,
    CLASS_SCORES,
    LABEL_ISSUES,
    PLOTS,
    RAW,
    RECORDS,
    REPORT,
    TEST_METRICS,
)
from imgpipe.evaluation.label_issues import read_label_issues
from imgpipe.experiments.provenance import (
    Revision,
    find_environment,
    find_revision,
    run_git,
)
from imgpipe.records.info import read_info
from imgpipe.settings.params import Params

START_S = 30.0
"""Time of a run without images: mostly for the libraries to start."""
IMAGE_S = 0.015
"""Time for each image of 224 x 224 pixels, all stages together, on two cores without GPU."""
CACHE_FACTOR = 2
"""Copies of an output on the disk until the outputs share the disk with DVC's cache."""

_LOGS = Path(".dvc/tmp/studies")


def run_pipeline() -> None:
    """Run the stages whose inputs have changed.

    Raises:
        PipelineError: a stage failed, or Ctrl-C stopped the run; the line says how to resume.
    """
    try:
        status = run_dvc("repro")
    except KeyboardInterrupt:
        raise PipelineError("interrupted; to resume the run: make run") from None
    if status:
        raise PipelineError(
            "`dvc repro` failed; the lines above say why; to resume the run after that: make run"
        )


def run_dvc(*arguments: str, output: IO[Any] | None = None) -> int:
    """Run DVC and return its exit status; after Ctrl-C, wait until DVC has cleaned up.

    The file `output` gets what DVC and the stages print; by default they print as usual.
    """
    # The stages call `python`: PATH begins with the folder of this process's Python.
    search = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])
    process = subprocess.Popen(
        [sys.executable, "-m", "dvc", *arguments],
        stdout=output,
        stderr=None if output is None else subprocess.STDOUT,
        env={**find_environment(), "PATH": search},
    )
    try:
        return process.wait()
    except KeyboardInterrupt:
        process.wait()
        raise


def check_git() -> None:
    """Check that DVC can save an experiment with the source files of the workspace in git.

    Raises:
        PipelineError: git has no name of the user, or does not track a file.
    """
    try:
        for who in ("GIT_AUTHOR_IDENT", "GIT_COMMITTER_IDENT"):
            run_git("-c", "user.useConfigOnly=true", "var", who)
    except PipelineError:
        raise PipelineError(
            "git: user.name and user.email are not set, and `dvc exp run` needs them;"
            " `git config user.name NAME` and `git config user.email ADDRESS` set them"
        ) from None
    if untracked := run_git("ls-files", "--others", "--exclude-standard", "--", "src"):
        raise PipelineError(
            f"{untracked.splitlines()[0]}: git does not track this file, so experiments would run"
            " without it; `git add` it first, or delete it"
        )


def run_experiment(
    experiment: str, overrides: Mapping[str, Any], target: Sequence[str]
) -> Revision:
    """Run the target stages, or the whole pipeline if there are none, as an experiment.

    If DVC's run cache has the results of a stage, from any other run, DVC restores the results.

    Raises:
        PipelineError: the run failed.
    """
    command = ["exp", "run", "--temp", f"--name={experiment}"]
    for key, value in overrides.items():
        # JSON and DVC's grammar agree for all values that params.yaml allows.
        command += ["--set-param", f"{key}={json.dumps(value)}"]
    log = _LOGS / f"{experiment}.log"
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("wb") as stream:
        status = run_dvc(*command, *target, output=stream)
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


def share_outputs() -> None:
    """Link the files of output folders to DVC's cache, so that they take no disk twice.

    With `cache.type` "reflink,hardlink,...", DVC links outputs that are files. It assumes that
    files in an output folder are reflinks, also on a disk without reflinks, and leaves copies.
    Only `dvc checkout --relink` replaces these copies.

    The linked files are read-only. Stages never write into existing files: they write new files and
    rename them. If the process is killed here, files may be missing; `dvc repro` restores them.
    """
    folders = [folder.as_posix() for folder in (RAW, RECORDS, AUGMENTED) if _has_copies(folder)]
    if folders and run_dvc("checkout", "--quiet", "--relink", *folders):
        report(
            "warning: `dvc checkout --relink` failed: outputs may take twice their disk, or may be"
            " missing; if so, `dvc repro` restores them",
            stream=sys.stderr,
        )


def describe_cost(images: int, size_bytes: int, params: Params) -> str:
    """Return a line with the estimated time and disk of a run on a person's photographs."""
    minutes = max(1, round((START_S + images * IMAGE_S) / 60))
    settings = params.preprocess
    image_bytes = settings.height_px * settings.width_px * settings.channels
    train_frac = (1 - settings.test_frac) * (1 - settings.validation_frac)
    stored_images = images * (1 + params.augment.copies * train_frac)
    disk_bytes = CACHE_FACTOR * (size_bytes + stored_images * image_bytes)
    return (
        f"estimate: {minutes} min on two cores without GPU; {format_bytes(disk_bytes)} of disk"
        " during the run"
    )


def describe_result() -> Iterator[str]:
    """Yield the lines that report the result of the last run.

    Raises:
        PipelineError: an output of the run is missing.
    """
    scores = read_json(TEST_METRICS)
    images = scores["images"]
    yield (
        f"{read_info(RECORDS).dataset}: test accuracy {scores['accuracy']:.4f} (95 % interval"
        f" {scores['accuracy_low']:.4f} to {scores['accuracy_high']:.4f},"
        f" {format_count(images, 'image')})"
    )
    with CLASS_SCORES.open(encoding="utf-8", newline="") as stream:
        worst = min(csv.DictReader(stream), key=lambda row: float(row["recall"]))
    yield (
        f"worst class: {worst['class']}, recall {float(worst['recall']):.4f},"
        f" {format_count(int(worst['images']), 'image')}"
    )
    mistakes = images - round(images * scores["accuracy"])
    suspects = len(read_label_issues(LABEL_ISSUES))
    yield (
        f"mistakes: {mistakes:,} of {format_count(images, 'image')}; suspected labels: {suspects:,}"
    )
    yield f"model card: {REPORT.as_posix()}; pictures: {PLOTS.as_posix()}"


def _has_copies(folder: Path) -> bool:
    """Return whether a folder contains a file that is a copy: no hard link and no symbolic link."""
    files = [path for path in folder.rglob("*") if path.is_file() and not path.is_symlink()]
    stats = [path.stat() for path in files]
    return any(stat.st_nlink == 1 and stat.st_size > 0 for stat in stats)
