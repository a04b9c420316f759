"""The benchmarks: projects with a recipe's values, ratios and targets, and the measured scripts."""

import json
import re
import subprocess
import sys
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from forks import import_libraries, run_process
from support import ROOT, run

from imgpipe.core.files import read_json
from imgpipe.experiments.recipes import load_recipe
from imgpipe.settings.params import load_params

BENCHMARKS = ROOT / "benchmarks"


@pytest.fixture(autouse=True)
def _importable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(BENCHMARKS)


def test_a_project_has_the_values_of_its_recipe_and_the_changes(tmp_path: Path) -> None:
    from measuring import make_project, write_params

    project = make_project(
        tmp_path / "project",
        recipe="mnist_cnn",
        changes={"training.epochs": 2, "dataset": "digits"},
    )
    expected = load_recipe("mnist_cnn", ROOT / "recipes")
    expected["dataset"] = "digits"
    expected["training"]["epochs"] = 2
    assert load_params(project / "params.yaml").model_dump(mode="json") == expected
    write_params(project)
    defaults = load_recipe("defaults", ROOT / "recipes")
    assert load_params(project / "params.yaml").model_dump(mode="json") == defaults
    with pytest.raises(KeyError, match=r"training\.epoch"):
        write_params(project, changes={"training.epoch": 2})


def test_the_changes_that_are_measured_are_valid(tmp_path: Path) -> None:
    from measuring import make_project
    from training import FASHION, FASTER, MNIST, TO_90_PERCENT

    for recipe, changes in ((MNIST, FASTER), (FASHION, TO_90_PERCENT)):
        project = make_project(tmp_path / recipe, recipe=recipe, changes=changes)
        assert load_params(project / "params.yaml").training.precision == "mixed_bfloat16"


def test_a_ratio_is_of_values_of_the_same_repetition() -> None:
    from measuring import compare, interleave, ratio_of

    assert ratio_of([2, 8, 30], [1, 2, 3]) == 4  # the ratio of the medians is also 4
    assert ratio_of([2, 9, 3], [1, 3, 6]) == 2  # the ratio of the medians is 1
    numbers: Iterator[float] = iter([1, 10, 2, 40, 3, 30, 4, 40])
    values = interleave({"a": lambda: next(numbers), "b": lambda: next(numbers)}, repetitions=4)
    assert values == {"a": [1, 2, 3, 4], "b": [10, 40, 30, 40]}
    listing, ratios = compare("what", "s", values)
    assert ratios == {"a": 1, "b": 10}
    assert "| b | 35.00 (10.00 to 40.00) | 10.00 |" in listing


def test_a_target_is_not_reached_by_rounding() -> None:
    from measuring import at_least, at_most

    assert (at_most("x", 1.35, 1.351).reached, at_most("x", 1.35, 1.351).is_met) == ("1.36", False)
    assert (at_least("x", 2, 1.999).reached, at_least("x", 2, 1.999).is_met) == ("1.99", False)
    assert at_most("x", 1.35, 1.35).is_met
    assert at_least("x", 2, 2).is_met


def test_cpu_time_is_that_of_the_processes() -> None:
    from measuring import cpu_seconds_of

    def work(code: str) -> float:
        return cpu_seconds_of(lambda: subprocess.run([sys.executable, "-c", code], check=True))

    busy = "import time; end = time.process_time() + 0.5\nwhile time.process_time() < end: pass"
    # Both include the start of Python, which takes longer on some machines.
    assert work(busy) >= 0.5
    assert work(busy) - work("import time; time.sleep(0.5)") > 0.25


def test_fewer_epochs_are_compared_seed_by_seed() -> None:
    from profiles import describe_fewer_epochs

    def runs(*losses: float) -> list[dict[str, float]]:
        return [{"validation_loss": loss, "validation_accuracy": 1 - loss} for loss in losses]

    section = describe_fewer_epochs({6: runs(0.1, 0.3), 3: runs(0.2, 0.4)}, "cosine")
    assert section.tables[0].splitlines() == [
        "| epochs | validation loss, n = 2 | change from 6 epochs | validation accuracy, n = 2 |"
        " change from 6 epochs |",
        "| --- | --- | --- | --- | --- |",
        "| 6 | 0.2000, sd 0.1414 |  | 0.8000, sd 0.1414 |  |",
        "| 3 | 0.3000, sd 0.1414 | 0.1000, sd 0.0000 | 0.7000, sd 0.1414 | -0.1000, sd 0.0000 |",
    ]


def test_the_time_to_an_accuracy_is_compared_seed_by_seed() -> None:
    from transfer import COLD, FEATURES, FIT, NATIVE, WARM, describe

    section = describe(
        {
            FIT: [(90.0, 0.99, "3"), (80.0, 0.97, "10, not reached"), (60.0, 1.0, "2")],
            FEATURES: [(45.0, 0.99, "9"), (40.0, 0.98, "4"), (30.0, 1.0, "5")],
            NATIVE: [(9.0, 0.99, ""), (8.0, 0.98, ""), (5.0, 1.0, "")],
            COLD: [(30.0, 0.99, ""), (20.0, 0.98, ""), (30.0, 1.0, "")],
            WARM: [(9.0, 0.99, ""), (8.0, 0.98, ""), (6.0, 1.0, "")],
        }
    )
    rows = section.tables[0].splitlines()[2:]
    assert rows[0].endswith("| 80.00 (60.00 to 90.00) | 1.00 | 0.9867 | 3; 10, not reached; 2 |")
    assert rows[3].endswith("| 30.00 (20.00 to 30.00) | 0.33 | 0.9900 |  |")
    assert [(target.reached, target.is_met) for target in section.targets] == [
        ("10.00", True),
        ("3.00", True),
    ]


def test_the_cost_of_exact_arithmetic_is_compared_run_by_run() -> None:
    from exact_cost import describe

    exact = [{"cnn": 20.0, "features": 60.0}, {"cnn": 30.0, "features": 50.0}]
    native = [{"cnn": 10.0, "features": 20.0}, {"cnn": 10.0, "features": 25.0}]
    section = describe("AVX2", exact, native, has_target=True)
    assert section.tables[0].splitlines()[2:] == [
        "| cnn | 10.00 (10.00 to 10.00) | 25.00 (20.00 to 30.00) | 2.50 |",
        "| features | 22.50 (20.00 to 25.00) | 55.00 (50.00 to 60.00) | 2.50 |",
    ]
    assert all("AVX2" in target.what and target.is_met for target in section.targets)
    assert not describe("AVX-512", exact, native, has_target=False).targets


def test_a_section_is_replaced_and_the_others_stay() -> None:
    from pages import replace_section, split_page

    titles = ["Training", "Images", "Memory"]
    page = "# Results\n\nold head\n\n## Removed\n\nx\n\n## Memory\n\n| a |\n\n| b |\n"
    page = replace_section(page, "# Results\n\nhead", titles, "Training", "first")
    assert page == "# Results\n\nhead\n\n## Training\n\nfirst\n\n## Memory\n\n| a |\n\n| b |\n"
    page = replace_section(page, "# Results\n\nhead", titles, "Memory", "second")
    assert split_page(page) == {"Training": "first", "Memory": "second"}
    assert replace_section("", "# X", titles, "Images", "new") == "# X\n\n## Images\n\nnew\n"


def test_the_environment_names_instructions_and_versions() -> None:
    from measuring import INSTRUCTION_SETS, environment

    text = environment()
    assert any(f" with {name}, " in text for name in INSTRUCTION_SETS.values())
    assert re.search(r"tensorflow \d+\.\d+\.\d+, keras \d", text)


def test_sections_are_chosen_by_name(capsys: pytest.CaptureFixture[str]) -> None:
    from bench import choose_sections, list_measurements

    known = list(list_measurements(Path()))
    assert choose_sections(["--", "overhead exact"], known) == ["exact", "overhead"]
    assert choose_sections(["--", ""], known) == choose_sections([], known) == known
    with pytest.raises(
        SystemExit, match=r"^error: SECTIONS: .* found 'exakt' \(did you mean 'exact'"
    ):
        choose_sections(["exakt"], known)


def test_the_processors_that_other_programs_use_are_counted() -> None:
    from measuring import Usage, processors_of_others, read_usage

    before, after = Usage(100.0, 1000.0, 20.0), Usage(110.0, 1018.0, 25.0)
    assert processors_of_others(before, after) == pytest.approx(1.3)
    assert processors_of_others(before, before._replace(clock_s=101.0, own_s=20.1)) == 0
    start = read_usage()
    busy = "import time; end = time.process_time() + 0.5\nwhile time.process_time() < end: pass"
    subprocess.run([sys.executable, "-c", busy], check=True)
    end = read_usage()
    assert end.own_s - start.own_s >= 0.5
    assert end.busy_s - start.busy_s >= 0.4  # Linux counts in hundredths of a second


@pytest.mark.e2e
@pytest.mark.slow
@pytest.mark.parametrize("arithmetic", ["exact", "native"])
def test_the_steps_of_each_network_are_timed(arithmetic: str, tmp_path: Path) -> None:
    command = [sys.executable, BENCHMARKS / "step_times.py", arithmetic]
    result = run_process(command, tmp_path, {"IMGPIPE_WORKERS": "1"})
    assert result.returncode == 0, result.stderr
    times = json.loads(result.stdout.splitlines()[-1])
    assert len(times) == 6
    assert all(value > 0 for value in times.values())


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small project with records: 70 digits for training, two epochs."""
    folder = tmp_path_factory.mktemp("benchmark") / "project"
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(BENCHMARKS)
        from measuring import make_project

        make_project(
            folder,
            changes={
                "preprocess.max_per_class": 8, "preprocess.test_frac": 0.012,
                "augment.copies": 1, "training.epochs": 2,
            },
        )  # fmt: skip
    for stage in ("fetch", "preprocess", "augment"):
        run(folder, stage)
    return folder


def run_benchmark(project: Path, script: str, *arguments: str) -> list[str]:
    """Run a script of the benchmarks; return the words that it prints in its last line."""
    command = [sys.executable, BENCHMARKS / f"{script}.py", *arguments]
    result = run_process(command, project, {"PYTHONWARNINGS": "ignore"})  # of Keras's own loop
    assert result.returncode == 0, result.stderr
    return (result.stdout.splitlines() or [""])[-1].split()


def examples(project: Path, split: str) -> int:
    return int(read_json(project / "data" / "records" / "info.json")["splits"][split]["examples"])


@pytest.mark.parametrize("work", ["preprocess", "augment", "read"])
def test_work_without_tensorflow_is_timed(work: str, project: Path) -> None:
    images, seconds = run_benchmark(project, "timed", work)
    train = examples(project, "train")
    total = train + examples(project, "validation") + examples(project, "test")
    assert int(images) == (train if work == "augment" else total)
    assert float(seconds) > 0


@pytest.mark.e2e
@pytest.mark.parametrize("work", ["batches", "epochs", "train"])
def test_the_epochs_of_a_training_are_timed(work: str, project: Path) -> None:
    import_libraries()
    images, seconds = run_benchmark(project, "timed", work)
    assert int(images) == 2 * examples(project, "train")
    assert float(seconds) > 0


@pytest.mark.e2e
def test_the_first_step_is_reached_and_not_taken(project: Path) -> None:
    before = sorted(project.rglob("*"))
    run_benchmark(project, "first_step")
    assert sorted(project.rglob("*")) == before


@pytest.mark.e2e
@pytest.mark.slow
def test_the_arithmetic_of_a_step_is_counted(project: Path) -> None:
    operations, peak = run_benchmark(project, "arithmetic", "mixed_bfloat16")
    # The network of the tutorial, by hand: outputs x kernel x inputs of each layer.
    first = 2 * 26 * 26 * 32 * 9
    rest = 2 * (11 * 11 * 64 * 9 * 32 + 3 * 3 * 64 * 9 * 64 + 576 * 64 + 64 * 10)
    assert int(operations) == 2 * first + 3 * rest
    assert float(peak) > 1e9


@pytest.mark.e2e
@pytest.mark.slow
@pytest.mark.parametrize("kind", ["fit", "features"])
def test_the_script_of_the_guide_stops_at_an_accuracy(kind: str, tmp_path: Path) -> None:
    images = np.zeros((8, 32, 32, 3), np.uint8)
    labels = np.arange(8) % 2
    images[labels == 1, :, :, 0] = 255
    for split in ("train", "validation"):
        np.savez(tmp_path / f"{split}.npz", images=images, labels=labels)

    def epochs_to(accuracy: str) -> int:
        words = run_benchmark(
            tmp_path, "opponents/transfer_learning", kind, str(tmp_path), accuracy, "3", "1"
        )
        assert float(words[1]) > 0
        assert 0 <= float(words[2]) <= 1
        return int(words[0])

    assert epochs_to("0") == 1
    assert epochs_to("1.1") == 3


@pytest.mark.tf
def test_the_network_of_the_guide_has_the_features_of_the_recipe(
    request: pytest.FixtureRequest,
) -> None:
    from imgpipe.nn.common import runtime  # first: it silences TensorFlow's start
    from imgpipe.nn.transfer.weights import build_pretrained
    from opponents.transfer_learning import build_backbone
    from transfer import RECIPE

    # With float64, the difference depends on the rounded weights only, not on the processor.
    set_policy = runtime.keras.config.set_dtype_policy  # type: ignore[attr-defined]
    set_policy("float64")
    request.addfinalizer(partial(set_policy, "float32"))
    name = load_recipe(RECIPE, ROOT / "recipes")["network"]
    model = build_pretrained(name, image_shape=(64, 64, 3), classes=2)
    layer = model.get_layer("features")
    features = runtime.keras.Model(model.input, layer.output)  # type: ignore[attr-defined]
    images = np.random.default_rng(1).integers(0, 256, (2, 64, 64, 3)).astype(np.uint8)
    maps = np.asarray(build_backbone((64, 64, 3))(images, training=False))
    assert maps.std() > 0.1
    np.testing.assert_allclose(maps.mean(axis=(1, 2)), np.asarray(features(images)), atol=1e-4)
