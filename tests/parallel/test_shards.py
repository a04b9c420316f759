import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from functools import partial
from multiprocessing import parent_process
from pathlib import Path

import psutil
import pytest
from support import SRC, wait_until

from imgpipe.core.environment import count_workers
from imgpipe.core.errors import PipelineError
from imgpipe.parallel import processes
from imgpipe.parallel.shards import map_shards
from imgpipe.parallel.task import Task

# pytest-xdist has a thread. A forked process does not need its locks, and starts much faster.
pytestmark = pytest.mark.filterwarnings("ignore:.*use of fork:DeprecationWarning")


@pytest.fixture(autouse=True)
def _fork(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(threading, "active_count", lambda: 1)


def tasks(numbers: Iterable[int], images: int = 1) -> list[Task[int]]:
    return [Task(number, str(number), images) for number in numbers]


def is_marked(task: int) -> bool:
    time.sleep(0.5 if parent_process() is None else 0)  # so that the other process works, too
    return hasattr(processes, "marked")


def square(number: int) -> int:
    return number * number


def process_of(number: int) -> int:
    return os.getpid()


def fail_at_three(number: int) -> int:
    if number == 3:
        raise PipelineError("shard 3 is rotten")
    return number


def fail_here(number: int) -> int:
    if parent_process() is None:
        raise PipelineError("shard 0 is rotten")
    time.sleep(0.3)
    return number


def fail_or_write(folder: Path, number: int) -> None:
    if number == 0:  # the first task that another process takes
        raise PipelineError("a shard is rotten")
    time.sleep(0.2)
    (folder / str(number)).touch()


def die_elsewhere(number: int) -> int:
    if parent_process() is not None:
        os._exit(9)
    return number


@pytest.mark.parametrize("workers", ["1", "2"])
def test_results_are_in_the_order_of_the_tasks(
    monkeypatch: pytest.MonkeyPatch, workers: str
) -> None:
    monkeypatch.setenv("IMGPIPE_WORKERS", workers)
    assert map_shards(square, tasks(range(7)), label="test") == [0, 1, 4, 9, 16, 25, 36]
    assert map_shards(square, tasks([]), label="test") == []


@pytest.mark.parametrize("threads", [1, 2])
def test_a_process_with_threads_does_not_fork(
    monkeypatch: pytest.MonkeyPatch, threads: int
) -> None:
    monkeypatch.setenv("IMGPIPE_WORKERS", "2")
    monkeypatch.setattr(threading, "active_count", lambda: threads)
    monkeypatch.setattr(processes, "marked", True, raising=False)  # a spawned process has no mark
    marks = map_shards(is_marked, tasks(range(4)), label="test")
    assert marks[-1] is True  # in this process
    assert all(marks) is (threads == 1 and sys.platform == "linux")


def test_few_tasks_stay_in_this_process_and_more_go_to_others(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("IMGPIPE_WORKERS", "2")
    assert map_shards(process_of, tasks([0]), label="test") == [os.getpid()]
    found = map_shards(process_of, tasks(range(8)), label="test")
    assert len(set(found)) == 2
    assert os.getpid() in found
    here = [os.getpid()] * 2
    assert map_shards(process_of, tasks([0, 1]), label="test", in_process_up_to=2) == here


@pytest.mark.parametrize("workers", ["1", "2"])
def test_an_error_in_a_worker_is_raised_unchanged(
    monkeypatch: pytest.MonkeyPatch, workers: str
) -> None:
    monkeypatch.setenv("IMGPIPE_WORKERS", workers)
    with pytest.raises(PipelineError, match=r"^shard 3 is rotten$"):
        map_shards(fail_at_three, tasks(range(5)), label="test")


def test_an_error_in_this_process_is_the_only_one_reported(
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
) -> None:
    """The processes that are still at work print nothing."""
    monkeypatch.setenv("IMGPIPE_WORKERS", "3")
    with pytest.raises(PipelineError, match=r"^shard 0 is rotten$"):
        map_shards(fail_here, tasks(range(8)), label="test")
    assert capfd.readouterr().err == ""
    assert caplog.records == []


def test_an_error_cancels_the_other_tasks(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("IMGPIPE_WORKERS", "2")
    with pytest.raises(PipelineError, match=r"^a shard is rotten$"):
        map_shards(partial(fail_or_write, tmp_path), tasks(range(60)), label="test")
    assert len(list(tmp_path.iterdir())) < 55


class Bar:
    """Stands for the progress bar, which shows nothing in a test."""

    def __init__(self) -> None:
        self.updates: list[int] = []

    def update(self, images: int) -> None:
        self.updates.append(images)


@pytest.mark.parametrize("workers", ["1", "2"])
def test_the_bar_advances_with_every_task(monkeypatch: pytest.MonkeyPatch, workers: str) -> None:
    bar = Bar()
    asked = []

    @contextmanager
    def progress_bar(label: str, total: int, unit: str) -> Iterator[Bar]:
        asked.append((label, total, unit))
        yield bar

    monkeypatch.setattr("imgpipe.parallel.shards.ProgressBar", progress_bar)
    monkeypatch.setenv("IMGPIPE_WORKERS", workers)
    map_shards(square, [Task(n, str(n), n * n) for n in range(1, 6)], label="test")
    assert asked == [("test", 55, "image")]
    assert sorted(bar.updates) == [1, 4, 9, 16, 25]


def test_a_worker_that_dies_is_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("IMGPIPE_WORKERS", "3")
    for _ in range(20):  # it dies at different moments
        with pytest.raises(PipelineError, match="test: a worker process died"):
            map_shards(die_elsewhere, tasks(range(40)), label="test")


SLEEPER = """
import time
from imgpipe.parallel.shards import map_shards
from imgpipe.parallel.task import Task
map_shards(time.sleep, [Task(600, "", 1)] * 4, label="test")
"""


def test_the_processes_of_a_killed_process_end() -> None:
    with subprocess.Popen(
        [sys.executable, "-c", SLEEPER],
        env={**os.environ, "PYTHONPATH": str(SRC), "IMGPIPE_WORKERS": "3"},
    ) as process:
        find_children = psutil.Process(process.pid).children
        children = wait_until(lambda: len(find_children()) == 2 and find_children(), pause_s=0.05)
        time.sleep(0.5)  # they have taken tasks
        process.kill()
    wait_until(lambda: not any(child.is_running() for child in children))


@pytest.mark.parametrize("setting", ["0", "-1", "two", "1.5", ""])
def test_the_number_of_workers_is_checked(monkeypatch: pytest.MonkeyPatch, setting: str) -> None:
    monkeypatch.setenv("IMGPIPE_WORKERS", setting)
    with pytest.raises(PipelineError, match="IMGPIPE_WORKERS: expected a whole number"):
        count_workers()


def test_the_number_of_workers_where_processes_have_no_affinity(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv("IMGPIPE_WORKERS", raising=False)
    monkeypatch.delattr(os, "sched_getaffinity", raising=False)
    monkeypatch.setattr(os, "cpu_count", lambda: 7)
    assert count_workers() == 7
