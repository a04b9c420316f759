"""Compare one and two workers of a Dask cluster on one machine."""

import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from importlib.util import find_spec
from pathlib import Path

from imgpipe.core.yaml_file import format_yaml, read_yaml
from measuring import (
    HERE,
    ROOT,
    Section,
    at_least,
    compare,
    interleave,
    make_project,
    rate_of,
    wait_for,
)

DATASET = "cats_and_dogs_small"
RECIPE = "cats_vs_dogs"
REPETITIONS_OF_ARCHIVE = 4
GOAL = 0.85


def compare_workers(mirror: Path) -> Section:
    """Measure `preprocess` of photographs with one and with two workers, in images a second."""
    if find_spec("distributed") is None:
        return Section(["Not measured: Dask is not installed."], [])
    with tempfile.TemporaryDirectory() as scratch:
        project = make_project(Path(scratch) / "project", recipe=RECIPE)
        repeat_archive(mirror / DATASET / f"{DATASET}.zip", project)
        measure = partial(rate_of, HERE / "timed.py", "preprocess", cwd=project)

        def measure_on_cluster(workers: int) -> float:
            with start_cluster(Path(scratch) / "cluster", workers) as address:
                measure(DASK_SCHEDULER_ADDRESS=address)  # the workers import the modules
                return measure(DASK_SCHEDULER_ADDRESS=address)

        names = {"1 worker": 1, "2 workers": 2}
        values = interleave(
            {name: partial(measure_on_cluster, count) for name, count in names.items()}
        )
    work = f"`preprocess`, {3000 * REPETITIONS_OF_ARCHIVE:,} photographs, on a Dask cluster"
    shown, ratios = compare(work, "images/s", values)
    what = "efficiency of the second worker of a cluster: images/s of two, against twice one"
    return Section([shown], [at_least(what, GOAL, ratios["2 workers"] / 2)])


def repeat_archive(archive: Path, project: Path) -> None:
    """Let the dataset have its archive several times: the start takes a smaller share of a run."""
    catalog = project / "data" / "catalog.yaml"
    entries = read_yaml(catalog)
    names = [f"{number}.zip" for number in range(REPETITIONS_OF_ARCHIVE)]
    (file,) = entries[DATASET]["files"]
    entries[DATASET]["files"] = [{**file, "name": name} for name in names]
    catalog.write_text(format_yaml(entries))
    (project / "data" / "raw").mkdir()
    for name in names:
        shutil.copy(archive, project / "data" / "raw" / name)


@contextmanager
def start_cluster(folder: Path, workers: int) -> Iterator[str]:
    """Start a scheduler and workers with one thread; yield the address of the scheduler."""
    folder.mkdir()
    file = folder / "scheduler.json"
    processes = []

    def start(command: str, *options: str | Path) -> None:
        module = f"distributed.cli.dask_{command}"
        processes.append(
            subprocess.Popen(
                [sys.executable, "-m", module, "--scheduler-file", file, *options],
                cwd=folder,
                env={**os.environ, "PYTHONPATH": str(ROOT / "src")},
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
            )
        )

    try:
        start("scheduler", "--host", "127.0.0.1", "--port", "0", "--no-dashboard")
        wait_for(file.exists)
        for _ in range(workers):
            start("worker", "--nthreads", "1", "--no-nanny", "--no-dashboard")
        yield json.loads(file.read_text())["address"]
    finally:
        for process in processes:
            process.kill()
            process.wait()
        shutil.rmtree(folder)
