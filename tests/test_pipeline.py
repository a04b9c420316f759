"""The whole graph through DVC, in a clone of the project, on small real data."""

import json
import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import yaml
from conftest import ROOT, hash_file
from dvc.repo import Repo
from PIL import Image

from imgpipe.params import read_yaml

pytestmark = pytest.mark.e2e

STAGES = ["fetch", "preprocess", "augment", "train", "evaluate", "plot"]
PICTURES = {
    "activation_maps", "augmentation", "class_scores", "confusion", "feature_maps", "kernels",
    "learning_curves", "mistakes", "pixel_numbers", "reliability", "roc", "samples",
}  # fmt: skip


def git(folder: Path, *arguments: str) -> str:
    return subprocess.run(
        ["git", *arguments], cwd=folder, check=True, capture_output=True, text=True
    ).stdout


def make_copy(folder: Path) -> Path:
    """Copy the files that git tracks, or would, into a repository of their own."""
    listed = git(ROOT, "ls-files", "-z", "--cached", "--others", "--exclude-standard")
    for name in filter(None, listed.split("\0")):
        if (ROOT / name).is_file():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, folder / name)
    git(folder, "init", "--quiet")
    git(folder, "config", "user.name", "test")  # `dvc exp run` asks for them
    git(folder, "config", "user.email", "test@localhost")
    git(folder, "add", "--all")
    git(folder, "commit", "--quiet", "--message", "copy")
    return folder


def dvc(folder: Path, *arguments: str, **environment: str) -> str:
    result = subprocess.run(
        ["dvc", *arguments],
        cwd=folder,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 0, result.stdout + result.stderr
    return result.stdout + result.stderr


def stages_run(output: str) -> list[str]:
    return [
        line.split("'")[1] for line in output.splitlines() if line.startswith("Running stage '")
    ]


def set_leaf(folder: Path, dotted: str, leaf: Any, file: str = "params.yaml") -> None:
    value = read_yaml(folder / file)
    section = value
    *path, last = dotted.split(".")
    for key in path:
        section = section[key]
    section[last] = leaf
    (folder / file).write_text(yaml.safe_dump(value, sort_keys=False))


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the project in which the pipeline has run, quickly, on some of the digits."""
    folder = make_copy(tmp_path_factory.mktemp("project"))
    set_leaf(folder, "preprocess.max_per_class", 60)
    set_leaf(folder, "augment.copies", 1)
    set_leaf(folder, "train.epochs", 8)
    output = dvc(folder, "repro")
    assert stages_run(output) == STAGES
    git(folder, "add", "--all")
    git(folder, "commit", "--quiet", "--message", "small run")
    return folder


def test_every_stage_leaves_what_it_promises(project: Path) -> None:
    scores = json.loads((project / "metrics" / "test.json").read_text())
    assert scores["images"] == 120
    assert 0.5 < scores["accuracy_low"] < scores["accuracy"] < scores["accuracy_high"] <= 1
    predictions = pd.read_csv(project / "data" / "evaluation" / "predictions.csv")
    assert predictions["index"].tolist() == list(range(120))
    assert predictions["identity"].is_unique
    probabilities = predictions[[f"p({digit})" for digit in range(10)]]
    assert probabilities.sum(axis=1).between(1 - 1e-5, 1 + 1e-5).all()
    assert (probabilities.to_numpy().argmax(axis=1) == predictions["predicted"]).all()
    accuracy = (predictions["actual"] == predictions["predicted"]).mean()
    assert scores["accuracy"] == pytest.approx(accuracy)

    history = pd.read_csv(project / "metrics" / "history.csv")
    trained = json.loads((project / "metrics" / "train.json").read_text())
    assert len(history) == trained["epochs"] == 8
    best = history.sort_values("validation_loss").iloc[0]
    assert trained["best_epoch"] == best["epoch"]
    assert "total" in (project / "models" / "layers.txt").read_text()

    pictures = list((project / "metrics" / "plots").iterdir())
    assert {path.stem for path in pictures} == PICTURES
    for path in pictures:
        with Image.open(path) as picture:
            assert np.asarray(picture.convert("L")).std() > 10  # not blank


def test_nothing_is_left_beside_the_outputs(project: Path) -> None:
    assert not list(project.rglob("*.partial"))
    assert git(project, "status", "--porcelain") == ""


def test_unchanged_nothing_runs(project: Path) -> None:
    output = dvc(project, "repro")
    assert stages_run(output) == []
    assert "Data and pipelines are up to date." in output


def test_a_changed_value_reruns_its_stages_and_setting_it_back_runs_nothing(project: Path) -> None:
    lock = (project / "dvc.lock").read_text()
    scores = (project / "metrics" / "test.json").read_text()
    set_leaf(project, "train.learning_rate", 0.0005)
    assert stages_run(dvc(project, "repro")) == ["train", "evaluate", "plot"]
    assert (project / "metrics" / "test.json").read_text() != scores
    set_leaf(project, "train.learning_rate", 0.002)
    assert stages_run(dvc(project, "repro")) == []
    assert (project / "metrics" / "test.json").read_text() == scores
    assert (project / "dvc.lock").read_text() == lock


def test_forced_again_the_bytes_are_the_same(project: Path) -> None:
    lock = (project / "dvc.lock").read_text()
    pictures = {path: hash_file(path) for path in (project / "metrics" / "plots").iterdir()}
    assert stages_run(dvc(project, "repro", "--force", "--no-run-cache")) == STAGES
    assert (project / "dvc.lock").read_text() == lock
    assert {path: hash_file(path) for path in (project / "metrics" / "plots").iterdir()} == pictures


@pytest.mark.parametrize("architecture", ["mlp", "resnet"])
def test_other_architectures_run_to_the_last_picture(project: Path, architecture: str) -> None:
    output = dvc(
        project, "exp", "run", "--temp", "--name", f"try-{architecture}",
        "--set-param", f"train.architecture={architecture}", "--set-param", "train.epochs=1",
    )  # fmt: skip
    assert stages_run(output) == ["train", "evaluate", "plot"]
    (ref,) = [
        ref
        for ref in git(project, "for-each-ref", "--format=%(refname)", "refs/exps").split()
        if ref.endswith(f"/try-{architecture}")
    ]
    pictures = git(project, "ls-tree", "-r", "--name-only", ref, "metrics/plots/")
    expected = PICTURES - ({"feature_maps"} if architecture == "mlp" else set())
    assert {Path(line).stem for line in pictures.split()} == expected


def test_another_dataset_is_one_parameter_away(project: Path, mirror: Path) -> None:
    """In a temporary copy, where a relative mirror is still meant from the project."""
    output = dvc(
        project, "exp", "run", "--temp", "--name", "try-fashion",
        "--set-param", "dataset=fashion_mnist", "--set-param", "train.epochs=1",
        DATASET_MIRROR=os.path.relpath(mirror, project),
    )  # fmt: skip
    assert stages_run(output) == STAGES
    assert "fashion_mnist" in dvc(project, "params", "diff", "HEAD", "try-fashion")
    assert "accuracy" in dvc(project, "metrics", "diff", "HEAD", "try-fashion")


def test_a_folder_of_ones_own_as_readme_says(tmp_path: Path) -> None:
    """Five classes of photographs, README's four lines and commands, no code touched."""
    folder = make_copy(tmp_path / "project")
    (entry,) = re.findall(
        r"```yaml\n(leaves:\n.*?)```", (ROOT / "README.md").read_text(), re.DOTALL
    )
    assert len(entry.splitlines()) == 4
    with (folder / "data" / "catalog.yaml").open("a") as stream:
        stream.write("\n" + entry)
    generator = np.random.default_rng(0)
    for number, name in enumerate(("birch", "elm", "maple", "oak", "pine")):
        (folder / "data" / "local" / "leaves" / name).mkdir(parents=True)
        for image in range(30):
            pixels = generator.integers(0, 120, (128, 128, 3), dtype=np.uint8)
            pixels[:, 20 * number : 20 * number + 30] += 130  # a bright stripe tells the class
            path = folder / "data" / "local" / "leaves" / name / f"IMG_{image}.jpg"
            Image.fromarray(pixels).save(path)
    assert git(folder, "status", "--porcelain") == " M data/catalog.yaml\n"
    subprocess.run(["make", "recipe", "NAME=photographs"], cwd=folder, check=True)
    changes = [
        "dataset=leaves",
        "train.epochs=8",
        "preprocess.height_px=64",
        "preprocess.width_px=64",
    ]
    output = dvc(folder, "exp", "run", *(f"--set-param={change}" for change in changes))
    assert stages_run(output) == STAGES
    scores = json.loads((folder / "metrics" / "test.json").read_text())
    assert scores["images"] == 30
    assert scores["accuracy"] > 0.6  # chance is 0.2
    assert {path.stem for path in (folder / "metrics" / "plots").iterdir()} == PICTURES

    (folder / "data" / "local" / "leaves" / "oak" / ".DS_Store").write_bytes(b"litter")
    assert stages_run(dvc(folder, "repro")) == []
    (folder / "data" / "local" / "leaves" / "oak" / "IMG_3.jpg").unlink()
    assert stages_run(dvc(folder, "repro", "preprocess")) == ["fetch", "preprocess"]
    data = json.loads((folder / "metrics" / "data.json").read_text())
    assert data["train"] + data["validation"] + data["test"] == 149

    # In a copy of the project, once DVC takes care of the folder.
    dvc(folder, "add", "data/local/leaves")
    dvc(folder, "repro", "preprocess")
    git(folder, "add", "--all")
    git(folder, "commit", "--quiet", "--message", "leaves")
    output = dvc(folder, "exp", "run", "--temp", "--set-param=preprocess.fit=pad", "preprocess")
    assert stages_run(output) == ["preprocess"]


def test_dvc_draws_the_declared_plots(project: Path, tmp_path: Path) -> None:
    dvc(project, "plots", "show", "--out", (tmp_path / "page").as_posix())
    page = (tmp_path / "page" / "index.html").read_text()
    for title in ("Loss", "Accuracy", "Confusion", "Reliability"):
        assert title in page


def change(leaf: Any) -> Any:
    """Return another value of the same kind; DVC compares it, no stage reads it."""
    match leaf:
        case bool():
            return not leaf
        case int() | float():
            return leaf + 1
        case str():
            return leaf + " other"
        case list():
            return [*leaf, leaf[-1]]
        case _:
            return {**leaf, "other": 1}


def expected_stages(leaf: str) -> set[str]:
    """Which stages a parameter concerns directly; those after them follow from changed outputs."""
    section = leaf.split(".")[0]
    match section:
        case "dataset":
            return {"fetch", "preprocess"}
        case "allow_unpinned":
            return {"fetch"}
        case "threads":
            return {"train", "evaluate"}
        case "architectures":
            return {"train"} if leaf.startswith("architectures.cnn.") else set()
        case _:
            return {section}


def stages_with_changed_params(folder: Path, file: str) -> set[str]:
    with Repo(folder.as_posix()) as repo:
        status = repo.status()
    return {
        stage.rpartition(":")[2]  # a path stands before it when the current folder is another
        for stage, changes in status.items()
        for change in changes
        if isinstance(change, dict) and file in change.get("changed deps", {})
    }


def leaves(value: dict[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, item in value.items():
        if isinstance(item, dict) and item:
            yield from leaves(item, f"{prefix}{key}.")
        else:
            yield prefix + key, item


def test_each_parameter_concerns_exactly_its_stages(tmp_path: Path) -> None:
    folder = make_copy(tmp_path)
    text = (folder / "params.yaml").read_text()
    assert stages_with_changed_params(folder, "params.yaml") == set()
    wrong = {}
    for leaf, value in leaves(read_yaml(folder / "params.yaml")):
        other = {"dataset": "mnist", "train.architecture": "mlp"}.get(leaf, change(value))
        set_leaf(folder, leaf, other)
        found = stages_with_changed_params(folder, "params.yaml")
        if found != expected_stages(leaf):
            wrong[leaf] = found
        (folder / "params.yaml").write_text(text)
    assert wrong == {}


@pytest.mark.parametrize(
    ("field", "stages"),
    [
        ("title", set()),
        ("licence", set()),
        ("citation", set()),
        ("urls", set()),
        ("files", {"fetch"}),
        ("format", {"preprocess"}),
    ],
)
def test_each_catalog_field_concerns_exactly_its_stages(
    tmp_path: Path, field: str, stages: set[str]
) -> None:
    folder = make_copy(tmp_path)
    file = "data/catalog.yaml"
    value = read_yaml(folder / file)["digits"][field]
    set_leaf(folder, f"digits.{field}", change(value), file)
    set_leaf(folder, "mnist.format", "other", file)  # of a dataset that is not chosen
    assert stages_with_changed_params(folder, file) == stages


@pytest.mark.parametrize(
    ("pin", "stages"),
    [
        ("tensorflow", {"train", "evaluate"}),
        ("pillow", {"preprocess"}),
        ("matplotlib", {"plot"}),
        ("scikit-learn", {"evaluate"}),
        ("numpy", {"preprocess", "augment", "train", "evaluate", "plot"}),
        ("pydantic", set(STAGES)),
        ("pytest", set()),
        ("dvc", set()),
    ],
)
def test_each_raised_pin_concerns_exactly_its_stages(
    tmp_path: Path, pin: str, stages: set[str]
) -> None:
    folder = make_copy(tmp_path)
    path = folder / "pyproject.toml"
    text = path.read_text()
    assert f'"{pin}==' in text
    path.write_text(text.replace(f'"{pin}==', f'"{pin}==99'))
    assert stages_with_changed_params(folder, "pyproject.toml") == stages
