"""Where the time goes in what misses its target, so that one sees why it does."""

import os
import pstats
import shutil
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from functools import partial
from pathlib import Path

from imgpipe.core.files import read_json
from imgpipe.settings.params import load_params
from measuring import (
    HERE,
    REPETITIONS,
    ROOT,
    interleave,
    make_project,
    mean_and_sd,
    rate_of,
    run_python,
    run_stages,
    seconds_of,
    table,
    work_of,
)
from overhead import IMPORTS, make_empty_pipeline, repro_seconds, run_seconds
from photographs import DATASET, IMAGES, RECIPE

# A part of the time: the function in which it is spent, as "module file:function".
REPRO_PARTS = {
    "reading YAML": "dvc/utils/serialize/_yaml.py:parse_yaml",
    "reading TOML": "dvc/utils/serialize/_toml.py:parse_toml",
    "making the stages of all `dvc.yaml` files": "dvc/stage/loader.py:load_stage",
    "building the graph": "dvc/repo/graph.py:build_graph",
    "asking each of the six stages whether it has changed": "dvc/stage/__init__.py:changed",
}
PHOTOGRAPH_PARTS = {
    "decode at reduced size (libjpeg-turbo)": "~:<method 'decode' of 'ImagingDecoder' objects>",
    "resize, averaging (Pillow)": "~:<method 'resize' of 'ImagingCore' objects>",
    "SHA-256, for duplicates": "~:<built-in method _hashlib.openssl_sha256>",
    "write": "~:<method 'write' of '_io.BufferedWriter' objects>",
}


def profile_repro() -> str:
    """Tell what an unchanged `dvc repro` does."""
    with tempfile.TemporaryDirectory() as scratch:
        empty, whole, alone = (Path(scratch) / name for name in ("empty", "whole", "alone"))
        make_empty_pipeline(empty)
        for folder in (whole, alone):
            subprocess.run(["git", "clone", "--quiet", ROOT, folder], check=True)
        shutil.rmtree(alone / "studies")
        for folder in (empty, whole, alone):
            repro_seconds(folder)
        folders = {
            "six empty stages": empty,
            "this pipeline without `studies`": alone,
            "this pipeline": whole,
        }
        values = interleave(
            {name: partial(repro_seconds, folder) for name, folder in folders.items()}
        )
        stages = subprocess.run(
            ["dvc", "stage", "list", "--all"], cwd=whole, check=True, capture_output=True, text=True
        )
        dvc = shutil.which("dvc")
        assert dvc
        parts = _profile([dvc, "repro", "--quiet"], whole, REPRO_PARTS, inclusive=True)
    first = statistics.median(values["six empty stages"])
    return "\n".join(
        [
            "## Unchanged `dvc repro`",
            "",
            table(
                ["`dvc repro`, nothing changed", "seconds", "ratio"],
                [
                    [
                        name,
                        f"{statistics.median(measured):.2f}",
                        f"{statistics.median(measured) / first:.2f}",
                    ]
                    for name, measured in values.items()
                ],
            ),
            "",
            f"DVC reads every `dvc.yaml` and `dvc.lock` of the repository, {_count(stages.stdout)}"
            " stages with all their dependencies, before it runs anything; no option limits it to"
            " one. Of this pipeline, profiled (the profiler makes all of it slower; reading YAML"
            " and TOML is part of the others):",
            "",
            table(["part", "seconds"], [[name, f"{value:.2f}"] for name, value in parts.items()]),
        ]
    )


def profile_photographs(mirror: Path) -> str:
    """Tell what `preprocess` does with a photograph."""
    with tempfile.TemporaryDirectory() as scratch:
        project = make_project(Path(scratch) / "project", {}, recipe=RECIPE)
        shutil.copytree(mirror / DATASET, project / "data" / "raw")
        command = [sys.executable, str(HERE / "timed.py"), "preprocess"]
        parts = _profile(command, project, PHOTOGRAPH_PARTS, inclusive=False)
        alone = [
            1 / rate_of(HERE / "timed.py", "preprocess", cwd=project, workers=1)
            for _ in range(REPETITIONS)
        ]
        both = [
            1 / rate_of(HERE / "timed.py", "preprocess", cwd=project) for _ in range(REPETITIONS)
        ]
    whole_us = 1e6 * statistics.median(alone)
    parts_us = {name: 1e6 * seconds / IMAGES for name, seconds in parts.items()}
    rows = [[name, f"{value:.0f}"] for name, value in parts_us.items()]
    rows += [
        [
            "all else: reading the archive, opening, records",
            f"{whole_us - sum(parts_us.values()):.0f}",
        ],
        ["one process, all", f"{whole_us:.0f}"],
        ["two processes, the start of the second counted", f"{1e6 * statistics.median(both):.0f}"],
    ]
    least = sum(list(parts_us.values())[:2]) / 2
    return "\n".join(
        [
            f"## `preprocess` of {IMAGES:,} photographs, without imports",
            "",
            table(["a photograph", "µs"], rows),
            "",
            f"Decoding and resizing alone are {least:.0f} µs a photograph for two processes that"
            " would do nothing else. Keras resizes without averaging over the covered pixels,"
            " which is faster, and aliases fine patterns.",
        ]
    )


def profile_run() -> str:
    """Tell which stages `make run` spends its time in."""
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
        ["DVC beside them", f"{rest:.1f}"],
        ["all", f"{statistics.median(whole):.1f}"],
        ["one `import tensorflow, keras`, as installed", f"{statistics.median(imports):.1f}"],
    ]
    return "\n".join(
        [
            "## `make run`",
            "",
            table(["stage", "seconds"], rows),
            "",
            f"Of `train`, {epochs_s:.1f} s are its epochs, with the building of their graphs.",
        ]
    )


def profile_epochs() -> str:
    """Tell what `make run`, most of whose time is training, would lose by training less."""
    rows = []
    with tempfile.TemporaryDirectory() as scratch:
        project = make_project(Path(scratch) / "project", {})
        run_stages(project, "fetch", "preprocess", "augment")
        whole = load_params(project / "params.yaml").train.epochs
        for epochs in (whole, whole * 2 // 3, whole // 2):
            scores = []
            for seed in range(1, REPETITIONS + 1):
                changes = [f"train.seed={seed}", f"train.epochs={epochs}"]
                run_python(ROOT / "src" / "train.py", "--set", *changes, cwd=project)
                scores.append(read_json(project / "metrics" / "train.json"))
            cells = [
                mean_and_sd([score[name] for score in scores])
                for name in ("validation_loss", "validation_accuracy")
            ]
            rows.append([str(epochs), *cells])
    return "\n".join(
        [
            "## Fewer epochs in `make run`",
            "",
            table(["epochs", f"validation loss, n = {REPETITIONS}", "validation accuracy"], rows),
            "",
            "The learning rate falls over as many epochs as there are. A shorter training would be"
            " nearer to the target, and worse.",
        ]
    )


def _profile(
    command: list[str], cwd: Path, parts: Mapping[str, str], *, inclusive: bool
) -> dict[str, float]:
    """Profile a Python script; return seconds in functions, with or without what they call."""
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


def _count(listing: str) -> int:
    return len(listing.strip().splitlines())
