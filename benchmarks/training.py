"""Compare the training speed with the usual tutorial script for the same network."""

import os
import statistics
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from imgpipe.core.files import read_json
from measuring import (
    HERE,
    REPETITIONS,
    ROOT,
    Section,
    at_least,
    at_most,
    combine,
    figure,
    make_project,
    mean_and_sd,
    middle_and_range,
    rate_of,
    ratio_of,
    run_python,
    run_stages,
    seconds_of,
    table,
    write_params,
)

EPOCHS = 5
FASTER: dict[str, Any] = {
    "arithmetic": "native",
    "training.batch_size": 128,
    "training.precision": "mixed_bfloat16",
    "training.learning_rate": 0.002,
    "training.learning_rate_schedule": "cosine",
}
# Chosen by validation accuracy, which is 0.915 to 0.919 with three seeds.
TO_90_PERCENT = FASTER | {"training.learning_rate": 0.004, "training.epochs": 3}
MNIST = "mnist_tutorial_cnn"
FASHION = "fashion_mnist_cnn"
PHOTOGRAPHS = "cats_vs_dogs_augmented"

# A measurement takes a seed; it returns a rate or a time, and the test accuracy.
Measure = Callable[[int], tuple[float, float]]


def compare_training(mirror: Path) -> Section:
    """Measure training itself: images per second, time to an accuracy, waiting, arithmetic."""
    os.environ["DATASET_MIRROR"] = mirror.as_posix()
    with tempfile.TemporaryDirectory() as scratch:
        mnist = make_project(Path(scratch) / "mnist", recipe=MNIST)
        fashion = make_project(Path(scratch) / "fashion", recipe=FASHION)
        photographs = make_project(Path(scratch) / "photographs", recipe=PHOTOGRAPHS)
        for project in (mnist, fashion, photographs):
            run_stages(project, "fetch", "preprocess", "augment")
        throughput, fast_rate = _compare_throughput(mirror / "mnist", mnist)
        sections = [
            throughput,
            _compare_time_to_accuracy(mirror / "fashion_mnist", fashion),
            _compare_waiting(mnist, photographs, fast_rate),
            _compare_arithmetic(mnist, fast_rate),
        ]
    return combine(sections)


def _compare_throughput(archives: Path, project: Path) -> tuple[Section, float]:
    def tutorial(seed: int) -> tuple[float, float]:
        images, fit_s, _, accuracy = _run_tutorial("93322", archives, seed)
        return images / fit_s, accuracy

    def stage(changes: Mapping[str, Any]) -> Measure:
        def measure(seed: int) -> tuple[float, float]:
            seeded = {"training.seed": seed, "training.epochs": EPOCHS, **changes}
            write_params(project, recipe=MNIST, changes=seeded)
            rate = rate_of(HERE / "timed.py", "train", cwd=project)
            return rate, _test_accuracy(project)

        return measure

    values, listing = _compare(
        f"MNIST, 93,322 parameters, {EPOCHS} epochs",
        "images/s",
        {
            "tutorial script: `fit` on arrays, batches of 32": tutorial,
            f"recipe `{MNIST}`: batches of 32, native arithmetic": stage({}),
            "the same with exact arithmetic": stage({"arithmetic": "exact"}),
            "native, with batches of 128 in bfloat16, learning rate 0.002 falling": stage(FASTER),
        },
    )
    what = "training throughput, MNIST, against the tutorial script"
    tutorial_rates, _, exact_rates, fast_rates = values
    targets = [
        at_least(f"{what}, batches of 128 in bfloat16", 1.8, ratio_of(fast_rates, tutorial_rates)),
        at_least(f"{what}, exact arithmetic", 0.9, ratio_of(exact_rates, tutorial_rates)),
    ]
    return Section([listing], targets), statistics.median(fast_rates)


def _compare_time_to_accuracy(archives: Path, project: Path) -> Section:
    def tutorial(seed: int) -> tuple[float, float]:
        _, _, whole_s, accuracy = _run_tutorial("402442", archives, seed)
        return whole_s, accuracy

    def stage(seed: int) -> tuple[float, float]:
        write_params(project, recipe=FASHION, changes={"training.seed": seed, **TO_90_PERCENT})
        seconds = seconds_of(ROOT / "src" / "train.py", cwd=project)
        return seconds, _test_accuracy(project)

    values, listing = _compare(
        "Fashion-MNIST, 402,442 parameters, start-up included",
        "seconds",
        {
            f"tutorial script, {EPOCHS} epochs, batches of 32": tutorial,
            "`train`, 3 epochs, batches of 128 in bfloat16, learning rate 0.004 falling": stage,
        },
    )
    what = "time to 0.90 on Fashion-MNIST, whole `train`, against the tutorial script"
    return Section([listing], [at_most(what, 0.5, ratio_of(values[1], values[0]))])


def _compare_waiting(mnist: Path, photographs: Path, fast_rate: float) -> Section:
    write_params(mnist, recipe=MNIST, changes=FASTER)
    mnist_rate = _batch_rate(mnist)
    photograph_rate = _batch_rate(photographs)
    write_params(photographs, recipe=PHOTOGRAPHS, changes={"training.epochs": 2})
    rates = {
        "MNIST, 93,322 parameters, batches of 128 in bfloat16": (mnist_rate, fast_rate),
        f"photographs, recipe `{PHOTOGRAPHS}`": (
            photograph_rate,
            rate_of(HERE / "timed.py", "train", cwd=photographs),
        ),
    }
    shares = {name: trained / taken for name, (taken, trained) in rates.items()}
    listing = table(
        ["if training had to wait for every batch", "only batches, images/s", "training", "share"],
        [
            [name, figure(taken), figure(trained), f"{100 * shares[name]:.1f} %"]
            for name, (taken, trained) in rates.items()
        ],
    )
    what = "share of a step spent waiting for data, %, at most"
    return Section([listing], [at_most(what, 2, 100 * max(shares.values()))])


def _batch_rate(project: Path) -> float:
    """Return the images per second of an input pipeline without training."""
    return statistics.median(
        rate_of(HERE / "timed.py", "epochs", cwd=project) for _ in range(REPETITIONS)
    )


def _compare_arithmetic(mnist: Path, fast_rate: float) -> Section:
    printed = run_python(HERE / "arithmetic.py", FASTER["training.precision"], cwd=mnist)
    an_image, peak_s = map(float, printed.splitlines()[-1].split())
    used_s = an_image * fast_rate
    listing = table(
        ["floating-point operations in bfloat16", "10⁹/s", "ratio"],
        [
            ["product of two 4,096 x 4,096 matrices", figure(peak_s / 1e9), "1.00"],
            [
                f"training, MNIST, {an_image / 1e6:.1f} · 10⁶ an image, batches of 128",
                figure(used_s / 1e9),
                f"{used_s / peak_s:.2f}",
            ],
        ],
    )
    return Section([listing], [])


def _run_tutorial(parameters: str, archives: Path, seed: int) -> Sequence[float]:
    script = HERE / "opponents" / "tutorial.py"
    printed = run_python(script, parameters, archives, str(EPOCHS), str(seed), cwd=ROOT)
    return [float(number) for number in printed.splitlines()[-1].split()]


def _test_accuracy(project: Path) -> float:
    run_stages(project, "evaluate")
    return float(read_json(project / "metrics" / "test.json")["accuracy"])


def _compare(what: str, unit: str, measures: dict[str, Measure]) -> tuple[list[list[float]], str]:
    """Run each measurement with every seed, in turn; return the rates or times, and a table."""
    results: dict[str, list[tuple[float, float]]] = {name: [] for name in measures}
    for seed in range(1, REPETITIONS + 1):
        for name, measure in measures.items():
            results[name].append(measure(seed))
    values = [[value for value, _ in runs] for runs in results.values()]
    rows = []
    for measured, (name, runs) in zip(values, results.items(), strict=True):
        rows.append(
            [
                name,
                middle_and_range(measured),
                f"{ratio_of(measured, values[0]):.2f}",
                mean_and_sd([accuracy for _, accuracy in runs]),
            ]
        )
    return values, table([what, unit, "ratio", f"test accuracy, n = {REPETITIONS}"], rows)
