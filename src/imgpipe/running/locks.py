"""Locks on the files and folders of stages: two runs in one folder do not disturb each other.

DVC has such locks, but a script can also run without DVC. A lock is `flock` on an empty file under
`.dvc/tmp` of the folder in which the stage runs. The system releases the lock when the process and
its workers have ended, however they end.
"""

import os
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from urllib.parse import quote

from imgpipe.console.messages import report

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

_FOLDER = Path(".dvc/tmp/locks")


@contextmanager
def hold_paths(stage: str, written: Iterable[str], read: Iterable[str]) -> Iterator[None]:
    """Keep other stages from writing the paths that this one writes or reads, for the block.

    If another process has one of them, wait for its end, and say so. Outside a repository of DVC,
    on Windows, and on a file system without locks, there are none.
    """
    # The workers of one training on several hosts run at once, and one of them writes.
    are_workers = bool(os.environ.get("TF_CONFIG"))
    is_shared = dict.fromkeys(read, True) | dict.fromkeys(written, are_workers)
    can_lock = fcntl is not None and Path(".dvc").is_dir()
    with ExitStack() as held:
        # In one order, so that no two runs wait for each other.
        for path in sorted(is_shared) if can_lock else []:
            with suppress(OSError):  # the file system has no locks, or is read-only
                _FOLDER.mkdir(parents=True, exist_ok=True)
                stream = held.enter_context((_FOLDER / quote(path, safe="")).open("ab"))
                kind = fcntl.LOCK_SH if is_shared[path] else fcntl.LOCK_EX
                try:
                    fcntl.flock(stream, kind | fcntl.LOCK_NB)
                except BlockingIOError:
                    report(f"{stage}: another run uses {path}; waiting for its end")
                    fcntl.flock(stream, kind)
        yield
