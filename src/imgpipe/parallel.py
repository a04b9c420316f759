"""Map a function over shards, in this process or in several; the results are the same."""

import os
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from functools import partial
from multiprocessing import get_context
from typing import Any, TypeVar

from imgpipe.core.environment import read_whole_number
from imgpipe.core.errors import PipelineError
from imgpipe.core.progress import progress_bar

TaskT = TypeVar("TaskT")
ResultT = TypeVar("ResultT")


def count_workers() -> int:
    """Return how many processes to use: `IMGPIPE_WORKERS`, or the processors this one may use.

    Raises:
        PipelineError: `IMGPIPE_WORKERS` is not a whole number of 1 or more.
    """
    setting = read_whole_number("IMGPIPE_WORKERS", least=1)
    if setting is not None:
        return setting
    # Windows and macOS have no affinity of a process to processors.
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

    This process is one of the workers: it takes tasks from the end of the list, a process pool
    takes tasks from its beginning. So this process works while the others start. With a pool of one
    process more instead, `preprocess` of 3,000 photographs takes 9 % more processor time.

    `function` and the tasks must be picklable. `function` is sent once to each process, so data
    that all tasks share belong to `function` (`functools.partial`).

    Args:
        function: the work on one task.
        tasks: one task for each shard.
        label: the text before the progress bar.
        count_images: the number of images of a task, by which the bar advances.
        in_process_up_to: up to this number of tasks, no other process is started.

    Raises:
        PipelineError: `function` raised it, a worker process died, or `IMGPIPE_WORKERS` is not a
            whole number. The other tasks are canceled.
    """
    others = 0 if len(tasks) <= in_process_up_to else min(count_workers(), len(tasks)) - 1
    with progress_bar(label, sum(map(count_images, tasks)), "image") as bar:

        def run_here(task: TaskT) -> ResultT:
            result = function(task)
            bar.update(count_images(task))
            return result

        if others == 0:
            return [run_here(task) for task in tasks]

        def advance(images: int, future: Future[ResultT]) -> None:
            if not future.cancelled() and future.exception() is None:
                bar.update(images)

        # Spawned, not forked: the same on every platform, and safe beside threads.
        with ProcessPoolExecutor(
            others, mp_context=get_context("spawn"), initializer=_store, initargs=(function,)
        ) as pool:
            try:
                futures: list[Future[ResultT]] = []
                for task in tasks:
                    futures.append(pool.submit(_call_stored, task))
                    futures[-1].add_done_callback(partial(advance, count_images(task)))
                computed_here: dict[int, ResultT] = {}
                for number in reversed(range(len(tasks))):
                    if futures[number].cancel():  # fails if the pool has taken the task
                        computed_here[number] = run_here(tasks[number])
                    _raise_first_error(futures)
                for future in as_completed(set(futures) - {futures[n] for n in computed_here}):
                    future.result()
                return [
                    computed_here[number] if number in computed_here else future.result()
                    for number, future in enumerate(futures)
                ]
            except BrokenProcessPool:
                raise PipelineError(
                    f"{label}: a worker process died, probably because memory was short;"
                    " set IMGPIPE_WORKERS=1 or lower shard_size_mib"
                ) from None
            finally:
                pool.shutdown(cancel_futures=True)


def _raise_first_error(futures: Sequence[Future[Any]]) -> None:
    """Raise the exception of the first task that failed in another process, if any."""
    for future in futures:
        if future.done() and not future.cancelled():
            future.result()


_function: Callable[..., Any]
"""In a worker process: the function of `map_shards`."""


def _store(function: Callable[..., Any]) -> None:
    global _function
    _function = function


def _call_stored(task: Any) -> Any:
    return _function(task)
