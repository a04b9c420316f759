"""Run a tiny pipeline as three other processors do, and compare the hashes of its outputs.

    python tests/portable.py [PROCESSOR ...]

qemu-x86_64 emulates the processors: SandyBridge has neither FMA nor AVX2; Haswell and EPYC have
both, and all libraries but NumPy may use them. A stage takes up to 20 times as long, so the
pipeline is tiny. The tests have more pipelines, but only the processor of their machine:
`tests/pipeline/test_instruction_sets.py`.
"""

import argparse
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from support import (
    ROOT,
    SRC,
    STAGES,
    attempt,
    dvc,
    hash_file,
    hash_files,
    make_copy,
    set_leaf,
    write_photographs,
)  # fmt: skip

PROCESSORS = ("SandyBridge", "Haswell", "EPYC")
EMULATOR = "qemu-x86_64"

TINY = {
    "preprocess.height_px": 12,
    "preprocess.width_px": 12,
    "preprocess.max_per_class": 6,
    "preprocess.validation_frac": 0.2,
    "preprocess.test_frac": 0.0112,  # 20 images
    "augment.copies": 1,
    "training.epochs": 1,
    "training.batch_size": 8,
    "networks.cnn.filters": [4, 4],
    "networks.cnn.pool_px": [2, 1],
    "networks.cnn.batch_norm": True,
    "networks.cnn.dense_units": [8],
}
"""A convolutional network on 60 digits; by dotted keys of params.yaml."""

# The stages are forks of this process, so they have its variables and its processor, and the
# libraries are loaded once.
_RUN = """
import sys
from pathlib import Path
import matplotlib.pyplot
import numpy as np
import imgpipe.nn.common.runtime
from portable import run_stages
for folder in sys.argv[1:]:
    run_stages(Path(folder))
print(*np.show_config(mode="dicts")["SIMD Extensions"].get("found", ["no more than its baseline"]))
"""


def make_project(folder: Path, values: Mapping[str, Any]) -> Path:
    """Copy the project, and change values of params.yaml; return the folder.

    The copy has another dataset, `stripes`: photographs of two classes.

    Args:
        folder: where the copy goes.
        values: by dotted keys.
    """
    make_copy(folder)
    write_photographs(folder / "data" / "local" / "stripes", {"left": 14, "right": 10}, side_px=32)
    with (folder / "data" / "catalog.yaml").open("a") as stream:
        stream.write(
            "stripes:\n  title: Stripes\n  files: data/local/stripes\n"
            "  format: {kind: image_folder}\n"
        )
    for key, value in values.items():
        set_leaf(folder, key, value)
    return folder


def run_stages(project: Path, **environment: str) -> None:
    """Run all stages in a project. Without DVC: the emulator aborts if a fork makes forks."""
    for stage in STAGES:
        result = attempt(project, stage, **environment)
        # A slow stage prints its progress there, and the emulator prints warnings.
        assert result.returncode == 0, result.stderr


def run_pipelines(
    folders: Iterable[Path], environment: Mapping[str, str], emulator: Sequence[str] = ()
) -> str:
    """Run all stages in folders, in a new process, which reads the environment at its start.

    Args:
        folders: projects.
        environment: variables to set.
        emulator: a command that runs a program as another processor.

    Returns:
        The sets of instructions that NumPy uses in the process.

    Raises:
        RuntimeError: a stage failed.
    """
    paths = os.pathsep.join([SRC.as_posix(), (ROOT / "tests").as_posix()])
    command = [*emulator, sys.executable, "-c", _RUN, *map(str, folders)]
    environment = {**os.environ, "PYTHONPATH": paths, **environment}
    result = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    if result.returncode:
        raise RuntimeError(result.stdout + result.stderr)
    instructions: str = result.stdout.strip()
    return instructions


def hash_outputs(project: Path) -> dict[str, str]:
    """Return the SHA-256 of the model, of the results, and of dvc.lock, by their paths.

    DVC writes dvc.lock now. It has a hash of every output.
    """
    dvc(project, "commit", "--force")
    names = ("models/model.keras", "data/evaluation/predictions.csv", "data/evaluation/views.npz")
    results = hash_files(project / "metrics")
    return {
        **{name: hash_file(project / name) for name in (*names, "dvc.lock")},
        **{f"metrics/{name}": sha256 for name, sha256 in results.items()},
    }


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("processors", nargs="*", default=PROCESSORS, metavar="PROCESSOR")
    processors = parser.parse_args().processors
    for processor in processors:
        if processor not in PROCESSORS:
            parser.error(f"expected some of {', '.join(PROCESSORS)}; found {processor!r}")
    if shutil.which(EMULATOR) is None:
        sys.exit(f"error: {EMULATOR} is missing; on Debian and Ubuntu: apt-get install qemu-user")
    expected = run_tiny("this processor")
    print(*(f"  {sha256}  {name}" for name, sha256 in expected.items()), sep="\n", flush=True)
    different = []
    for processor in processors:
        found = run_tiny(processor, (EMULATOR, "-cpu", processor))
        for name in sorted(expected.keys() | found.keys()):
            if expected.get(name) != found.get(name):
                print(f"  differs: {name}", flush=True)
        different += [processor] if found != expected else []
    if different:
        sys.exit(f"error: other bytes as on this processor: {', '.join(different)}")
    print("all outputs are equal")


def run_tiny(processor: str, emulator: Sequence[str] = ()) -> dict[str, str]:
    """Run the tiny pipeline, and report it; return the hashes of its outputs."""
    start_s = time.monotonic()
    with TemporaryDirectory() as folder:
        project = make_project(Path(folder) / "project", TINY)
        # One worker, because more of them would be new processes, which nothing emulates.
        variables = {"IMGPIPE_WORKERS": "1"}
        if emulator:
            # Emulated by qemu 7.2, NumPy's AVX2 instructions sort wrongly: `argsort` of ten
            # different whole numbers. On a processor with AVX2 they sort correctly.
            variables["NPY_DISABLE_CPU_FEATURES"] = "X86_V3"
        instructions = run_pipelines([project], variables, emulator)
        hashes = hash_outputs(project)
    minutes = (time.monotonic() - start_s) / 60
    print(f"{processor}: NumPy finds {instructions}; {minutes:.1f} minutes", flush=True)
    return hashes


if __name__ == "__main__":
    main()
