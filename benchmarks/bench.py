"""Measure this project beside what a person would otherwise write, and write the results.

Needs DATASET_MIRROR, a folder that holds cats_and_dogs_small/cats_and_dogs_small.zip and MNIST's
archives in mnist. Writes
benchmarks/results.md. Every number is the median of interleaved repetitions, each in a process of
its own; ratios within one run mean more than the numbers themselves.
"""

import os
import sys
from pathlib import Path

from imgpipe.files import replace_file
from measuring import HERE, REPETITIONS, environment
from memory import compare_sizes
from overhead import compare_repro, compare_start
from photographs import DATASET, compare_reading
from training import compare_training


def main() -> None:
    mirror = Path(os.environ.get("DATASET_MIRROR", "")).resolve()
    archive = mirror / DATASET / f"{DATASET}.zip"
    if not archive.is_file():
        sys.exit("error: set DATASET_MIRROR to a folder that holds " + f"{DATASET}/{archive.name}")
    lines = [
        "# Results",
        "",
        f"Written by `make bench`: {environment()}.",
        f"Medians of {REPETITIONS} repetitions, with the lowest and the highest.",
        "",
        "## Photographs",
        "",
        compare_reading(mirror),
        "",
        "## Training",
        "",
        compare_training(mirror),
        "",
        "## Memory",
        "",
        compare_sizes(),
        "",
        "## Start and overhead",
        "",
        compare_start(),
        "",
        compare_repro(),
    ]
    with replace_file(HERE / "results.md") as partial:
        partial.write_text("\n".join(lines) + "\n", encoding="utf-8", newline="\n")
    print("\n".join(lines))


if __name__ == "__main__":
    main()
