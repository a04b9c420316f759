"""A hash of all that determines the outputs of stages: values, source files and data."""

import hashlib
import json
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any

from imgpipe.core.errors import PipelineError
from imgpipe.core.sources import hash_sources
from imgpipe.running.entry import StageEntry


def hash_inputs(entries: Iterable[StageEntry], hash_data: Callable[[str], str]) -> str:
    """Return a hash of the values, source files and data that stages use.

    The entries are in the order in which the stages run. `hash_data` returns a hash of a file or
    folder that is no source file.

    Raises:
        PipelineError: a file is missing.
    """
    described: list[Any] = []
    outputs: set[str] = set()
    for entry in entries:
        described += [
            entry.command,
            entry.values,
            hash_sources(*entry.sources),
            {path: hash_data(path) for path in entry.data if path not in outputs},
        ]
        outputs |= set(entry.outputs)
    text = json.dumps(described, default=str)  # YAML has dates, JSON has not
    return hashlib.sha256(text.encode()).hexdigest()


@contextmanager
def open_hasher() -> Iterator[Callable[[str], str]]:
    """Yield a function that returns the MD5 of a file or folder; DVC stores the MD5s.

    The function raises a PipelineError if the path is missing.
    """
    from dvc.dependency.base import Dependency  # 0.5 s, which `--help` does not need
    from dvc.repo import Repo

    with Repo() as repo:

        @cache
        def hash_data(path: str) -> str:
            try:
                value: str = Dependency(None, path, repo=repo).get_hash().value
            except FileNotFoundError:
                raise PipelineError(
                    f"{path}: not found; if DVC tracks this file, run `dvc checkout` or `dvc pull`"
                ) from None
            return value

        yield hash_data
