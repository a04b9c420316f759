"""Arrays that one stage leaves for a later one, as an npz archive with stable bytes."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np
from numpy.typing import NDArray

from imgpipe.core.errors import PipelineError
from imgpipe.core.files import replace_file


def write_npz(path: Path, arrays: Mapping[str, NDArray[Any]], *, shared: bool = False) -> None:
    """Write a compressed archive; equal arrays in equal order give equal bytes.

    Several processes may write a shared file at once.
    """
    with replace_file(path, shared=shared) as partial, partial.open("wb") as stream:
        np.savez_compressed(stream, allow_pickle=False, **arrays)


@contextmanager
def open_npz(path: Path, content: str, stage: str) -> Iterator[Mapping[str, NDArray[Any]]]:
    """Yield the arrays of an archive by name; content and writing stage are for the error.

    Raises:
        PipelineError: the file is missing, or the block cannot read an array that it expects.
    """
    try:
        with path.open("rb") as stream, np.load(stream) as arrays:  # closed on an error, too
            yield arrays
    except FileNotFoundError:
        raise PipelineError(f"{path.as_posix()}: not found; `dvc repro` writes it") from None
    except (ValueError, KeyError, OSError, EOFError, BadZipFile):
        raise PipelineError(
            f"{path.as_posix()}: expected an npz archive of {content}; found another file,"
            f" or a part; run `dvc repro {stage}`"
        ) from None
