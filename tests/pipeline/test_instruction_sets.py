"""The same bytes with every instruction set and number of threads, from images to pictures.

Each variant is a new process, because libraries choose their instructions when they are loaded. The
numbers of the stages without TensorFlow: `tests/test_same_bytes.py`; other processors:
`tests/portable.py`.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from forks import import_libraries
from portable import TINY, hash_outputs, make_project, run_pipelines, run_stages
from support import ROOT, git, hash_file

pytestmark = pytest.mark.e2e

# What NumPy finds on this processor beyond its baseline, in the order of the processors' history.
SIMD: list[str] = np.show_config(mode="dicts")["SIMD Extensions"].get("found", [])

# Variables without which NumPy, the C library and libjpeg use FMA and AVX2.
BEFORE_AVX2 = {
    "NPY_DISABLE_CPU_FEATURES": " ".join(SIMD),
    "GLIBC_TUNABLES": "glibc.cpu.hwcaps=-FMA,-AVX2,-FMA4",
    "JSIMD_FORCESSE2": "1",
}


def choose(workers: int, onednn: int, isa: str, blas: str) -> dict[str, str]:
    """Return the variables that limit TensorFlow and OpenBLAS."""
    return {
        "IMGPIPE_WORKERS": str(workers),  # of which each is also a thread of TensorFlow
        "TF_ENABLE_ONEDNN_OPTS": str(onednn),
        "ONEDNN_MAX_CPU_ISA": isa,
        "OPENBLAS_CORETYPE": blas,
    }


# Every value of each variable is in a variant.
VARIANTS: dict[str, dict[str, str]] = {
    "as it is": {},
    "SSE4.1": choose(1, 1, "SSE41", "Nehalem") | BEFORE_AVX2,
    "AVX": choose(4, 0, "AVX", "Sandybridge") | BEFORE_AVX2,
    "AVX2": choose(2, 1, "AVX2", "Haswell") | {"NPY_DISABLE_CPU_FEATURES": " ".join(SIMD[1:])},
    "Zen": choose(1, 0, "DEFAULT", "Zen"),
    # The kernels of SkylakeX need AVX-512.
    "AVX-512": choose(4, 1, "DEFAULT", "SkylakeX" if "X86_V4" in SIMD else "Haswell"),
}
OLDEST = "SSE4.1"

RESIDUAL: dict[str, Any] = {
    **TINY,
    "network": "resnet",
    "networks.resnet.filters": [4, 8],
    "preprocess.normalization": "standardize",
    "training.epochs": 2,
    "training.optimizer": "sgd",
    "training.learning_rate_schedule": "exponential",
    "training.label_smoothing": 0.1,
    "training.l2_penalty": 0.001,
}
TWO_CLASSES: dict[str, Any] = {
    **TINY,
    "dataset": "stripes",
    "preprocess.max_per_class": 0,
    "preprocess.test_frac": 0.2,
    "networks.cnn.pool": "average",
    "networks.cnn.global_pool": "average",
    "training.epochs": 2,
    "training.optimizer": "adamw",
    "training.class_weights": "balanced",
    "training.bootstrap": True,
}
PHOTOGRAPHS: dict[str, Any] = {
    **TWO_CLASSES,
    "preprocess.height_px": 32,
    "preprocess.width_px": 32,
    "preprocess.channels": 3,
    "method": "transfer",
    "network": "efficientnet_lite0",
    "transfer.iterations": 10,
    "transfer.l2_penalties": [0.01, 0.1],
    "transfer.folds": 2,
}
PROJECTS: dict[str, dict[str, Any]] = {
    "default": {},
    "residual": RESIDUAL,
    "two classes": TWO_CLASSES,
    "photographs": PHOTOGRAPHS,
}

Hashes = dict[str, dict[str, str]]
"""SHA-256 by project, then by file."""


def make_projects(folder: Path, names: Sequence[str], **changes: Any) -> list[Path]:
    """Make projects that have not run; return their folders."""
    return [make_project(folder / name, {**PROJECTS[name], **changes}) for name in names]


def hash_projects(projects: Sequence[Path]) -> Hashes:
    return {project.name: hash_outputs(project) for project in projects}


def run_variant(folder: Path, names: Sequence[str], variant: str, **changes: Any) -> Hashes:
    """Run projects in a new process with the variables of a variant; return their hashes."""
    projects = make_projects(folder, names, **changes)
    run_pipelines(projects, VARIANTS[variant])
    return hash_projects(projects)


def test_the_oldest_instructions_give_the_bytes_of_this_processor(tmp_path: Path) -> None:
    """Four threads and forks of this process, against one thread and a new process."""
    names = ["residual", "two classes"]
    here = make_projects(tmp_path / "here", names)
    import_libraries()
    for project in here:
        run_stages(project, IMGPIPE_WORKERS="4")
    assert run_variant(tmp_path / "old", names, OLDEST) == hash_projects(here)


@pytest.fixture(scope="module")
def expected(tmp_path_factory: pytest.TempPathFactory) -> Hashes:
    """The hashes with the variables as they are."""
    return run_variant(tmp_path_factory.mktemp("first"), list(PROJECTS), "as it is")


@pytest.mark.slow
@pytest.mark.parametrize("variant", [name for name, variables in VARIANTS.items() if variables])
def test_every_variant_gives_the_same_bytes(expected: Hashes, tmp_path: Path, variant: str) -> None:
    assert run_variant(tmp_path, list(PROJECTS), variant) == expected


@pytest.mark.slow
def test_the_default_run_gives_the_committed_bytes(expected: Hashes) -> None:
    """The committed results may come from another processor."""
    committed = git(ROOT, "ls-files", "dvc.lock", "metrics").splitlines()
    found = {path: expected["default"].get(path) for path in committed}
    assert found == {path: hash_file(ROOT / path) for path in committed}


@pytest.mark.slow
def test_native_arithmetic_gives_other_bytes(tmp_path: Path) -> None:
    """So these files show a difference, and these variables make one."""
    here, old = (
        run_variant(tmp_path / variant, ["residual"], variant, arithmetic="native")["residual"]
        for variant in ("as it is", OLDEST)
    )
    different = {path for path in here if here[path] != old[path]}
    assert different >= {
        "models/model.keras", "data/evaluation/predictions.csv", "data/evaluation/views.npz",
        "metrics/history.csv", "metrics/test.json", "dvc.lock",
    }  # fmt: skip
