"""The time to start TensorFlow, of DVC if nothing changed, and of a whole run."""

import subprocess
import tempfile
import time
from functools import partial
from pathlib import Path

from measuring import (
    HERE,
    ROOT,
    Section,
    at_most,
    compare,
    cpu_seconds_of,
    interleave,
    make_project,
    run_python,
    run_stages,
    seconds_of,
)

IMPORTS = ("-c", "import tensorflow, keras")
BARE = "`import tensorflow, keras`, as installed"
FIRST_STEP = "`python src/train.py`, to its first step"
EMPTY = "`dvc repro` of six empty stages"
PIPELINE = "`dvc repro` of this pipeline"
TWO_IMPORTS = "`import tensorflow, keras`, twice: once for `train`, once for `evaluate`"
RUN = "`make run`, the default dataset"
REPRO_REPETITIONS = 9  # it is short, so its CPU time varies by some per cent


def compare_overhead() -> Section:
    """Measure start-up, a `dvc repro` with nothing to do, and a whole run from empty caches."""
    start, start_ratio = _compare_start()
    repro, repro_ratio = compare_repro()
    run, run_ratio = _compare_run()
    return Section(
        [start, repro, run],
        [
            at_most("start-up to the first step, against bare imports", 0.8, start_ratio),
            at_most("unchanged `dvc repro`, against six empty stages", 1.35, repro_ratio),
            at_most("`make run`, against an import for each TensorFlow stage", 2.5, run_ratio),
        ],
    )


def _compare_start() -> tuple[str, float]:
    with tempfile.TemporaryDirectory() as scratch:
        project = make_project(Path(scratch) / "project")
        run_stages(project, "fetch", "preprocess", "augment")
        values = interleave(
            {
                BARE: partial(_cpu_seconds, *IMPORTS, cwd=project),
                FIRST_STEP: partial(_cpu_seconds, HERE / "first_step.py", cwd=project),
            }
        )
    listing, ratios = compare("start-up", "CPU seconds", values)
    return listing, ratios[FIRST_STEP]


def compare_repro() -> tuple[str, float]:
    """Measure an unchanged `dvc repro`: return a table, and the ratio to six empty stages."""
    with tempfile.TemporaryDirectory() as scratch:
        empty, pipeline = Path(scratch) / "empty", Path(scratch) / "pipeline"
        make_empty_pipeline(empty)
        subprocess.run(["git", "clone", "--quiet", ROOT, pipeline], check=True)
        for folder in (empty, pipeline):
            repro(folder)
        values = interleave(
            {
                EMPTY: partial(repro_cpu_seconds, empty),
                PIPELINE: partial(repro_cpu_seconds, pipeline),
            },
            REPRO_REPETITIONS,
        )
    listing, ratios = compare("nothing changed", "CPU seconds", values)
    return listing, ratios[PIPELINE]


def _compare_run() -> tuple[str, float]:
    with tempfile.TemporaryDirectory() as scratch:
        clones = (Path(scratch) / str(number) for number in range(1_000_000))
        values = interleave(
            {
                TWO_IMPORTS: lambda: 2 * seconds_of(*IMPORTS, cwd=ROOT),
                RUN: lambda: run_seconds(next(clones)),
            }
        )
    listing, ratios = compare("from a finished set-up, empty caches", "seconds", values)
    return listing, ratios[RUN]


def make_empty_pipeline(folder: Path) -> None:
    """Make a repository with the pipeline of empty stages."""
    folder.mkdir()
    (folder / "dvc.yaml").write_text((HERE / "opponents" / "empty_stages.yaml").read_text())
    for command in (["git", "init", "--quiet"], ["dvc", "init", "--quiet"]):
        subprocess.run(command, cwd=folder, check=True)


def repro(folder: Path) -> None:
    """Run `dvc repro`."""
    _command_seconds("dvc", "repro", "--quiet", cwd=folder)


def repro_cpu_seconds(folder: Path) -> float:
    """Return the CPU time of `dvc repro`."""
    return cpu_seconds_of(partial(repro, folder))


def run_seconds(clone: Path) -> float:
    """Return how long `make run` takes in a new clone, with the environment in use."""
    subprocess.run(["git", "clone", "--quiet", ROOT, clone], check=True)
    return _command_seconds("make", "run", "--old-file=setup", cwd=clone)


def _command_seconds(*command: str, cwd: Path) -> float:
    start = time.perf_counter()
    result = subprocess.run(command, cwd=cwd, check=False, capture_output=True, text=True)
    if result.returncode:
        raise SystemExit(f"{' '.join(command)} in {cwd.name}: failed\n{result.stderr}")
    return time.perf_counter() - start


def _cpu_seconds(*arguments: str | Path, cwd: Path) -> float:
    return cpu_seconds_of(partial(run_python, *arguments, cwd=cwd))
