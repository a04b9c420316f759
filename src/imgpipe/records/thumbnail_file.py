"""Small pictures that `preprocess` leaves for the page about the data, which `plot` draws."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from imgpipe.records.npz_file import open_npz, write_npz


def write_thumbnails(path: Path, thumbnails: Mapping[str, bytes]) -> None:
    """Write JPEG files, by the identities of their images."""
    arrays: dict[str, NDArray[Any]] = {
        "identities": np.frombuffer("\0".join(thumbnails).encode(), dtype=np.uint8),
        "sizes_bytes": np.array([len(content) for content in thumbnails.values()], dtype=np.int64),
        "contents": np.frombuffer(b"".join(thumbnails.values()), dtype=np.uint8),
    }
    write_npz(path, arrays)


def read_thumbnails(path: Path) -> dict[str, bytes]:
    """Read JPEG files, by the identities of their images.

    Raises:
        PipelineError: the file is missing or damaged.
    """
    with open_npz(path, "thumbnails", "preprocess") as arrays:
        identities = arrays["identities"].tobytes().decode()
        contents = np.split(arrays["contents"], arrays["sizes_bytes"].cumsum()[:-1])
    if not len(contents[0]):
        return {}
    return {
        name: content.tobytes()
        for name, content in zip(identities.split("\0"), contents, strict=True)
    }
