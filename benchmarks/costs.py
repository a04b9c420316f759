"""Measure what an image costs in each stage, and what a file costs DVC; print a table.

docs/scale.md calculates with these costs. Needs DATASET_MIRROR, a folder that holds
cats_and_dogs_small. Processor time is the time of all processes together, of one run; the time to
start a stage, which it has with 30 images, does not count.
"""

import io
import os
import shutil
import subprocess
import sys
import tempfile
import time
import zipfile
from functools import partial
from pathlib import Path

from PIL import Image

from imgpipe.core.yaml_file import format_yaml
from imgpipe.records.info import read_info
from measuring import HERE, cpu_seconds_of, make_project, rate_of, run_stages, table, write_params

DATASET = "cats_and_dogs_small"
RECIPE = "photographs"  # 224 x 224 x 3
ARITHMETICS = ("native", "exact")
FEW_PER_CLASS = 10
LARGE_PER_CLASS, LARGE_PX, LARGE_QUALITY = 400, (500, 375), 98
FILES = {"one file of 2 GiB": (1, 2 << 30), "1,000 files of 2 MiB": (1000, 2 << 20)}


def main() -> None:
    mirror = Path(os.environ.get("DATASET_MIRROR", "")).resolve() / DATASET
    if not mirror.is_dir():
        sys.exit(f"error: set DATASET_MIRROR to a folder that holds {DATASET}")
    with tempfile.TemporaryDirectory() as scratch:
        rows = [
            *measure_stages(mirror, Path(scratch)),
            *measure_large_photographs(mirror, Path(scratch)),
            *measure_dvc(Path(scratch)),
        ]
    print(table(["work", "cost"], rows))


def measure_stages(mirror: Path, scratch: Path) -> list[list[str]]:
    """Return the cost of a photograph in each stage."""
    times_s, counts = {}, {}
    for name, limit in (("few", FEW_PER_CLASS), ("all", 0)):
        changes = {"dataset": DATASET, "preprocess.max_per_class": limit, "augment.copies": 1}
        project = make_project(scratch / name, recipe=RECIPE, changes=changes)
        shutil.copytree(mirror, project / "data" / "raw")
        (project / ".dvc").mkdir()  # so that features are stored
        times_s[name] = {
            stage: cpu_seconds_of(partial(run_stages, project, stage))
            for stage in ("preprocess", "augment")
        }
        without_copies = {**changes, "augment.copies": 0}
        write_params(project, recipe=RECIPE, changes=without_copies)
        run_stages(project, "augment")
        for arithmetic in ARITHMETICS:
            changed = {**without_copies, "arithmetic": arithmetic}
            write_params(project, recipe=RECIPE, changes=changed)
            times_s[name][arithmetic] = cpu_seconds_of(partial(run_stages, project, "train"))
        times_s[name]["train again"] = cpu_seconds_of(partial(run_stages, project, "train"))
        splits = read_info(project / "data" / "records").splits
        counts[name] = {split: info.examples for split, info in splits.items()}

    def cost(stage: str, *splits: str) -> float:
        more_s = times_s["all"][stage] - times_s["few"][stage]
        return more_s / sum(counts["all"][name] - counts["few"][name] for name in splits)

    def features_ms(arithmetic: str) -> float:
        splits = ("train", "validation")
        return 1e3 * (cost(arithmetic, *splits) - cost("train again", *splits))

    records = scratch / "all" / "data" / "records"
    images = sum(counts["all"].values())
    archive_bytes = size_of(scratch / "all" / "data" / "raw") / images
    read = rate_of(HERE / "timed.py", "read", cwd=scratch / "all")
    return [
        ["photograph in the archive", f"{archive_bytes:,.0f} bytes"],
        ["record of 224 x 224 x 3", f"{size_of(records) / images:,.0f} bytes"],
        ["`preprocess`", f"{1e3 * cost('preprocess', *counts['all']):.2f} ms of one core"],
        ["`augment`, a copy", f"{1e3 * cost('augment', 'train'):.2f} ms of one core"],
        *(
            [
                f"features of EfficientNet-Lite0, {arithmetic} arithmetic",
                f"{features_ms(arithmetic):.1f} ms of one core",
            ]
            for arithmetic in ARITHMETICS
        ),
        ["reading and checking records", f"{1e3 / read:.3f} ms of one core"],
    ]


def measure_large_photographs(mirror: Path, scratch: Path) -> list[list[str]]:
    """Return the cost of a photograph of the size that photographs of ImageNet have."""
    times_s, sizes = {}, {}
    for count in (FEW_PER_CLASS, LARGE_PER_CLASS):
        changes = {"dataset": "large"}
        project = make_project(scratch / f"large-{count}", recipe=RECIPE, changes=changes)
        (project / "data" / "raw").mkdir()
        with (
            zipfile.ZipFile(mirror / f"{DATASET}.zip") as source,
            zipfile.ZipFile(project / "data" / "raw" / "large.zip", "w") as target,
        ):
            names = [name for name in source.namelist() if name.endswith(".jpg")]
            for label in ("cats", "dogs"):
                for name in [name for name in names if f"/{label}/" in name][:count]:
                    with Image.open(source.open(name)) as picture:
                        stream = io.BytesIO()
                        picture.resize(LARGE_PX).save(stream, "JPEG", quality=LARGE_QUALITY)
                    target.writestr(f"{label}/{Path(name).name}", stream.getvalue())
        entry = {"title": "", "files": "data/local/large", "format": {"kind": "image_folder"}}
        (project / "data" / "catalog.yaml").write_text(format_yaml({"large": entry}))
        sizes[count] = size_of(project / "data" / "raw") / (2 * count)
        times_s[count] = cpu_seconds_of(partial(run_stages, project, "preprocess"))
    images = 2 * (LARGE_PER_CLASS - FEW_PER_CLASS)
    cost_ms = 1e3 * (times_s[LARGE_PER_CLASS] - times_s[FEW_PER_CLASS]) / images
    return [
        [
            f"`preprocess`, 500 x 375 pixels, {sizes[LARGE_PER_CLASS]:,.0f} bytes",
            f"{cost_ms:.2f} ms of one core",
        ]
    ]


def measure_dvc(scratch: Path) -> list[list[str]]:
    """Return the time that DVC takes to add files, and to find that they did not change."""
    rows = []
    for name, (count, size_bytes) in FILES.items():
        folder = scratch / f"files-{count}"
        (folder / "data").mkdir(parents=True)
        for number in range(count):
            (folder / "data" / str(number)).write_bytes(os.urandom(1 << 20) * (size_bytes >> 20))
        run_dvc(folder, "init", "--no-scm", "--quiet")
        empty_s = seconds_of_dvc(folder, "status")
        added_s = seconds_of_dvc(folder, "add", "data") - empty_s
        status_s = seconds_of_dvc(folder, "status") - empty_s
        total_gb = count * size_bytes / 1e9
        rows.append([f"`dvc add`, {name}", f"{added_s / total_gb:.1f} s for each GB"])
        if count > 1:
            rows.append([f"`dvc status`, {name}", f"{1e3 * status_s / count:.1f} ms for each file"])
    return rows


def run_dvc(folder: Path, *arguments: str) -> None:
    command = [sys.executable, "-m", "dvc", *arguments]
    subprocess.run(command, cwd=folder, check=True, capture_output=True)


def seconds_of_dvc(folder: Path, *arguments: str) -> float:
    start_s = time.perf_counter()
    run_dvc(folder, *arguments)
    return time.perf_counter() - start_s


def size_of(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


if __name__ == "__main__":
    main()
