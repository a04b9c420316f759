import os
import time
from multiprocessing import parent_process

import pytest

from imgpipe.core.errors import PipelineError
from imgpipe.parallel import count_workers, map_shards


def one(task: int) -> int:
    return 1


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


def die_elsewhere(number: int) -> int:
    if parent_process() is not None:
        os._exit(9)
    return number


@pytest.mark.parametrize("workers", ["1", "2"])
def test_results_keep_the_order_of_the_tasks(monkeypatch: pytest.MonkeyPatch, workers: str) -> None:
    monkeypatch.setenv("IMGPIPE_WORKERS", workers)
    assert map_shards(square, range(7), label="test", count_images=one) == [0, 1, 4, 9, 16, 25, 36]
    assert map_shards(square, [], label="test", count_images=one) == []


def test_few_tasks_stay_in_this_process_and_more_go_to_others(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("IMGPIPE_WORKERS", "2")
    assert map_shards(process_of, [0], label="test", count_images=one) == [os.getpid()]
    processes = map_shards(process_of, range(8), label="test", count_images=one)
    assert len(set(processes)) == 2
    assert os.getpid() in processes
    here = [os.getpid()] * 2
    assert (
        map_shards(process_of, [0, 1], label="test", count_images=one, in_process_up_to=2) == here
    )


@pytest.mark.parametrize("workers", ["1", "2"])
def test_an_error_in_a_worker_arrives_as_it_is(
    monkeypatch: pytest.MonkeyPatch, workers: str
) -> None:
    monkeypatch.setenv("IMGPIPE_WORKERS", workers)
    with pytest.raises(PipelineError, match=r"^shard 3 is rotten$"):
        map_shards(fail_at_three, range(5), label="test", count_images=one)


def test_an_error_in_this_process_arrives_alone(
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Nothing is heard of the processes that are still at work."""
    monkeypatch.setenv("IMGPIPE_WORKERS", "3")
    with pytest.raises(PipelineError, match=r"^shard 0 is rotten$"):
        map_shards(fail_here, range(8), label="test", count_images=one)
    assert capfd.readouterr().err == ""
    assert caplog.records == []


def test_a_worker_that_dies_is_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("IMGPIPE_WORKERS", "2")
    with pytest.raises(PipelineError, match="test: a worker process died"):
        map_shards(die_elsewhere, range(4), label="test", count_images=one)


@pytest.mark.parametrize("setting", ["0", "-1", "two", "1.5", ""])
def test_the_number_of_workers_is_checked(monkeypatch: pytest.MonkeyPatch, setting: str) -> None:
    monkeypatch.setenv("IMGPIPE_WORKERS", setting)
    with pytest.raises(PipelineError, match="IMGPIPE_WORKERS: expected a whole number"):
        count_workers()
