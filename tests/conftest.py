"""Fixtures: the project's files, real datasets where they are, small ones that tests make."""

import copy
import gzip
import hashlib
import os
import random
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from imgpipe.catalog import DownloadEntry, load_entry
from imgpipe.params import read_yaml
from imgpipe.sources import Source

ROOT = Path(__file__).resolve().parent.parent
CATALOG = ROOT / "data" / "catalog.yaml"

# The moments at which tests kill stages are drawn anew each time; the seed repeats them.
KILL_SEED = os.environ.get("IMGPIPE_KILL_SEED") or str(random.SystemRandom().randrange(10**6))


def pytest_report_header() -> str:
    return f"kills: IMGPIPE_KILL_SEED={KILL_SEED}"


def hash_file(path: Path) -> str:
    """Return the SHA-256 of a file."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


def load_download(dataset: str) -> DownloadEntry:
    """Return the catalog's entry of a dataset that is downloaded."""
    entry = load_entry(dataset, CATALOG)
    assert isinstance(entry, DownloadEntry)
    return entry


def identity(source: Source, index: int) -> str:
    """Return the identity of one image."""
    (found,) = source.identities(np.array([index]))
    return found


@pytest.fixture(scope="session")
def mirror() -> Path:
    """The folder of real datasets, laid out as `<dataset>/<file>`."""
    folder = Path(os.environ.get("DATASET_MIRROR") or ROOT.parent / "shared" / "datasets").resolve()
    if not folder.is_dir():
        pytest.skip("no real datasets: set DATASET_MIRROR to a folder laid out as <dataset>/<file>")
    return folder


@pytest.fixture
def params_value() -> dict[str, Any]:
    """The project's `params.yaml` as a mapping that a test may change."""
    return copy.deepcopy(dict(read_yaml(ROOT / "params.yaml")))


@pytest.fixture
def catalog_value() -> dict[str, Any]:
    """The project's catalog as a mapping that a test may change."""
    return copy.deepcopy(dict(read_yaml(ROOT / "data" / "catalog.yaml")))


@pytest.fixture
def write_idx() -> Callable[[Path, NDArray[np.uint8]], None]:
    """Write an array as a gzipped IDX archive."""

    def write(path: Path, values: NDArray[np.uint8]) -> None:
        header = struct.pack(f">BBBB{values.ndim}I", 0, 0, 8, values.ndim, *values.shape)
        path.write_bytes(gzip.compress(header + values.tobytes(), mtime=0))

    return write
