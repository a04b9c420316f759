"""Compare the time to an accuracy on a pretrained network with the scripts of Keras's guide."""

import os
import shutil
import statistics
import tempfile
from pathlib import Path

import numpy as np

from imgpipe.core.files import read_json
from imgpipe.records.folders import Records
from imgpipe.records.info import read_info
from measuring import (
    HERE,
    REPETITIONS,
    ROOT,
    Section,
    at_least,
    make_project,
    middle_and_range,
    ratio_of,
    run_python,
    run_stages,
    seconds_of,
    table,
    write_params,
)

RECIPE = "photographs"
MOST_EPOCHS = 10
FIT = "Keras's guide: frozen backbone inside `fit`"
FEATURES = "Keras's guide: features computed once"
NATIVE = "`train`, no stored features, native arithmetic"
COLD = "`train`, no stored features, exact arithmetic"
WARM = "`train` again, stored features, exact arithmetic"
# How the stage computes for each of its lines.
ARITHMETICS = {NATIVE: "native", COLD: "exact", WARM: "exact"}


def compare_transfer(mirror: Path) -> Section:
    """Measure the time until a validation accuracy is reached, start-up included.

    `train` with the same seed reaches the same accuracy. The photographs are decoded before.
    """
    os.environ["DATASET_MIRROR"] = mirror.as_posix()
    runs: dict[str, list[tuple[float, float, str]]] = {
        name: [] for name in (FIT, FEATURES, NATIVE, COLD, WARM)
    }
    with tempfile.TemporaryDirectory() as scratch:
        project = make_project(Path(scratch) / "project", recipe=RECIPE)
        (project / ".dvc").mkdir()  # `train` stores features only in a DVC repository
        run_stages(project, "fetch", "preprocess", "augment")
        save_arrays(project)
        for seed in range(1, REPETITIONS + 1):
            shutil.rmtree(project / ".dvc" / "tmp", ignore_errors=True)
            for name, arithmetic in ARITHMETICS.items():
                changes = {"transfer.seed": seed, "arithmetic": arithmetic}
                write_params(project, recipe=RECIPE, changes=changes)
                seconds = seconds_of(ROOT / "src" / "train.py", cwd=project)
                accuracy = read_validation_accuracy(project)
                runs[name].append((seconds, accuracy, ""))
            for name, kind in ((FIT, "fit"), (FEATURES, "features")):
                runs[name].append(_run_guide(kind, project, accuracy, seed))
    return describe(runs)


def describe(runs: dict[str, list[tuple[float, float, str]]]) -> Section:
    """Return the section of the measurements: seconds, validation accuracy and number of epochs."""
    seconds = {name: [run[0] for run in measured] for name, measured in runs.items()}
    listing = table(
        [
            "photographs, 224 x 224, to the validation accuracy of `train`, start-up included",
            "seconds",
            "ratio",
            f"validation accuracy, n = {REPETITIONS}",
            f"epochs, at most {MOST_EPOCHS}",
        ],
        [
            [
                name,
                middle_and_range(seconds[name]),
                f"{ratio_of(seconds[name], seconds[FIT]):.2f}",
                f"{statistics.mean(accuracy for _, accuracy, _ in measured):.4f}",
                "; ".join(epochs for _, _, epochs in measured if epochs),
            ]
            for name, measured in runs.items()
        ],
    )
    what = "speed to the same accuracy on photographs, against `fit`: {}"
    targets = [
        at_least(what.format(name), 3, ratio_of(seconds[FIT], seconds[name]))
        for name in (NATIVE, COLD)
    ]
    return Section([listing], targets)


def save_arrays(project: Path) -> None:
    """Write the records as the arrays that the scripts of the guide read."""
    records = project / "data" / "records"
    info = read_info(records)
    for split in ("train", "validation"):
        batches = list(Records(records, info).read(split))
        np.savez(
            project / f"{split}.npz",
            images=np.concatenate([batch.images for batch in batches]),
            labels=np.concatenate([batch.labels for batch in batches]),
        )


def read_validation_accuracy(project: Path) -> float:
    """Return the validation accuracy of the last `train`."""
    return float(read_json(project / "metrics" / "train.json")["validation_accuracy"])


def _run_guide(kind: str, project: Path, accuracy: float, seed: int) -> tuple[float, float, str]:
    script = HERE / "opponents" / "transfer_learning.py"
    # Half an image less, because the two accuracies are rounded differently.
    margin = 0.5 / read_info(project / "data" / "records").splits["validation"].examples
    goal = str(accuracy - margin)
    printed = run_python(script, kind, project, goal, str(MOST_EPOCHS), str(seed), cwd=project)
    epochs, seconds, reached = printed.splitlines()[-1].split()
    is_reached = float(reached) >= accuracy - margin
    return float(seconds), float(reached), epochs if is_reached else f"{epochs}, not reached"
