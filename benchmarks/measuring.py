"""Helpers of the benchmarks: a project to run stages in, time and memory of processes, tables."""

import math
import os
import platform
import resource
import shutil
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import distributions, version
from pathlib import Path
from typing import Any, NamedTuple

from imgpipe.core.yaml_file import format_yaml
from imgpipe.experiments.recipes import DEFAULTS, load_recipe

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent
REPETITIONS = 3
# The flag of Linux, widest first, and its name.
INSTRUCTION_SETS = {"avx512f": "AVX-512", "avx2": "AVX2", "avx": "AVX", "sse4_2": "SSE4.2"}


@dataclass(frozen=True)
class Target:
    """A goal, and the measured value."""

    what: str
    goal: str
    reached: str
    is_met: bool


@dataclass(frozen=True)
class Section:
    """The measurements of one subject."""

    tables: list[str]
    targets: list[Target]


def combine(sections: Sequence[Section]) -> Section:
    """Return one section of several."""
    return Section(
        [table for section in sections for table in section.tables],
        [target for section in sections for target in section.targets],
    )


def at_least(what: str, goal: float, reached: float) -> Target:
    """Return a target for a ratio that should be large; it is shown rounded down."""
    return Target(what, f"≥ {goal:g}", f"{math.floor(100 * reached) / 100:.2f}", reached >= goal)


def at_most(what: str, goal: float, reached: float) -> Target:
    """Return a target for a ratio that should be small; it is shown rounded up."""
    return Target(what, f"≤ {goal:g}", f"{math.ceil(100 * reached) / 100:.2f}", reached <= goal)


def make_project(
    folder: Path, *, recipe: str = DEFAULTS, changes: Mapping[str, Any] | None = None
) -> Path:
    """Make a folder to run stages in, with the parameters that `write_params` writes."""
    (folder / "data").mkdir(parents=True)
    shutil.copy(ROOT / "data" / "catalog.yaml", folder / "data")
    for name in ("pyproject.toml", "dvc.yaml"):
        shutil.copy(ROOT / name, folder)
    write_params(folder, recipe=recipe, changes=changes)
    return folder


def write_params(
    project: Path, *, recipe: str = DEFAULTS, changes: Mapping[str, Any] | None = None
) -> None:
    """Write the params.yaml of a project.

    Args:
        project: its folder.
        recipe: the recipe with the values.
        changes: other values, by dotted key.
    """
    values = load_values(recipe, changes or {})
    (project / "params.yaml").write_text(format_yaml(values))


def load_values(recipe: str, changes: Mapping[str, Any]) -> dict[str, Any]:
    """Return the values of a recipe, some of them changed.

    Raises:
        KeyError: a dotted key of `changes` is none of params.yaml.
    """
    values = load_recipe(recipe, ROOT / "recipes")
    for key, value in changes.items():
        section = values
        *path, name = key.split(".")
        for part in path:
            section = section[part]
        if name not in section:
            raise KeyError(key)
        section[name] = value
    return values


def wait_for(what: Callable[[], object]) -> None:
    """Wait until a function returns a true value."""
    while not what():
        time.sleep(0.05)


def run_python(*arguments: str | Path, cwd: Path, workers: int = 2, **environment: str) -> str:
    """Run a Python script with this number of worker processes; return its output."""
    result = subprocess.run(
        [sys.executable, *arguments],
        cwd=cwd,
        env={
            **os.environ,
            "IMGPIPE_WORKERS": str(workers),
            "CUDA_VISIBLE_DEVICES": "-1",
            **environment,
        },
        check=False,
        capture_output=True,
        text=True,
    )
    if result.returncode:
        raise SystemExit(f"{' '.join(map(str, arguments))}: failed\n{result.stderr}")
    return result.stdout


def run_stages(project: Path, *stages: str) -> None:
    """Run stages of the project's copy, one after another."""
    for stage in stages:
        run_python(ROOT / "src" / f"{stage}.py", cwd=project)


def work_of(
    *arguments: str | Path, cwd: Path, workers: int = 2, **environment: str
) -> tuple[int, float]:
    """Return the images and seconds that a script prints in its last line."""
    output = run_python(*arguments, cwd=cwd, workers=workers, **environment)
    images, seconds = output.splitlines()[-1].split()
    return int(images), float(seconds)


def rate_of(*arguments: str | Path, cwd: Path, workers: int = 2, **environment: str) -> float:
    """Return the images per second of a script that `work_of` can run."""
    images, seconds = work_of(*arguments, cwd=cwd, workers=workers, **environment)
    return images / seconds


def seconds_of(*arguments: str | Path, cwd: Path) -> float:
    """Return the seconds from the start to the end of a Python script."""
    start = time.perf_counter()
    run_python(*arguments, cwd=cwd)
    return time.perf_counter() - start


def cpu_seconds_of(run: Callable[[], object]) -> float:
    """Return the CPU time, user and system, of the processes that a function starts and ends."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    run()
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def peak_mib_of(*arguments: str | Path, cwd: Path) -> tuple[float, float]:
    """Return the peak resident memory of a Python script: of its largest process, and of all.

    The second value is the largest sum, read every 20 ms; it counts shared pages in each process.
    """
    process = subprocess.Popen(
        [sys.executable, *arguments],
        cwd=cwd,
        env={**os.environ, "IMGPIPE_WORKERS": "2"},
        stdout=subprocess.DEVNULL,
        start_new_session=True,
    )
    largest, together = 0.0, 0.0
    while process.poll() is None:
        sizes = [size for size in map(_resident_mib, session_of(process.pid)) if size]
        largest, together = max(largest, *sizes, 0), max(together, sum(sizes))
        time.sleep(0.02)
    if process.returncode:
        raise SystemExit(f"{arguments}: failed")
    return largest, together


def session_of(leader: int) -> Iterable[int]:
    for entry in Path("/proc").iterdir():
        if entry.name.isdecimal():
            try:
                fields = (entry / "stat").read_text().rpartition(")")[2].split()
            except OSError:  # it has ended
                continue
            if int(fields[3]) == leader:
                yield int(entry.name)


def _resident_mib(pid: int) -> float:
    """Return the most resident memory that a process has had so far."""
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except OSError:
        return 0
    return sum(int(line.split()[1]) for line in lines if line.startswith("VmHWM:")) / 1024


def figure(value: float) -> str:
    """Return a number with two decimals, or with none from 100 on."""
    return f"{value:,.0f}" if value >= 100 else f"{value:.2f}"


def interleave(
    measures: Mapping[str, Callable[[], float]], repetitions: int = REPETITIONS
) -> dict[str, list[float]]:
    """Measure all subjects in turn, several times; return the values of each subject."""
    values: dict[str, list[float]] = {name: [] for name in measures}
    for _ in range(repetitions):
        for name, measure in measures.items():
            values[name].append(measure())
    return values


def compare(
    what: str, unit: str, values: Mapping[str, Sequence[float]]
) -> tuple[str, dict[str, float]]:
    """Return a table of medians with their ranges, and each one's ratio to the first."""
    first = next(iter(values.values()))
    ratios = {name: ratio_of(measured, first) for name, measured in values.items()}
    rows = [
        [name, middle_and_range(measured), f"{ratios[name]:.2f}"]
        for name, measured in values.items()
    ]
    return table([what, unit, "ratio"], rows), ratios


def ratio_of(values: Sequence[float], others: Sequence[float]) -> float:
    """Return the median of the ratios of two values of the same repetition.

    If the speed of the machine changes from minute to minute, both values change alike.
    """
    return statistics.median(value / other for value, other in zip(values, others, strict=True))


def middle_and_range(values: Sequence[float]) -> str:
    """Return the median, with the lowest and the highest."""
    low, high = figure(min(values)), figure(max(values))
    return f"{figure(statistics.median(values))} ({low} to {high})"


def mean_and_sd(values: Sequence[float]) -> str:
    """Return the mean, with the standard deviation."""
    return f"{statistics.mean(values):.4f}, sd {statistics.stdev(values):.4f}"


def table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return a Markdown table."""
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def environment() -> str:
    """Return the kind of machine, and the versions of Python and the main libraries."""
    libraries = ", ".join(
        f"{name} {version(package)}" for name, package in _find_packages().items()
    )
    processors = len(os.sched_getaffinity(0))
    return (
        f"{platform.machine()} with {instruction_set()}, {processors} processors, no GPU used;"
        f" Python {platform.python_version()}, {libraries}"
    )


def _find_packages() -> dict[str, str]:
    """Return the packages of the main libraries: a system has one of TensorFlow's packages."""
    tensorflow = next(
        package for package in ("tensorflow-cpu", "tensorflow") if list(distributions(name=package))
    )
    return {"tensorflow": tensorflow, "keras": "keras", "numpy": "numpy", "pillow": "pillow"}


def instruction_set() -> str:
    """Return the name of the widest vector instructions of this processor.

    Raises:
        SystemExit: the system does not list them, or has none of the names.
    """
    try:
        flags = set(Path("/proc/cpuinfo").read_text(encoding="utf-8").split())
    except OSError:
        flags = set()
    for flag, name in INSTRUCTION_SETS.items():
        if flag in flags:
            return name
    raise SystemExit("error: /proc/cpuinfo: expected avx512f, avx2, avx or sse4_2; found none")


class Usage(NamedTuple):
    """Seconds on a clock, of all processors in use, and of this benchmark with its processes."""

    clock_s: float
    busy_s: float
    own_s: float


def read_usage() -> Usage:
    """Return the use of the processors until now; needs Linux."""
    first, *_ = Path("/proc/stat").read_text(encoding="utf-8").splitlines()
    # user, nice, system, idle, waiting for a disk, two kinds of interrupts, other machines.
    times = [int(number) for number in first.split()[1:9]]
    busy_s = (sum(times) - times[3] - times[4]) / os.sysconf("SC_CLK_TCK")
    own = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return Usage(time.monotonic(), busy_s, sum(usage.ru_utime + usage.ru_stime for usage in own))


def processors_of_others(before: Usage, after: Usage) -> float:
    """Return the mean number of processors that other programs used."""
    others_s = (after.busy_s - before.busy_s) - (after.own_s - before.own_s)
    return max(0.0, others_s / (after.clock_s - before.clock_s))
