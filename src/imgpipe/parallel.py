"""Map a function over shards: in this process, in several, or on a Dask cluster.

The results are the same. A cluster is used if Dask's own configuration names a scheduler, by the
variable DASK_SCHEDULER_ADDRESS or in a file. Scheduler and workers need `src` of the project on
PYTHONPATH, the same libraries, and the project's folder at the same path on a shared file system.
"""

import hashlib
import io
import json
import logging
import os
import pickle
import socket
import sys
import threading
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import CancelledError, Future, ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from contextlib import suppress
from functools import cache, partial
from importlib.util import find_spec
from multiprocessing import get_context, parent_process
from pathlib import Path
from typing import Any, Generic, Literal, TypeVar

from imgpipe.console.progress import progress_bar
from imgpipe.core.environment import read_whole_number
from imgpipe.core.errors import PipelineError
from imgpipe.core.libraries import find_installed
from imgpipe.core.sources import hash_sources

TaskT = TypeVar("TaskT")
ResultT = TypeVar("ResultT")

_CONNECTION_TIMEOUT_S = 10
_TASKS_OF_A_PROCESS = 2  # one that it works on, and the next one
RECORD_LIBRARIES = ("numpy", "pillow", "pillow-heif", "google-crc32c")
"""The libraries that decide the bytes of records."""


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
    name_shard: Callable[[TaskT], str] = str,
    unit: str = "image",
    in_process_up_to: int = 1,
) -> list[ResultT]:
    """Return `[function(task) for task in tasks]`, computed by processes or on a Dask cluster.

    Without a cluster, up to `count_workers()` processes work. This process is one of them: it takes
    tasks from the end of the list, and a process pool takes tasks from its beginning. So this
    process works while the others start. With a pool of one process more instead, `preprocess` of
    3,000 photographs takes 9 % more processor time.

    `function` and the tasks must be picklable. `function` is sent once to each process, so data
    that all tasks share belong to `function` (`functools.partial`).

    Args:
        function: the work on one task.
        tasks: one task for each shard.
        label: the text before the progress bar.
        count_images: the number of images of a task, by which the bar advances.
        name_shard: the name of the shard of a task, for errors.
        unit: what `count_images` counts, if it is not images.
        in_process_up_to: up to this number of tasks, no other process is started.

    Raises:
        PipelineError: `function` raised it, a worker died, `IMGPIPE_WORKERS` is not a whole number,
            or the cluster cannot be used. The other tasks are canceled.
    """
    if address := find_scheduler():
        with progress_bar(label, sum(map(count_images, tasks)), unit) as bar:
            return _map_on_cluster(
                function,
                tasks,
                address,
                name=lambda task: f"{label}: {name_shard(task)}",
                on_finished=lambda task: bar.update(count_images(task)),
            )
    others = 0 if len(tasks) <= in_process_up_to else min(count_workers(), len(tasks)) - 1
    with progress_bar(label, sum(map(count_images, tasks)), unit) as bar:

        def run_here(task: TaskT) -> ResultT:
            result = function(task)
            bar.update(count_images(task))
            return result

        if others == 0:
            return [run_here(task) for task in tasks]

        with ProcessPoolExecutor(
            others,
            mp_context=get_context(_choose_start_method()),
            initializer=_store,
            initargs=(pickle.dumps(function),),
        ) as pool:
            queue = _Queue(pool, tasks, lambda task: bar.update(count_images(task)))
            try:
                for _ in range(_TASKS_OF_A_PROCESS * others):
                    queue.submit_next()
                computed_here: dict[int, ResultT] = {}
                while (number := queue.take_last()) is not None:
                    computed_here[number] = run_here(tasks[number])
                    queue.raise_first_error()
                for future in as_completed(queue.futures.values()):
                    future.result()
                return [
                    computed_here[number]
                    if number in computed_here
                    else queue.futures[number].result()
                    for number in range(len(tasks))
                ]
            except BrokenProcessPool:
                raise PipelineError(
                    f"{label}: a worker process died, probably because memory was short;"
                    " set IMGPIPE_WORKERS=1 or lower shard_size_mib"
                ) from None
            finally:
                queue.close()
                pool.shutdown(cancel_futures=True)


class _Queue(Generic[TaskT]):
    """Tasks that no process has taken yet: a pool takes the first one, this process the last one.

    A pool gets few tasks at a time, and the next one if one is finished. It does not get all tasks,
    because this process would have to cancel the tasks that it takes: in Python 3.11, a pool with a
    canceled task waits forever if a process dies.
    """

    def __init__(
        self,
        pool: ProcessPoolExecutor,
        tasks: Sequence[TaskT],
        on_finished: Callable[[TaskT], object],
    ) -> None:
        self._pool, self._tasks, self._on_finished = pool, tasks, on_finished
        self._waiting = deque(range(len(tasks)))
        self._lock = threading.RLock()  # a callback may run inside of `submit_next`
        self.futures: dict[int, Future[Any]] = {}

    def submit_next(self) -> None:
        """Give the first task to the pool, if there is one, and the pool works."""
        with self._lock, suppress(BrokenProcessPool):
            if self._waiting:
                number = self._waiting[0]
                future = self._pool.submit(_call_stored, self._tasks[number])
                self._waiting.popleft()
                self.futures[number] = future
                future.add_done_callback(partial(self._finish, self._tasks[number]))

    def _finish(self, task: TaskT, future: Future[Any]) -> None:
        if not future.cancelled() and future.exception() is None:
            self._on_finished(task)
            self.submit_next()

    def take_last(self) -> int | None:
        """Return the number of the last task, which the caller does; None if none is left."""
        with self._lock:
            return self._waiting.pop() if self._waiting else None

    def raise_first_error(self) -> None:
        """Raise the exception of the first task that failed in another process, if any."""
        for _, future in sorted(self.futures.copy().items()):
            if future.done() and not future.cancelled():
                future.result()

    def close(self) -> None:
        """Give no more tasks to the pool."""
        with self._lock:
            self._waiting.clear()


def _choose_start_method() -> Literal["fork", "spawn"]:
    """Return how other processes start.

    A spawned process imports all modules again, which takes 0.5 s of processor time. A forked one
    does not, but it would wait forever for a lock that another thread held at that moment.
    """
    can_fork = sys.platform == "linux" and threading.active_count() == 1
    return "fork" if can_fork else "spawn"


_function: Callable[..., Any]
"""In a worker process: the function of `map_shards`."""


def _store(pickled: bytes) -> None:
    """Keep the function; a copy by pickle, so that each process opens its files itself."""
    global _function
    threading.Thread(target=_exit_with_parent, daemon=True).start()
    _function = pickle.loads(pickled)


def _exit_with_parent() -> None:
    """End this process if its parent is killed; a forked process would wait for tasks forever."""
    parent = parent_process()
    assert parent is not None
    parent.join()
    os._exit(1)


def _call_stored(task: Any) -> Any:
    return _function(task)


def find_scheduler() -> str | None:
    """Return the address of the scheduler that Dask's configuration names, or None.

    Raises:
        PipelineError: a scheduler is named, but Dask is not installed.
    """
    if find_spec("distributed") is None:
        if os.environ.get("DASK_SCHEDULER_ADDRESS"):
            raise PipelineError(
                "DASK_SCHEDULER_ADDRESS is set, but Dask is not installed; run"
                " `pip install --require-hashes -r requirements-dask.txt`, or unset the variable"
            )
        return None
    import dask.config

    address: str | None = dask.config.get("scheduler-address", None)
    return address


def _map_on_cluster(
    function: Callable[[TaskT], ResultT],
    tasks: Sequence[TaskT],
    address: str,
    *,
    name: Callable[[TaskT], str],
    on_finished: Callable[[TaskT], object],
) -> list[ResultT]:
    """Return `[function(task) for task in tasks]`, computed by the workers of a Dask cluster.

    If a worker dies, the scheduler gives its tasks to other workers.

    Args:
        function: the work on one task.
        tasks: one task for each shard.
        address: the address of the scheduler.
        name: a label and the name of the shard of a task, for errors.
        on_finished: called with each task that is finished.
    """
    from distributed import Client, KilledWorker, as_completed

    # It warns if a worker dies that holds a result; the task is then computed again.
    logging.getLogger("distributed.client").setLevel(logging.ERROR)
    environment = describe_environment()
    try:
        client = Client(address, set_as_default=False, timeout=_CONNECTION_TIMEOUT_S)
    except OSError:
        raise PipelineError(
            f"no Dask scheduler answers at {address} within {_CONNECTION_TIMEOUT_S} s; start one"
            " (`dask scheduler`), or unset DASK_SCHEDULER_ADDRESS"
        ) from None
    with client:
        # Sent to each worker once; the tasks are small. A task, because Dask computes the result of
        # a task again if all workers that hold the result have died.
        sent = client.submit(bytes, _pickle_absolute(function), pure=False)
        futures = [
            client.submit(_run_pickled, sent, _pickle_absolute(task), environment, pure=False)
            for task in tasks
        ]
        number_of = {future.key: number for number, future in enumerate(futures)}
        results: dict[int, ResultT] = {}
        for future in as_completed(futures, loop=client.loop):
            number = number_of[future.key]
            try:
                result, problem = future.result()
            except KilledWorker as error:
                raise PipelineError(
                    f"{name(tasks[number])}: each of the {error.allowed_failures + 1} workers that"
                    " had this shard died, probably because memory was short; give the workers"
                    " more memory, or lower shard_size_mib"
                ) from None
            except (ImportError, RuntimeError) as error:
                if isinstance(error, RuntimeError) and "deserialization" not in str(error):
                    raise
                raise PipelineError(
                    f"the Dask scheduler at {address}, or a worker, cannot import imgpipe; start"
                    " all of them again with src of the project on PYTHONPATH"
                ) from None
            except CancelledError:
                raise PipelineError(
                    f"{name(tasks[number])}: the Dask scheduler at {address} stopped, or does not"
                    " answer; start the cluster and run the stage again"
                ) from None
            if problem is not None:
                # Absolute paths are for the workers only.
                raise PipelineError(problem.replace(f"{Path.cwd().as_posix()}/", ""))
            results[number] = result
            on_finished(tasks[number])
        return [results[number] for number in range(len(tasks))]


@cache
def describe_environment() -> dict[str, str]:
    """Return what must be equal in all processes: a hash of the code, versions of libraries.

    A worker computes it once, because its modules stay as they are if the files change later.
    """
    sources = json.dumps(hash_sources(), sort_keys=True).encode()
    installed = find_installed(RECORD_LIBRARIES)
    return {
        "the code in src": hashlib.sha256(sources).hexdigest()[:12],
        "Python": f"{sys.version_info[0]}.{sys.version_info[1]}",
        **{library: str(found) for library, found in installed.items()},
    }


class _AbsolutePickler(pickle.Pickler):
    """Makes paths absolute, because a worker may have another working directory."""

    def reducer_override(self, obj: Any) -> Any:
        if isinstance(obj, Path):
            return Path, (os.path.abspath(obj),)
        return NotImplemented


def _pickle_absolute(value: Any) -> bytes:
    stream = io.BytesIO()
    _AbsolutePickler(stream).dump(value)
    return stream.getvalue()


def _run_pickled(
    function: bytes, task: bytes, environment: dict[str, str]
) -> tuple[Any, str | None]:
    """In a worker of the cluster: run one task; return its result and None, or None and an error.

    An error that a person can act on is returned, because Dask prints a traceback of an exception.
    """
    here = describe_environment()
    for name, expected in environment.items():
        if here[name] != expected:
            return None, (
                f"Dask worker on {socket.gethostname()}: expected {name} {expected}; found"
                f" {here[name]}; start the workers again, with the same libraries, and with src of"
                " the same commit on PYTHONPATH"
            )
    try:
        return pickle.loads(function)(pickle.loads(task)), None
    except PipelineError as error:
        return None, str(error)
