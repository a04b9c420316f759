"""Map a function over shards, in this process or in several; the results are the same."""

import os
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from multiprocessing import get_context
from typing import Any, TypeVar

from tqdm import tqdm

from imgpipe.errors import PipelineError

TaskT = TypeVar("TaskT")
ResultT = TypeVar("ResultT")


def count_workers() -> int:
    """Return how many processes to use: `IMGPIPE_WORKERS`, or the processors this one may use."""
    setting = os.environ.get("IMGPIPE_WORKERS")
    if setting is None:
        return (
            len(os.sched_getaffinity(0))
            if hasattr(os, "sched_getaffinity")
            else os.cpu_count() or 1
        )
    if not setting.isdecimal() or int(setting) < 1:
        raise PipelineError(
            f"IMGPIPE_WORKERS: expected a whole number of 1 or more; found {setting!r}"
        )
    return int(setting)


def map_shards(
    function: Callable[[TaskT], ResultT],
    tasks: Sequence[TaskT],
    *,
    label: str,
    in_process_up_to: int = 1,
) -> list[ResultT]:
    """Return `[function(task) for task in tasks]`, computed by up to `count_workers()` processes.

    Up to `in_process_up_to` tasks are done in this process: starting others takes about a second.

    `function` and the tasks must be picklable; `function` is sent once to each process, so what all
    tasks share belongs into it (`functools.partial`). A progress bar shows on a terminal.

    Raises:
        PipelineError: raised by `function`; a worker process died; IMGPIPE_WORKERS is no number.
    """
    workers = 1 if len(tasks) <= in_process_up_to else min(count_workers(), len(tasks))
    bar = tqdm(total=len(tasks), desc=label, unit="shard", leave=False, disable=None)
    results = []
    with bar:
        if workers <= 1:
            for task in tasks:
                results.append(function(task))
                bar.update()
            return results
        # Spawned, not forked: the same on every platform, and safe beside threads.
        with ProcessPoolExecutor(
            workers, mp_context=get_context("spawn"), initializer=_keep, initargs=(function,)
        ) as pool:
            try:
                for result in pool.map(_call_kept, tasks):
                    results.append(result)
                    bar.update()
            except BrokenProcessPool:
                raise PipelineError(
                    f"{label}: a worker process died, most likely for want of memory;"
                    " set IMGPIPE_WORKERS=1 or lower shard_size_mib"
                ) from None
    return results


_kept: Callable[..., Any]


def _keep(function: Callable[..., Any]) -> None:
    global _kept
    _kept = function


def _call_kept(task: Any) -> Any:
    return _kept(task)
