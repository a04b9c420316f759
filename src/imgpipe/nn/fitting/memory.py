"""The limit of the memory that the images of a training may take."""

from contextlib import suppress
from pathlib import Path

import psutil

from imgpipe.core.environment import read_whole_number

_CONTAINER_LIMIT_FILE = Path("/sys/fs/cgroup/memory.max")


def fits_in_memory(size_bytes: int) -> bool:
    """Return whether images of this size may be kept in memory.

    Images may take half of the memory of the machine, or of the container if its limit is lower. If
    the environment variable IMGPIPE_MEMORY_MIB is set, images may take that size instead.

    Raises:
        PipelineError: IMGPIPE_MEMORY_MIB is not a whole number.
    """
    limit_mib = read_whole_number("IMGPIPE_MEMORY_MIB", least=0)
    if limit_mib is not None:
        return size_bytes <= limit_mib << 20
    memory_bytes: int = psutil.virtual_memory().total
    with suppress(OSError, ValueError):  # no such file, or "max": no limit
        memory_bytes = min(memory_bytes, int(_CONTAINER_LIMIT_FILE.read_text()))
    return size_bytes <= memory_bytes // 2
