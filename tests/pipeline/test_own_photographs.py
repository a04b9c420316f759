"""The command `photographs`: from a user's folder to a result, by DVC."""

import json
import os
import sys
from pathlib import Path

import pytest
from forks import import_libraries, run_process
from support import (
    STAGES,
    dvc,
    find_long_lines,
    git,
    hash_files,
    make_copy,
    stages_run,
    tool,
    write_photographs,
)

from imgpipe.core.yaml_file import read_yaml
from imgpipe.reporting.pictures import PICTURES

pytestmark = pytest.mark.e2e

CLASSES = {"größe 1": 12, "it's": 12}


@pytest.fixture(scope="module")
def pets(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A user's folder, with a folder around the classes and a file that is not an image."""
    folder = tmp_path_factory.mktemp("person") / "My pets (2024)"
    write_photographs(folder / "photos", CLASSES, side_px=64)
    (folder / "photos" / "it's" / "clip.mov").write_bytes(b"clip")
    return folder


@pytest.fixture(scope="module")
def output(pets: Path, project: Path) -> str:
    """The output of the command."""
    import_libraries()
    words = ["src/photographs.py", pets, "--name", "my pets"]
    result = run_process([sys.executable, *words], project)
    assert result.returncode == 0, result.stdout + result.stderr  # TensorFlow writes to stderr
    return result.stdout


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the project in its own repository."""
    return make_copy(tmp_path_factory.mktemp("project"))


def test_a_folder_of_photographs_gives_a_result(pets: Path, project: Path, output: str) -> None:
    lines = output.splitlines()
    assert lines[0] == f"{pets}/photos: 24 images in 2 classes"
    assert "data/local/my pets: hard links to your files; data/catalog.yaml: the entry my pets" in (
        lines
    )
    assert stages_run(output) == STAGES
    assert find_long_lines(output) == []
    scores = json.loads((project / "metrics" / "test.json").read_text())
    accuracy, worst, mistakes, card = lines[-4:]
    assert accuracy.startswith(f"my pets: test accuracy {scores['accuracy']:.4f} (95 % interval ")
    assert accuracy.endswith(f", {scores['images']} images)")
    assert worst.startswith(("worst class: größe 1, recall ", "worst class: it's, recall "))
    wrong = round((1 - scores["accuracy"]) * scores["images"])
    suspects = (project / "metrics" / "label_issues.csv").read_text().count("\n") - 1
    assert mistakes == (
        f"mistakes: {wrong} of {scores['images']} images; suspected labels: {suspects}"
    )
    assert card == "model card: metrics/report.html; pictures: metrics/plots"
    assert (project / "metrics" / "report.html").exists()
    drawn = {path.stem for path in (project / "metrics" / "plots").iterdir()}
    assert drawn == set(PICTURES) - {"augmentation"}  # the recipe makes no copies
    assert read_yaml(project / "params.yaml")["dataset"] == "my pets"
    assert json.loads((project / "metrics" / "data.json").read_text())["bad_files"] == []
    for path in (project / "data" / "records").iterdir():
        assert path.stat().st_nlink == 2  # shares the disk with DVC's cache


def test_the_folder_of_the_user_is_unchanged(pets: Path, project: Path, output: str) -> None:
    added = project / "data" / "local" / "my pets"
    for path in pets.rglob("*.jpg"):
        assert path.stat().st_mode & 0o200  # the hard link in the project did not make it read-only
        assert path.samefile(added / path.relative_to(pets / "photos"))
    assert len(hash_files(pets)) == 25


def test_more_photographs_run_the_pipeline_again(project: Path, output: str) -> None:
    again = run_process([sys.executable, "src/photographs.py", "data/local/my pets"], project)
    assert again.stderr.startswith("error: NAME: the dataset my pets already exists in")
    folder = project / "data" / "local" / "my pets" / "it's"
    (folder / ".DS_Store").write_bytes(b"litter")
    assert stages_run(dvc(project, "repro")) == []
    (folder / "new.jpg").write_bytes((folder / "000.jpg").read_bytes() + b"\0")
    assert stages_run(dvc(project, "repro", "preprocess")) == ["fetch", "preprocess"]
    data = json.loads((project / "metrics" / "data.json").read_text())
    assert sum(split["images"] for split in data["splits"]) == 25


@pytest.mark.parametrize("options", [[], ["--no-relink"]])
def test_dvc_does_not_change_files_of_the_user(tmp_path: Path, options: list[str]) -> None:
    """`dvc add` copies files into its cache; their modes and bytes must stay the same."""
    project = make_copy(tmp_path / "project")
    pets = write_photographs(tmp_path / "pets", CLASSES)
    tool(project, "dataset", str(pets))
    before = hash_files(pets)
    modes = {path: path.stat().st_mode for path in pets.rglob("*")}
    dvc(project, "add", *options, "data/local/pets")
    git(project, "add", "--all")
    assert hash_files(pets) == before
    assert {path: path.stat().st_mode for path in pets.rglob("*")} == modes
    cached = {path.stat().st_ino for path in (project / ".dvc" / "cache").rglob("*")}
    assert not cached & {path.stat().st_ino for path in pets.rglob("*")}
    assert os.listdir(project / "data" / "local" / "pets")
