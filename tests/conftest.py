"""Fixtures: real datasets if a mirror has them, the project's YAML files, small archives."""

import copy
import gzip
import os
import shutil
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from filelock import FileLock
from hypothesis import settings
from numpy.typing import NDArray
from support import CATALOG, KILL_SEED, ROOT, run_small

from imgpipe.core.yaml_file import read_yaml

# `make test-slow` chooses the second profile by `--hypothesis-profile`.
settings.register_profile("few", max_examples=25, deadline=None)
settings.register_profile("many", max_examples=400, deadline=None)
settings.load_profile("few")


def pytest_configure(config: pytest.Config) -> None:
    """Give each worker of pytest-xdist one thread, so that the workers do not wait for each other.

    The workers, and the processes that they start, inherit these variables. A stage sets the number
    of threads of TensorFlow itself, from params.yaml.
    """
    if config.getoption("numprocesses", None):
        for library in ("TF_NUM_INTRAOP", "TF_NUM_INTEROP", "OPENBLAS_NUM", "OMP_NUM"):
            os.environ.setdefault(f"{library}_THREADS", "1")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with the files that start programs: after a use of TensorFlow, `forks` cannot fork.

    These files take longest, too; so all workers of pytest-xdist end together.
    """
    marks: dict[Path, set[str]] = {}
    for item in items:
        marks.setdefault(item.path, set()).update(mark.name for mark in item.iter_markers())
    items.sort(key=lambda item: ("tf" in marks[item.path], "e2e" not in marks[item.path]))


def pytest_report_header() -> str:
    return f"kills: IMGPIPE_KILL_SEED={KILL_SEED}"


@pytest.fixture(scope="session")
def mirror() -> Path:
    """The folder of real datasets, laid out as `<dataset>/<file>`."""
    setting = os.environ.get("DATASET_MIRROR")
    if not setting or not Path(setting).is_dir():
        pytest.skip("no real datasets: set DATASET_MIRROR to a folder laid out as <dataset>/<file>")
    return Path(setting).resolve()


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project in which the pipeline has run; do not change it, but make a copy (`copy_project`).

    The first worker of pytest-xdist that needs the project makes it, and all workers use it.
    """
    folder = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        folder = folder.parent  # each worker has a folder of its own in the folder of the session
    project, mark = folder / "finished", folder / "finished.mark"
    with FileLock(folder / "finished.lock"):
        if not mark.exists():
            shutil.rmtree(project, ignore_errors=True)  # of a worker that failed
            run_small(project)
            mark.touch()
    return project


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
