"""Compare the speed from photographs to records and to batches with Keras's usual functions."""

import shutil
import tempfile
import zipfile
from functools import partial
from pathlib import Path

import numpy as np

from imgpipe.records.folders import Records
from imgpipe.records.info import read_info
from measuring import (
    HERE,
    ROOT,
    Section,
    at_least,
    combine,
    compare,
    interleave,
    make_project,
    rate_of,
    run_stages,
    seconds_of,
)

IMAGES = 3000
DATASET = "cats_and_dogs_small"
RECIPE = "cats_vs_dogs_augmented"
TRANSFORMED = {"photographs": 600, "digits": 6000}
OPPONENTS = HERE / "opponents"

KERAS = "Keras `image_dataset_from_directory`"
PREPROCESS = "`preprocess`, which also hashes and writes"
READ = "records read to NumPy arrays, one process"
GENERATOR = "Keras `ImageDataGenerator`"
BATCHES = "records to batches, all 30 epochs of a training, reading included"
TRANSFORMS = "Keras `ImageDataGenerator`, only transforms of arrays"
AUGMENT = "`augment`, which also reads and writes records"


def compare_photographs(mirror: Path) -> Section:
    """Measure each step from photographs to batches, in images a second."""
    with tempfile.TemporaryDirectory() as scratch:
        files = Path(scratch) / "files"
        with zipfile.ZipFile(mirror / DATASET / f"{DATASET}.zip") as archive:
            archive.extractall(files)
        photographs = make_project(Path(scratch) / "photographs", recipe=RECIPE)
        plain = make_project(Path(scratch) / "plain", recipe=RECIPE, changes={"augment.copies": 0})
        digits = make_project(
            Path(scratch) / "digits",
            recipe=RECIPE,
            changes={
                "dataset": "mnist",
                "preprocess.height_px": 28,
                "preprocess.width_px": 28,
                "preprocess.channels": 1,
                "augment.copies": 4,
            },
        )
        for project, folder in ((photographs, DATASET), (plain, DATASET), (digits, "mnist")):
            shutil.copytree(mirror / folder, project / "data" / "raw")
        for project in (plain, digits):
            run_stages(project, "preprocess")
        run_stages(plain, "augment")

        sections = [
            _compare_reading(files / DATASET, photographs),
            _compare_batches(files / DATASET / "train", plain, photographs),
            _compare_transforms(photographs, digits),
        ]
    return combine(sections)


def _compare_reading(files: Path, project: Path) -> Section:
    opponent = OPPONENTS / "image_dataset_from_directory.py"

    def whole(*command: str | Path) -> float:
        return IMAGES / seconds_of(*command, cwd=project)

    wholes = interleave(
        {
            KERAS: partial(whole, opponent, files),
            PREPROCESS: partial(whole, ROOT / "src" / "preprocess.py"),
        }
    )
    parts = interleave(
        {
            KERAS: partial(rate_of, opponent, files, cwd=project),
            f"{PREPROCESS}, the start of its second process counted": partial(
                rate_of, HERE / "timed.py", "preprocess", cwd=project
            ),
            READ: partial(rate_of, HERE / "timed.py", "read", cwd=project),
        }
    )
    what = f"{IMAGES:,} photographs to 150 x 150 x 3, images/s"
    table, ratios = compare(what, "from command to end", wholes)
    without, ratios_without = compare(what, "time of imports left out", parts)
    named = "`preprocess`, photographs, against `image_dataset_from_directory`"
    return Section(
        [table, without],
        [
            at_least(f"{named}, from command to end", 1.3, ratios[PREPROCESS]),
            at_least(f"{named}, time of imports left out", 1.3, list(ratios_without.values())[1]),
        ],
    )


def _compare_batches(files: Path, plain: Path, augmented: Path) -> Section:
    run_stages(augmented, "augment")
    opponent = OPPONENTS / "image_data_generator.py"
    tables, targets = [], []
    for kind, project, goal in (("plain", plain, 20), ("augmented", augmented, 60)):
        rates = interleave(
            {
                GENERATOR: partial(rate_of, opponent, kind, files, cwd=project),
                BATCHES: partial(rate_of, HERE / "timed.py", "batches", cwd=project),
            }
        )
        name = "without" if kind == "plain" else "with"
        table, ratios = compare(
            f"photographs to batches of 32, {name} augmentation", "images/s", rates
        )
        tables.append(table)
        what = f"input pipeline against `ImageDataGenerator`, {name} augmentation"
        targets.append(at_least(what, goal, ratios[BATCHES]))
    return Section(tables, targets)


def _compare_transforms(photographs: Path, digits: Path) -> Section:
    tables, targets = [], []
    for name, project in (("photographs", photographs), ("digits", digits)):
        info = read_info(project / "data" / "records")
        batches = Records.open(project / "data" / "records").read("train")
        some: list[np.ndarray] = []
        while sum(map(len, some)) < TRANSFORMED[name]:
            some.append(next(batches).images)
        np.save(project / "some.npy", np.concatenate(some)[: TRANSFORMED[name]])
        rates = interleave(
            {
                TRANSFORMS: partial(
                    rate_of, OPPONENTS / "image_data_generator.py", "transforms", "some.npy",
                    cwd=project,
                ),
                AUGMENT: partial(rate_of, HERE / "timed.py", "augment", cwd=project),
            }
        )  # fmt: skip
        shape = " x ".join(map(str, info.image_shape))
        table, ratios = compare(f"{name} transformed, {shape}", "images/s", rates)
        tables.append(table)
        what = f"`augment`, {shape}, against the transforms of `ImageDataGenerator`"
        targets.append(at_least(what, 5, ratios[AUGMENT]))
    return Section(tables, targets)
