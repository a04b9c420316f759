"""How fast a network learns, beside the usual tutorial script with the same one."""

import os
import statistics
import tempfile
from pathlib import Path

from imgpipe.files import read_json
from measuring import HERE, REPETITIONS, ROOT, make_project, run_python, table

EPOCHS = 5
DATASET = "mnist"
TUTORIAL = "tutorial script: `fit` on arrays, batches of 32"
RECIPE = "recipe `mnist_tutorial_cnn`: batches of 32"
FAST = "the same with batches of 128 in bfloat16, learning rate 0.002 falling to 0"
FASTER = (
    "train.batch_size=128",
    "train.precision=mixed_bfloat16",
    "train.learning_rate=0.002",
    "train.learning_rate_schedule=cosine",
)


def compare_training(mirror: Path) -> str:
    """Return a table: images a second while training on MNIST, validation included."""
    os.environ["DATASET_MIRROR"] = mirror.as_posix()
    results: dict[str, list[tuple[float, float]]] = {TUTORIAL: [], RECIPE: [], FAST: []}
    with tempfile.TemporaryDirectory() as scratch:
        project = make_project(Path(scratch) / "project", {})
        recipe = (ROOT / "recipes" / "mnist_tutorial_cnn.yaml").read_text()
        (project / "params.yaml").write_text(recipe)
        for stage in ("fetch", "preprocess", "augment"):
            run_python(ROOT / "src" / f"{stage}.py", cwd=project)
        for seed in range(1, REPETITIONS + 1):
            rate, _, accuracy = run_python(
                HERE / "opponents" / "mnist_tutorial.py", mirror / DATASET, str(EPOCHS), str(seed),
                cwd=project,
            ).split()  # fmt: skip
            results[TUTORIAL].append((float(rate), float(accuracy)))
            for name, settings in ((RECIPE, ()), (FAST, FASTER)):
                changes = [f"train.seed={seed}", f"train.epochs={EPOCHS}", *settings]
                told = run_python(HERE / "timed.py", "train", *changes, cwd=project).split()
                evaluate = ROOT / "src" / "evaluate.py"
                run_python(evaluate, cwd=project)
                accuracy = read_json(project / "metrics" / "test.json")["accuracy"]
                results[name].append((float(told[-2]) / float(told[-1]), float(accuracy)))
    first = statistics.median(rate for rate, _ in results[TUTORIAL])
    rows = []
    for name, runs in results.items():
        rates, accuracies = [rate for rate, _ in runs], [accuracy for _, accuracy in runs]
        middle = statistics.median(rates)
        rows.append(
            [
                name,
                f"{middle:,.0f} ({min(rates):,.0f} to {max(rates):,.0f})",
                f"{middle / first:.2f}",
                f"{statistics.mean(accuracies):.4f}, sd {statistics.stdev(accuracies):.4f}",
            ]
        )
    return table(
        [f"MNIST, 93,322 parameters, {EPOCHS} epochs", "images/s", "ratio", "test accuracy"], rows
    )
