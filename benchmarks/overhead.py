"""What is paid before and beside the work: starting TensorFlow, and asking DVC."""

import resource
import statistics
import subprocess
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from measuring import HERE, REPETITIONS, ROOT, make_project, run_python, table

BARE = "`import tensorflow, keras`, as installed"
FIRST_STEP = "`python src/train.py`, to its first step"
EMPTY = "`dvc repro` of six empty stages, nothing changed"
PIPELINE = "`dvc repro` of this pipeline, nothing changed"


def compare_start() -> str:
    """Return a table: CPU seconds from the command to the first training step."""
    with tempfile.TemporaryDirectory() as scratch:
        project = make_project(Path(scratch) / "project", {})
        for stage in ("fetch", "preprocess", "augment"):
            run_python(ROOT / "src" / f"{stage}.py", cwd=project)
        return _compare(
            "start-up",
            "CPU seconds",
            {
                BARE: lambda: _cpu_seconds("-c", "import tensorflow, keras", cwd=project),
                FIRST_STEP: lambda: _cpu_seconds(HERE / "first_step.py", cwd=project),
            },
        )


def compare_repro() -> str:
    """Return a table: seconds of `dvc repro` where nothing has changed."""
    with tempfile.TemporaryDirectory() as scratch:
        empty, pipeline = Path(scratch) / "empty", Path(scratch) / "pipeline"
        empty.mkdir()
        (empty / "dvc.yaml").write_text((HERE / "opponents" / "empty_stages.yaml").read_text())
        for command in (["git", "init", "--quiet"], ["dvc", "init", "--quiet"]):
            subprocess.run(command, cwd=empty, check=True)
        subprocess.run(["git", "clone", "--quiet", ROOT, pipeline], check=True)
        for folder in (empty, pipeline):
            _repro_seconds(folder)
        return _compare(
            "unchanged",
            "seconds",
            {EMPTY: lambda: _repro_seconds(empty), PIPELINE: lambda: _repro_seconds(pipeline)},
        )


def _cpu_seconds(*arguments: str | Path, cwd: Path) -> float:
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    run_python(*arguments, cwd=cwd)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def _repro_seconds(folder: Path) -> float:
    start = time.perf_counter()
    result = subprocess.run(
        ["dvc", "repro", "--quiet"], cwd=folder, check=False, capture_output=True, text=True
    )
    if result.returncode:
        raise SystemExit(f"dvc repro in {folder.name}: failed\n{result.stderr}")
    return time.perf_counter() - start


def _compare(what: str, unit: str, measures: dict[str, Callable[[], float]]) -> str:
    """Return a table of interleaved measurements; ratios are to the first of them."""
    values: dict[str, list[float]] = {name: [] for name in measures}
    for _ in range(REPETITIONS):
        for name, measure in measures.items():
            values[name].append(measure())
    medians = {name: statistics.median(measured) for name, measured in values.items()}
    first = next(iter(medians.values()))
    return table(
        [what, unit, "ratio"],
        [
            [
                name,
                f"{medians[name]:.2f} ({min(measured):.2f} to {max(measured):.2f})",
                f"{medians[name] / first:.2f}",
            ]
            for name, measured in values.items()
        ],
    )
