"""Fixtures: real datasets if a mirror has them, the project's YAML files, small archives."""

import copy
import gzip
import os
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from support import CATALOG, KILL_SEED, ROOT

from imgpipe.core.yaml_file import read_yaml


def pytest_report_header() -> str:
    return f"kills: IMGPIPE_KILL_SEED={KILL_SEED}"


@pytest.fixture(scope="session")
def mirror() -> Path:
    """The folder of real datasets, laid out as `<dataset>/<file>`."""
    setting = os.environ.get("DATASET_MIRROR")
    if not setting or not Path(setting).is_dir():
        pytest.skip("no real datasets: set DATASET_MIRROR to a folder laid out as <dataset>/<file>")
    return Path(setting).resolve()


@pytest.fixture
def params_value() -> dict[str, Any]:
    """The project's `params.yaml` as a mapping that a test may change."""
    return copy.deepcopy(dict(read_yaml(ROOT / "params.yaml")))


@pytest.fixture
def catalog_value() -> dict[str, Any]:
    """The project's catalog as a mapping that a test may change."""
    return copy.deepcopy(dict(read_yaml(CATALOG)))


@pytest.fixture
def write_idx() -> Callable[[Path, NDArray[np.uint8]], None]:
    """Write an array as a gzipped IDX archive."""

    def write(path: Path, values: NDArray[np.uint8]) -> None:
        header = struct.pack(f">BBBB{values.ndim}I", 0, 0, 8, values.ndim, *values.shape)
        path.write_bytes(gzip.compress(header + values.tobytes(), mtime=0))

    return write
