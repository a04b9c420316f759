"""The commands `dataset` and `photographs`: what they print, write and refuse, before a run."""

import csv
import json
import shutil
from pathlib import Path

import pytest
from support import ROOT, attempt, hash_files, run, set_leaf, write_photographs

from imgpipe.core.yaml_file import read_yaml
from imgpipe.datasets.catalog import load_entry
from imgpipe.records.folders import Records
from imgpipe.records.info import read_info

PETS = {"cats": 6, "dogs": 5}


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A project without DVC; beside it the folder `my pets`."""
    folder = tmp_path / "project"
    (folder / "data" / "local").mkdir(parents=True)
    shutil.copy(ROOT / "data" / "catalog.yaml", folder / "data")
    shutil.copytree(ROOT / "recipes", folder / "recipes")
    shutil.copy(ROOT / "recipes" / "defaults.yaml", folder / "params.yaml")
    write_photographs(tmp_path / "my pets", PETS)
    return folder


def test_a_dataset_is_made_of_a_folder(project: Path) -> None:
    pets = project.parent / "my pets"
    (pets / "dogs" / "clip.mov").write_bytes(b"clip")
    before = hash_files(pets)
    size_bytes = sum(path.stat().st_size for path in pets.rglob("*.jpg"))
    assert run(project, "dataset", "../my pets").splitlines() == [
        "../my pets: 11 images in 2 classes",
        "  cats: 6 images",
        "  dogs: 5 images",
        f"  {size_bytes / 1000:.1f} kB, from 16 x 16 to 16 x 16 pixels (width x height)",
        "  not used, not an image: 1 file",
        "    dogs/clip.mov",
        "data/local/my_pets: hard links to your files; data/catalog.yaml: the entry my_pets",
        "to use the dataset: set `dataset: my_pets` in params.yaml, then `make run`",
    ]
    assert hash_files(pets) == before
    assert hash_files(project / "data" / "local" / "my_pets") == before
    assert read_yaml(project / "params.yaml")["dataset"] == "digits"
    catalog = project / "data" / "catalog.yaml"
    assert load_entry("my_pets", catalog).title == "Photographs: cats, dogs"


def test_unreadable_photographs_are_not_taken_out_before_they_are_counted(project: Path) -> None:
    pets = write_photographs(project.parent / "many", {"cats": 20, "dogs": 20})
    (pets / "dogs" / "cut.jpg").write_bytes((pets / "dogs" / "000.jpg").read_bytes()[:200])
    (pets / "dogs" / "page.jpg").write_text("<html>")
    (pets / "dogs" / "notes.txt").write_text("text")
    (pets / "cats" / "photo").write_bytes((pets / "cats" / "000.jpg").read_bytes())
    run(project, "dataset", "../many", "--name", "pets")
    for name in ("pyproject.toml", "dvc.yaml"):
        shutil.copy(ROOT / name, project)
    set_leaf(project, "dataset", "pets")
    run(project, "fetch")
    assert attempt(project, "preprocess").stderr.startswith(
        "error: 2 of 43 images cannot be read, more than the share of 0.01 that"
    )
    set_leaf(project, "preprocess.max_bad_frac", 0.05)
    run(project, "preprocess")
    data = json.loads((project / "metrics" / "data.json").read_text())
    assert sum(split["images"] for split in data["splits"]) == 41
    assert [bad["file"] for bad in data["bad_files"]] == [
        f"data/local/pets/dogs/{name}.jpg" for name in ("cut", "page")
    ]
    assert data["unused"] == [
        {"reason": "not an image", "files": 1, "first": ["data/local/pets/dogs/notes.txt"]}
    ]


def test_archives_stay_at_their_address(project: Path) -> None:
    there = project.parent / "there"
    for name, ending in (("cats", "zip"), ("dogs", "tar")):
        photographs = write_photographs(project.parent / name, {name: 20})
        shutil.make_archive(str(there / name), ending, photographs)
    address = f"file://{there.as_posix()}"
    size_bytes = sum(path.stat().st_size for path in there.iterdir())
    assert run(project, "dataset", address, "--name", "pets").splitlines() == [
        f"data/local/pets/manifest.csv: 2 archives, {size_bytes / 1000:.1f} kB;"
        " data/catalog.yaml: the entry pets",
        "for other people: `git add --force data/local/pets/manifest.csv`",
        "to use the dataset: set `dataset: pets` in params.yaml, then `make run`",
    ]
    for name in ("pyproject.toml", "dvc.yaml"):
        shutil.copy(ROOT / name, project)
    set_leaf(project, "dataset", "pets")
    assert run(project, "fetch") == (
        f"fetch: pets: 2 files, {size_bytes / 1000:.1f} kB, found and not copied\n"
    )
    assert "40 images of 28 x 28 pixels, 1 channel, 2 classes" in run(project, "preprocess")
    again = attempt(project, "dataset", address, "--name", "pets")
    assert again.stderr == (
        "error: NAME: the dataset pets already exists in data/catalog.yaml; to list its files"
        " again, delete the entry; or choose another NAME\n"
    )


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["file:///nothing/there"], "file:///nothing/there: no such file"),
        (["file:///tmp", "--name", "a.b"], "NAME: expected letters, digits, _ and -; found 'a.b'"),
    ],
)
def test_an_address_that_cannot_be_used_changes_nothing(
    project: Path, arguments: list[str], message: str
) -> None:
    before = hash_files(project.parent)
    assert attempt(project, "dataset", *arguments).stderr == f"error: {message}\n"
    assert hash_files(project.parent) == before


def test_a_folder_around_and_splits(project: Path) -> None:
    counts = {f"pets/{split}/{name}": 5 for split in ("Train", "test") for name in PETS}
    write_photographs(project.parent / "unpacked", counts)
    printed = run(project, "dataset", "../unpacked", "--name", "pets").splitlines()
    assert printed[:2] == ["../unpacked/pets: 20 images in 2 classes", "  cats: 5 train, 5 test"]
    added = project / "data" / "local" / "pets"
    assert sorted(path.name for path in added.iterdir()) == ["Train", "test"]
    splits = load_entry("pets", project / "data" / "catalog.yaml").format.splits
    assert (splits.train, splits.validation, splits.test) == ("Train", None, "test")


@pytest.mark.parametrize("script", ["dataset", "photographs"])
@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["../my pets/cats"], "../my pets/cats: found 6 files and no folder;"),
        (["../my pets", "--name", "taken"], "NAME: data/local/taken already exists"),
        (["data/local"], "data/local: expected a folder outside of data,"),
    ],
)
def test_what_is_refused_is_one_line_and_changes_nothing(
    project: Path, script: str, arguments: list[str], expected: str
) -> None:
    (project / "data" / "local" / "taken").mkdir()
    before = hash_files(project.parent)
    result = attempt(project, script, *arguments)
    assert (result.returncode, result.stdout) == (1, "")
    assert result.stderr.startswith(f"error: {expected}")
    assert result.stderr.count("\n") == 1
    assert hash_files(project.parent) == before


def test_a_mistake_in_the_params_file_is_found_before_anything_is_written(project: Path) -> None:
    (project / "params.yaml").write_text("dataset: [\n")
    before = hash_files(project)
    result = attempt(project, "photographs", "../my pets")
    assert (result.returncode, result.stdout) == (1, "")
    assert result.stderr.startswith("error: params.yaml: line 2, column 1: not valid YAML")
    assert hash_files(project) == before


def test_the_recipe_is_put_in_place_for_the_dataset(project: Path) -> None:
    """The lines before the run; the run fails, because the folder is no DVC repository."""
    set_leaf(project, "training.seed", 7)
    result = attempt(project, "photographs", "../my pets", "--name", "pets")
    assert result.returncode == 1
    lines = result.stdout.splitlines()
    assert lines[0] == "../my pets: 11 images in 2 classes"
    assert "data/local/pets: hard links to your files; data/catalog.yaml: the entry pets" in lines
    assert {"  training.seed: 7", "  training.seed: 7 -> 1", "  dataset: digits -> pets"} <= set(
        lines
    )
    assert lines[-1].startswith("estimate: 1 min on two cores without GPU; ")
    assert read_yaml(project / "params.yaml")["dataset"] == "pets"
    assert result.stderr.splitlines()[-1].startswith("error: `dvc repro` failed; the lines above")


def test_the_records_have_the_labels_and_groups_of_a_table(project: Path) -> None:
    """A long label with characters of all kinds; each group of two images is in one split."""
    flat = write_photographs(project.parent / "flat", {".": 40})
    label = f"Bär / \\ 'x' {'long ' * 60}."
    rows = [[f"{n:03}", label if n % 4 < 2 else "other", str(n // 2)] for n in range(40)]
    with (flat / "labels.csv").open("w", encoding="utf-8-sig", newline="") as stream:
        csv.writer(stream).writerows([("image_id", "class", "patient"), *rows])
    result = attempt(project, "photographs", "../flat", "--labels", "../flat/labels.csv")
    assert "  preprocess.groups: none -> column" in result.stdout.splitlines()
    for name in ("pyproject.toml", "dvc.yaml"):
        shutil.copy(ROOT / name, project)
    run(project, "fetch")
    assert run(project, "preprocess").startswith("preprocess: 20 groups of images that stay in")
    info = read_info(project / "data" / "records")
    assert info.classes == [label, "other"]
    records = Records(project / "data" / "records", info)
    split_of = {
        Path(identity).stem: split
        for split in info.splits
        for batch in records.read(split)
        for identity in batch.identities
    }
    assert len(split_of) == 40
    assert all(split_of[f"{n:03}"] == split_of[f"{n + 1:03}"] for n in range(0, 40, 2))
    assert info.splits["test"].per_class == {label: 4, "other": 4}


@pytest.mark.parametrize("script", ["dataset", "photographs"])
def test_help(project: Path, script: str) -> None:
    assert f"python src/{script}.py FOLDER [--name NAME]" in run(project, script, "--help")
