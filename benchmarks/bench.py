"""Compare this project with the usual scripts for the same work, and write the results.

    python bench.py [SECTION ...]

Without a name, all sections are measured. Needs DATASET_MIRROR, a folder that holds the archives of
mnist, fashion_mnist and cats_and_dogs_small, each in a folder of its name. Writes
benchmarks/results.md and benchmarks/profiles.md, after each section; the other sections of the
pages stay. Every number is the median of interleaved repetitions, each in a new process. Compare
the ratios: the numbers also depend on the load of the machine.
"""

import os
import sys
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from cluster import compare_workers
from exact_cost import compare_arithmetics
from image_speed import compare_photographs
from imgpipe.core.files import replace_file
from imgpipe.core.schema import nearest
from measuring import (
    HERE,
    REPETITIONS,
    Section,
    environment,
    processors_of_others,
    read_usage,
    table,
)
from memory import compare_sizes
from overhead import REPRO_REPETITIONS, compare_overhead
from pages import replace_section
from profiles import profile_epochs, profile_photographs, profile_repro, profile_run
from training import compare_training
from transfer import compare_transfer

DATASETS = ("mnist", "fashion_mnist", "cats_and_dogs_small")
RESULTS, PROFILES = "results.md", "profiles.md"
HEADS = {
    RESULTS: "# Results\n\nWritten by `make bench`, each section by its own run. Medians of"
    f" {REPETITIONS} repetitions, of an unchanged `dvc repro` {REPRO_REPETITIONS}, with the lowest"
    " and the highest. A ratio is to the first line of its table: the median of the ratios of each"
    " repetition. Where the time goes: [profiles.md](profiles.md).",
    PROFILES: "# Profiles\n\nWritten by `make bench`, each section by its own run. Medians of"
    f" {REPETITIONS} repetitions.",
}


@dataclass(frozen=True)
class Measurement:
    """How a section is measured, and where it is written."""

    page: str
    title: str
    measure: Callable[[], Section]


def list_measurements(mirror: Path) -> dict[str, Measurement]:
    """Return the measurements by the names of their sections, in the order of the pages."""
    results, profiles = partial(Measurement, RESULTS), partial(Measurement, PROFILES)
    return {
        "training": results("Training", partial(compare_training, mirror)),
        "exact": results("Exact arithmetic", compare_arithmetics),
        "transfer": results("Transfer learning", partial(compare_transfer, mirror)),
        "images": results("Images", partial(compare_photographs, mirror)),
        "cluster": results("Cluster", partial(compare_workers, mirror)),
        "memory": results("Memory", compare_sizes),
        "overhead": results("Start and overhead", compare_overhead),
        "profile-repro": profiles("Unchanged `dvc repro`", profile_repro),
        "profile-photographs": profiles(
            "`preprocess` of photographs", partial(profile_photographs, mirror)
        ),
        "profile-run": profiles("`make run`", profile_run),
        "profile-epochs": profiles("Fewer epochs in `make run`", profile_epochs),
    }


def main() -> None:
    mirror = Path(os.environ.get("DATASET_MIRROR", "")).resolve()
    measurements = list_measurements(mirror)
    chosen = choose_sections(sys.argv[1:], list(measurements))
    missing = [name for name in DATASETS if not (mirror / name).is_dir()]
    if missing:
        sys.exit(f"error: set DATASET_MIRROR to a folder that holds {', '.join(missing)}")
    machine = environment()
    for name in chosen:
        measurement = measurements[name]
        before = read_usage()
        section = measurement.measure()
        others = processors_of_others(before, read_usage())
        run = (
            f"`make bench SECTIONS={name}`: {machine}. Other programs used {others:.1f} processors."
        )
        write_section(measurement, describe(section, run), measurements.values())


def choose_sections(words: Sequence[str], known: Sequence[str]) -> list[str]:
    """Return the sections that the command names, or all if it names none.

    Raises:
        SystemExit: there is no such section.
    """
    names = [name for word in words if word != "--" for name in word.split()]
    for name in names:
        if name not in known:
            sys.exit(
                f"error: SECTIONS: expected names of sections; found {name!r}"
                f"{nearest(name, known)}; known here: {', '.join(known)}"
            )
    return [name for name in known if name in names] or list(known)


def describe(section: Section, run: str) -> str:
    """Return the text of a section: how it was measured, its targets and its tables."""
    targets = [
        [target.what, target.goal, target.reached, "" if target.is_met else "missed"]
        for target in section.targets
    ]
    listing = [table(["target", "goal", "reached", ""], targets)] if targets else []
    return "\n\n".join([run, *listing, *section.tables])


def write_section(measurement: Measurement, body: str, measurements: Iterable[Measurement]) -> None:
    """Write a section into its page, and print it."""
    path = HERE / measurement.page
    titles = [each.title for each in measurements if each.page == measurement.page]
    old = path.read_text(encoding="utf-8") if path.exists() else ""
    text = replace_section(old, HEADS[measurement.page], titles, measurement.title, body)
    with replace_file(path) as partial_file:
        partial_file.write_text(text, encoding="utf-8", newline="\n")
    print(f"## {measurement.title}\n\n{body}\n", flush=True)


if __name__ == "__main__":
    main()
