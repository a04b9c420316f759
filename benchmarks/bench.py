"""Compare this project with the usual scripts for the same work, and write the results.

Needs DATASET_MIRROR, a folder that holds the archives of mnist, fashion_mnist and
cats_and_dogs_small, each in a folder of its name. Writes benchmarks/results.md and
benchmarks/profiles.md. Every number is the median of interleaved repetitions, each in a new
process. Compare the ratios: the numbers also depend on the load of the machine.
"""

import os
import sys
from pathlib import Path

from cluster import compare_workers
from image_speed import compare_photographs
from imgpipe.core.files import replace_file
from measuring import HERE, REPETITIONS, environment, table
from memory import compare_sizes
from overhead import REPRO_REPETITIONS, compare_overhead
from profiles import profile_epochs, profile_photographs, profile_repro, profile_run
from training import compare_training
from transfer import compare_transfer

DATASETS = ("mnist", "fashion_mnist", "cats_and_dogs_small")


def main() -> None:
    mirror = Path(os.environ.get("DATASET_MIRROR", "")).resolve()
    missing = [name for name in DATASETS if not (mirror / name).is_dir()]
    if missing:
        sys.exit(f"error: set DATASET_MIRROR to a folder that holds {', '.join(missing)}")
    by = f"Written by `make bench`: {environment()}."
    sections = [
        compare_training(mirror),
        compare_transfer(mirror),
        compare_photographs(mirror),
        compare_workers(mirror),
        compare_sizes(),
        compare_overhead(),
    ]
    targets = [target for section in sections for target in section.targets]
    write(
        "results.md",
        [
            "# Results",
            f"{by} Medians of {REPETITIONS} repetitions, of an unchanged `dvc repro`"
            f" {REPRO_REPETITIONS}, with the lowest and the highest. A ratio is to the first line"
            " of its table: the median of the ratios of each repetition. Where the time goes:"
            " [profiles.md](profiles.md).",
            table(
                ["target", "goal", "reached", ""],
                [
                    [target.what, target.goal, target.reached, "" if target.is_met else "missed"]
                    for target in targets
                ],
            ),
            *(part for section in sections for part in (f"## {section.title}", *section.tables)),
        ],
    )
    profiles = [
        profile_repro(),
        profile_photographs(mirror),
        profile_run(),
        profile_epochs(),
    ]
    write("profiles.md", ["# Profiles", f"{by} Medians of {REPETITIONS} repetitions.", *profiles])


def write(name: str, parts: list[str]) -> None:
    text = "\n\n".join(parts) + "\n"
    with replace_file(HERE / name) as partial:
        partial.write_text(text, encoding="utf-8", newline="\n")
    print(text)


if __name__ == "__main__":
    main()
