"""Measure the parts of the benchmarks that may miss their target: benchmarks/profiles.md.

The page holds measured values and values computed from them.
"""

import os
import pstats
import shutil
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path

from image_speed import DATASET, IMAGES, RECIPE
from imgpipe.core.files import read_json
from imgpipe.experiments.recipes import DEFAULTS, load_recipe
from measuring import (
    HERE,
    REPETITIONS,
    ROOT,
    Section,
    interleave,
    make_project,
    mean_and_sd,
    rate_of,
    ratio_of,
    run_stages,
    seconds_of,
    table,
    work_of,
    write_params,
)
from overhead import (
    IMPORTS,
    REPRO_REPETITIONS,
    make_empty_pipeline,
    repro,
    repro_cpu_seconds,
    run_seconds,
)

# The function whose time is measured for each part, as "module file:function".
REPRO_PARTS = {
    "reading YAML": "dvc/utils/serialize/_yaml.py:parse_yaml",
    "reading TOML": "dvc/utils/serialize/_toml.py:parse_toml",
    "making the stages of all `dvc.yaml` files": "dvc/stage/loader.py:load_stage",
    "building the graph": "dvc/repo/graph.py:build_graph",
    "checking whether each of the six stages has changed": "dvc/stage/__init__.py:changed",
}
PHOTOGRAPH_PARTS = {
    "decode at reduced size (libjpeg-turbo)": "~:<method 'decode' of 'ImagingDecoder' objects>",
    "resize, averaging (Pillow)": "~:<method 'resize' of 'ImagingCore' objects>",
    "SHA-256, for duplicates": "~:<built-in method _hashlib.openssl_sha256>",
    "write": "~:<method 'write' of '_io.BufferedWriter' objects>",
}


def profile_repro() -> Section:
    """Measure the parts of an unchanged `dvc repro`."""
    with tempfile.TemporaryDirectory() as scratch:
        empty, whole = Path(scratch) / "empty", Path(scratch) / "whole"
        make_empty_pipeline(empty)
        subprocess.run(["git", "clone", "--quiet", ROOT, whole], check=True)
        folders = {"six empty stages": empty, "this pipeline": whole}
        for folder in folders.values():
            repro(folder)
        values = interleave(
            {name: partial(repro_cpu_seconds, folder) for name, folder in folders.items()},
            REPRO_REPETITIONS,
        )
        stages = subprocess.run(
            ["dvc", "stage", "list", "--all"], cwd=whole, check=True, capture_output=True, text=True
        )
        dvc = shutil.which("dvc")
        assert dvc
        parts = _profile([dvc, "repro", "--quiet"], whole, REPRO_PARTS, inclusive=True)
    first = values["six empty stages"]
    return Section(
        [
            table(
                ["`dvc repro`, nothing changed", "CPU seconds", "ratio"],
                [
                    [
                        name,
                        f"{statistics.median(measured):.2f}",
                        f"{ratio_of(measured, first):.2f}",
                    ]
                    for name, measured in values.items()
                ],
            ),
            f"The repository has {len(stages.stdout.splitlines())} stages in all its `dvc.yaml`"
            " files. The parts of this pipeline, with Python's profiler, which makes them slower;"
            " the parts overlap:",
            table(["part", "seconds"], [[name, f"{value:.2f}"] for name, value in parts.items()]),
        ],
        [],
    )


def profile_photographs(mirror: Path) -> Section:
    """Measure the parts of `preprocess` of photographs."""
    with tempfile.TemporaryDirectory() as scratch:
        project = make_project(Path(scratch) / "project", recipe=RECIPE)
        shutil.copytree(mirror / DATASET, project / "data" / "raw")
        command = [sys.executable, str(HERE / "timed.py"), "preprocess"]
        parts = _profile(command, project, PHOTOGRAPH_PARTS, inclusive=False)
        one_process = [
            1 / rate_of(HERE / "timed.py", "preprocess", cwd=project, workers=1)
            for _ in range(REPETITIONS)
        ]
        two_processes = [
            1 / rate_of(HERE / "timed.py", "preprocess", cwd=project) for _ in range(REPETITIONS)
        ]
    whole_us = 1e6 * statistics.median(one_process)
    parts_us = {name: 1e6 * seconds / IMAGES for name, seconds in parts.items()}
    rows = [[name, f"{value:.0f}"] for name, value in parts_us.items()]
    rows += [
        [
            "the rest: reading the archive, opening, records",
            f"{whole_us - sum(parts_us.values()):.0f}",
        ],
        ["one process, total", f"{whole_us:.0f}"],
        [
            "two processes, with the start of the second",
            f"{1e6 * statistics.median(two_processes):.0f}",
        ],
    ]
    least = sum(list(parts_us.values())[:2]) / 2
    return Section(
        [
            table([f"a photograph, of {IMAGES:,}; without imports", "µs"], rows),
            f"Two processes that only decode and resize would need {least:.0f} µs a photograph.",
        ],
        [],
    )


def profile_run() -> Section:
    """Measure the stages of `make run`."""
    with tempfile.TemporaryDirectory() as scratch:
        clones = [Path(scratch) / str(number) for number in range(REPETITIONS)]
        whole = [run_seconds(clone) for clone in clones]
        imports = [seconds_of(*IMPORTS, cwd=ROOT) for _ in clones]
        stages = {
            stage: statistics.median(
                seconds_of(clone / "src" / f"{stage}.py", cwd=clone) for clone in clones
            )
            for stage in ("fetch", "preprocess", "augment", "train", "evaluate", "plot")
        }
        epochs_s = statistics.median(
            work_of(HERE / "timed.py", "train", cwd=clone)[1] for clone in clones
        )
    rows = [[f"`{stage}`", f"{seconds:.1f}"] for stage, seconds in stages.items()]
    rest = statistics.median(whole) - sum(stages.values())
    rows += [
        ["DVC and make", f"{rest:.1f}"],
        ["total", f"{statistics.median(whole):.1f}"],
        ["one `import tensorflow, keras`, as installed", f"{statistics.median(imports):.1f}"],
    ]
    return Section(
        [
            table(["stage", "seconds"], rows),
            f"The epochs of `train` take {epochs_s:.1f} s, with the building of their graphs.",
        ],
        [],
    )


def profile_epochs() -> Section:
    """Measure the validation loss and accuracy of the default run with fewer epochs."""
    training = load_recipe(DEFAULTS, ROOT / "recipes")["training"]
    most = training["epochs"]
    metrics: dict[int, list[dict[str, float]]] = {}
    with tempfile.TemporaryDirectory() as scratch:
        project = make_project(Path(scratch) / "project")
        run_stages(project, "fetch", "preprocess", "augment")
        for epochs in (most, most * 2 // 3, most // 2):
            metrics[epochs] = []
            for seed in range(1, REPETITIONS + 1):
                write_params(project, changes={"training.seed": seed, "training.epochs": epochs})
                run_stages(project, "train")
                metrics[epochs].append(read_json(project / "metrics" / "train.json"))
    return describe_fewer_epochs(metrics, training["learning_rate_schedule"])


def describe_fewer_epochs(
    metrics: Mapping[int, Sequence[Mapping[str, float]]], schedule: str
) -> Section:
    """Return the section about fewer epochs.

    Args:
        metrics: train.json of each seed, in the same order, by number of epochs; the first number
            of epochs is the one to compare with.
        schedule: of the learning rate.
    """
    most, *_ = metrics
    names = ("validation_loss", "validation_accuracy")
    header = ["epochs"]
    for name in names:
        label = name.replace("_", " ")
        header += [f"{label}, n = {len(metrics[most])}", f"change from {most} epochs"]
    rows = []
    for epochs, runs in metrics.items():
        cells = [str(epochs)]
        for name in names:
            values = [run[name] for run in runs]
            changes = [value - run[name] for value, run in zip(values, metrics[most], strict=True)]
            cells += [mean_and_sd(values), "" if epochs == most else mean_and_sd(changes)]
        rows.append(cells)
    return Section(
        [
            table(header, rows),
            f"The learning rate schedule is `{schedule}`, over the number of epochs in the table."
            " A change is between runs of the same seed.",
        ],
        [],
    )


def _profile(
    command: list[str], cwd: Path, parts: Mapping[str, str], *, inclusive: bool
) -> dict[str, float]:
    """Profile a Python script; return seconds in functions, with or without their callees."""
    with tempfile.TemporaryDirectory() as scratch:
        profile = Path(scratch) / "profile"
        script = command[1:] if command[0] == sys.executable else command
        subprocess.run(
            [sys.executable, "-m", "cProfile", "-o", profile, *script],
            cwd=cwd,
            env={**os.environ, "IMGPIPE_WORKERS": "1"},
            check=True,
            capture_output=True,
        )
        stats = pstats.Stats(profile.as_posix()).stats  # type: ignore[attr-defined]  # no types
    seconds = dict.fromkeys(parts, 0.0)
    for (file, _, function), (_, _, own, cumulative, _) in stats.items():
        for name, part in parts.items():
            ending, _, wanted = part.partition(":")
            if function == wanted and file.endswith(ending):
                seconds[name] += cumulative if inclusive else own
    return seconds
