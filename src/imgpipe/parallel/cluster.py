"""A function over shards on a Dask cluster.

A cluster is used if Dask's own configuration names a scheduler, by the variable
DASK_SCHEDULER_ADDRESS or in a file. Scheduler and workers need `src` of the project on PYTHONPATH,
the same libraries, and the project's folder at the same path on a shared file system.
"""

import hashlib
import io
import json
import logging
import os
import pickle
import socket
import sys
from collections.abc import Callable, Sequence
from concurrent.futures import CancelledError
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from imgpipe.core.errors import PipelineError
from imgpipe.core.libraries import find_installed
from imgpipe.core.sources import hash_sources
from imgpipe.parallel.task import ContentT, ResultT, Task

RECORD_LIBRARIES = ("numpy", "pillow", "pillow-heif", "google-crc32c")
"""The libraries that decide the bytes of records."""

_CONNECTION_TIMEOUT_S = 10


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


def map_on_cluster(
    function: Callable[[ContentT], ResultT],
    tasks: Sequence[Task[ContentT]],
    address: str,
    *,
    label: str,
    on_finished: Callable[[Task[ContentT]], object],
) -> list[ResultT]:
    """Return `[function(task.content) for task in tasks]`, computed by workers of a Dask cluster.

    If a worker dies, the scheduler gives its tasks to other workers. The arguments are as for
    `map_in_processes`, and the address of the scheduler.

    Raises:
        PipelineError: `function` raised it, or the cluster cannot be used.
    """
    from distributed import as_completed

    with _connect(address) as client:
        # Sent to each worker once; the tasks are small. A task, because Dask computes the result of
        # a task again if all workers that hold the result have died.
        sent = client.submit(bytes, _pickle_absolute(function), pure=False)
        environment = describe_environment()
        futures = [
            client.submit(
                _run_pickled, sent, _pickle_absolute(task.content), environment, pure=False
            )
            for task in tasks
        ]
        number_of = {future.key: number for number, future in enumerate(futures)}
        results: dict[int, ResultT] = {}
        for future in as_completed(futures, loop=client.loop):
            number = number_of[future.key]
            results[number] = _take_result(future, f"{label}: {tasks[number].name}", address)
            on_finished(tasks[number])
        return [results[number] for number in range(len(tasks))]


def _connect(address: str) -> Any:
    """Return a client of the scheduler; use it as a context manager."""
    from distributed import Client

    # It warns if a worker dies that holds a result; the task is then computed again.
    logging.getLogger("distributed.client").setLevel(logging.ERROR)
    try:
        return Client(address, set_as_default=False, timeout=_CONNECTION_TIMEOUT_S)
    except OSError:
        raise PipelineError(
            f"no Dask scheduler answers at {address} within {_CONNECTION_TIMEOUT_S} s; start one"
            " (`dask scheduler`), or unset DASK_SCHEDULER_ADDRESS"
        ) from None


def _take_result(future: Any, name: str, address: str) -> Any:
    """Return the result of the task `name` from the scheduler at an address."""
    from distributed import KilledWorker
    from distributed.comm import CommClosedError

    try:
        result, problem = future.result()
    except KilledWorker as error:
        raise PipelineError(
            f"{name}: each of the {error.allowed_failures + 1} workers that had this shard died,"
            " probably because memory was short; give the workers more memory, or lower"
            " shard_size_mib"
        ) from None
    except (ImportError, RuntimeError) as error:
        if isinstance(error, RuntimeError) and "deserialization" not in str(error):
            raise
        raise PipelineError(
            f"the Dask scheduler at {address}, or a worker, cannot import imgpipe; start all of"
            " them again with src of the project on PYTHONPATH"
        ) from None
    except (CancelledError, CommClosedError):
        raise PipelineError(
            f"{name}: the Dask scheduler at {address} stopped, or does not answer; start the"
            " cluster and run the stage again"
        ) from None
    if problem is not None:
        # Absolute paths are for the workers only.
        raise PipelineError(problem.replace(f"{Path.cwd().as_posix()}/", ""))
    return result


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
