"""Map a function over shards, in this process or in several; the results are the same."""

import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from functools import partial
from itertools import islice
from multiprocessing import get_context
from threading import RLock
from typing import Any, TypeVar

from imgpipe.core.environment import read_whole_number
from imgpipe.core.errors import PipelineError
from imgpipe.core.progress import progress_bar

TaskT = TypeVar("TaskT")
ResultT = TypeVar("ResultT")


def count_workers() -> int:
    """Return how many processes to use: `IMGPIPE_WORKERS`, or the processors this one may use."""
    setting = read_whole_number("IMGPIPE_WORKERS", least=1)
    if setting is not None:
        return setting
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def map_shards(
    function: Callable[[TaskT], ResultT],
    tasks: Sequence[TaskT],
    *,
    label: str,
    count_images: Callable[[TaskT], int],
    in_process_up_to: int = 1,
) -> list[ResultT]:
    """Return `[function(task) for task in tasks]`, computed by up to `count_workers()` processes.

    This process is one of them, so it works while the others start, which takes about a second. Up
    to `in_process_up_to` tasks are done here alone.

    `function` and the tasks must be picklable; `function` is sent once to each process, so what all
    tasks share belongs into it (`functools.partial`).

    Args:
        label: before the progress bar.
        count_images: of a task, by which the bar advances.

    Raises:
        PipelineError: raised by `function`; a worker process died; IMGPIPE_WORKERS is no number.
    """
    others = 0 if len(tasks) <= in_process_up_to else min(count_workers(), len(tasks)) - 1
    with progress_bar(label, sum(map(count_images, tasks)), "image") as bar:
        if others == 0:
            results = []
            for task in tasks:
                results.append(function(task))
                bar.update(count_images(task))
            return results
        # Spawned, not forked: the same on every platform, and safe beside threads.
        with ProcessPoolExecutor(
            others, mp_context=get_context("spawn"), initializer=_keep, initargs=(function,)
        ) as pool:
            try:
                return _share(
                    function, tasks, pool, others, lambda task: bar.update(count_images(task))
                )
            except BrokenProcessPool:
                raise PipelineError(
                    f"{label}: a worker process died, most likely for want of memory;"
                    " set IMGPIPE_WORKERS=1 or lower shard_size_mib"
                ) from None
            finally:
                pool.shutdown(cancel_futures=True)


def _share(
    function: Callable[[TaskT], ResultT],
    tasks: Sequence[TaskT],
    pool: ProcessPoolExecutor,
    others: int,
    on_done: Callable[[TaskT], object],
) -> list[ResultT]:
    """Do the tasks here and in the pool's processes, each taking the next when it is free."""
    waiting: Iterator[tuple[int, TaskT]] = enumerate(tasks)
    results: dict[int, ResultT] = {}
    futures: dict[int, Future[ResultT]] = {}
    lock = RLock()  # over `waiting` and `futures`: the pool's thread calls `done`

    def feed() -> None:
        with lock:
            for number, task in islice(waiting, 1):
                try:
                    futures[number] = pool.submit(_call_kept, task)
                except BrokenProcessPool as error:
                    futures[number] = Future()
                    futures[number].set_exception(error)
                else:
                    futures[number].add_done_callback(partial(done, task))

    def done(task: TaskT, future: Future[ResultT]) -> None:
        if not future.cancelled() and future.exception() is None:
            on_done(task)
            feed()

    try:
        for _ in range(others):
            feed()
        while True:
            with lock:
                number, task = next(waiting, (-1, None))
                for future in futures.values():
                    if future.done():
                        future.result()  # raises what was raised there
            if task is None:
                break
            results[number] = function(task)
            on_done(task)
    except BaseException:
        with lock:
            waiting = iter(())  # nothing more is to be taken
        raise
    # Every task has been taken, so no future is added any more.
    results.update({number: future.result() for number, future in futures.items()})
    return [results[number] for number in range(len(tasks))]


_kept: Callable[..., Any]


def _keep(function: Callable[..., Any]) -> None:
    global _kept
    _kept = function


def _call_kept(task: Any) -> Any:
    return _kept(task)
