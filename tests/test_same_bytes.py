"""The stages compute the same bytes with other instructions of the processor, without TensorFlow.

Variables limit the instructions that NumPy, OpenBLAS, the C library and libjpeg choose. A library
reads them when it starts, so each run is a new process, not a fork.
"""

import json
import os
import platform
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest

PROGRAM = Path(__file__).with_name("stage_numbers.py")
# NumPy's names of AVX2 with FMA, and of AVX-512.
AVX2, AVX512 = "X86_V3", "X86_V4 AVX512_ICL AVX512_SPR"
NO_FMA = {"GLIBC_TUNABLES": "glibc.cpu.hwcaps=-FMA,-AVX2,-FMA4"}
OLD_PROCESSOR = {
    "NPY_DISABLE_CPU_FEATURES": f"{AVX2} {AVX512}",
    "OPENBLAS_CORETYPE": "Nehalem",
    "OPENBLAS_NUM_THREADS": "1",
    "JSIMD_FORCENONE": "1",
    **NO_FMA,
}
CORES = ("Nehalem", "Sandybridge", "Haswell", "Zen", "SkylakeX")
# Kinds of numbers that the stages avoid.
INEXACT = ("C library", "NumPy")


@cache
def hash_numbers(**variables: str) -> dict[str, str]:
    """Return a hash of each kind of numbers, computed with some variables."""
    result = subprocess.run(
        [sys.executable, "-W", "ignore", PROGRAM],  # NumPy warns of features that are not there
        env={**os.environ, **variables},
        capture_output=True,
        text=True,
        check=True,
    )
    hashes: dict[str, str] = json.loads(result.stdout)
    return hashes


def exact_kinds(hashes: dict[str, str]) -> dict[str, str]:
    return {kind: value for kind, value in hashes.items() if kind not in INEXACT}


def test_instructions_of_an_old_processor_give_the_same_bytes() -> None:
    assert exact_kinds(hash_numbers(**OLD_PROCESSOR)) == exact_kinds(hash_numbers())


@pytest.mark.skipif(
    platform.machine() != "x86_64"
    or platform.libc_ver()[0] != "glibc"
    or " fma " not in Path("/proc/cpuinfo").read_text(),
    reason="needs glibc and a processor with FMA",
)
def test_the_variables_change_what_the_stages_avoid() -> None:
    """Otherwise the other tests would show nothing."""
    usual, old = hash_numbers(), hash_numbers(**OLD_PROCESSOR)
    assert all(usual[kind] != old[kind] for kind in INEXACT)


@pytest.mark.slow
@pytest.mark.e2e
@pytest.mark.parametrize(
    "variables",
    [
        {"NPY_DISABLE_CPU_FEATURES": AVX512},
        {"NPY_DISABLE_CPU_FEATURES": f"{AVX2} {AVX512}"},
        *({"OPENBLAS_CORETYPE": core} for core in CORES),
        *({"OPENBLAS_NUM_THREADS": threads} for threads in ("1", "2", "4")),
        {"JSIMD_FORCESSE2": "1"},
        NO_FMA,
    ],
    ids=str,
)
def test_each_variable_gives_the_same_bytes(variables: dict[str, str]) -> None:
    assert exact_kinds(hash_numbers(**variables)) == exact_kinds(hash_numbers())
