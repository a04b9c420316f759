"""The IMGPIPE_* environment variables: settings that change no output, such as worker counts."""

import os

from imgpipe.core.errors import PipelineError


def read_whole_number(variable: str, *, least: int) -> int | None:
    """Return the value of an environment variable, or None if the variable is not set.

    Raises:
        PipelineError: the value is no whole number, or less than `least`.
    """
    setting = os.environ.get(variable)
    if setting is None:
        return None
    if not setting.isdecimal() or int(setting) < least:
        raise PipelineError(
            f"{variable}: expected a whole number of {least} or more; found {setting!r}"
        )
    return int(setting)


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
