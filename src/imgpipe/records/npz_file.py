"""Arrays that one stage leaves for a later one, as an npz archive with stable bytes."""

import io
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from zipfile import BadZipFile, ZipFile, ZipInfo

import numpy as np
from numpy.typing import NDArray

from imgpipe.core.errors import PipelineError
from imgpipe.core.files import replace_file


def write_npz(path: Path, arrays: Mapping[str, NDArray[Any]], *, shared: bool = False) -> None:
    """Write an archive; equal arrays in equal order give equal bytes.

    Several processes may write a shared file at once. The file is not compressed, and not written
    by NumPy's `savez`: the bytes of zlib depend on its version, and the bytes of a zip archive that
    is prepared for more than 2 GiB on the version of Python (3.11.2 and 3.11.7 differ).
    """
    with replace_file(path, shared=shared) as partial, ZipFile(partial, "w") as archive:
        for name, array in arrays.items():
            content = io.BytesIO()
            np.save(content, array, allow_pickle=False)
            archive.writestr(ZipInfo(f"{name}.npy"), content.getvalue())


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
