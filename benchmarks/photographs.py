"""How fast photographs are read, and how fast their records, beside Keras's usual way."""

import shutil
import statistics
import tempfile
import zipfile
from pathlib import Path

from measuring import (
    HERE,
    REPETITIONS,
    ROOT,
    make_project,
    median_and_range,
    run_python,
    seconds_of,
    table,
)

SIDE_PX = 150
IMAGES = 3000
DATASET = "cats_and_dogs_small"

KERAS_WHOLE = "whole process: Keras `image_dataset_from_directory`"
PREPROCESS_WHOLE = "whole process: `preprocess`, which also hashes and writes"
KERAS = "without imports: Keras `image_dataset_from_directory`"
PREPROCESS = "without imports: `preprocess`, the start of its second process counted"
READ = "without imports: records read to NumPy arrays, one process"
LOAD = "without imports: records read as `train` does, images kept"


def compare_reading(mirror: Path) -> str:
    """Return a table: 3,000 photographs to 150 x 150 x 3, images a second."""
    archive = mirror / DATASET / f"{DATASET}.zip"
    with tempfile.TemporaryDirectory() as scratch:
        preprocess = {"height_px": SIDE_PX, "width_px": SIDE_PX, "channels": 3}
        project = make_project(
            Path(scratch) / "project", {"dataset": DATASET, "preprocess": preprocess}
        )
        (project / "data" / "raw").mkdir()
        shutil.copy(archive, project / "data" / "raw")
        files = Path(scratch) / "files"
        with zipfile.ZipFile(archive) as opened:
            opened.extractall(files)
        opponent: list[str | Path] = [
            HERE / "opponents" / "image_dataset_from_directory.py",
            files / DATASET,
        ]
        whole: dict[str, list[str | Path]] = {
            KERAS_WHOLE: opponent,
            PREPROCESS_WHOLE: [ROOT / "src" / "preprocess.py"],
        }
        timed: dict[str, list[str | Path]] = {
            KERAS: opponent,
            PREPROCESS: [HERE / "timed.py", "preprocess"],
            READ: [HERE / "timed.py", "read"],
            LOAD: [HERE / "timed.py", "load"],
        }
        rates: dict[str, list[float]] = {name: [] for name in (*whole, *timed)}
        for _ in range(REPETITIONS):
            for name, arguments in whole.items():
                rates[name].append(IMAGES / seconds_of(*arguments, cwd=project))
            for name, arguments in timed.items():
                images, seconds = run_python(*arguments, cwd=project).split()[-2:]
                rates[name].append(int(images) / float(seconds))
    medians = {name: statistics.median(values) for name, values in rates.items()}
    return table(
        [f"{IMAGES:,} photographs to {SIDE_PX} x {SIDE_PX} x 3", "images/s", "ratio"],
        [
            [
                name,
                median_and_range(values),
                f"{medians[name] / medians[KERAS_WHOLE if name in whole else KERAS]:.2f}",
            ]
            for name, values in rates.items()
        ],
    )
