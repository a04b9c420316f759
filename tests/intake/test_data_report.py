"""The command that reports on a folder or a dataset before any stage runs."""

import base64
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from forks import Popen
from PIL import Image
from support import SRC, attempt, git, hash_files, make_copy, make_smooth_picture, run, set_leaf

PER_CLASS = 12


@pytest.fixture
def project(tmp_path: Path) -> Path:
    return make_copy(tmp_path / "project")


@pytest.fixture
def pets(tmp_path: Path) -> Path:
    """A folder of two classes with planted copies, a wrong label and damaged files."""
    folder = tmp_path / "My pets & co"
    for number, name in enumerate(("cats", "dogs")):
        (folder / name).mkdir(parents=True)
        for image in range(PER_CLASS):
            picture = make_smooth_picture(100 * number + image)
            picture.save(folder / name / f"{image:02}.jpg", quality=95)
    shutil.copy(folder / "cats" / "00.jpg", folder / "cats" / "same.jpg")
    shutil.copy(folder / "cats" / "01.jpg", folder / "dogs" / "wrong.jpg")
    Image.open(folder / "dogs" / "02.jpg").resize((150, 150)).save(folder / "dogs" / "small.png")
    (folder / "cats" / "cut.jpg").write_bytes((folder / "cats" / "03.jpg").read_bytes()[:2000])
    (folder / "dogs" / "04.jpg").rename(folder / "dogs" / "04.png")
    (folder / "dogs" / "notes.txt").write_text("text")
    return folder


def read_names(group: dict[str, Any]) -> list[str]:
    return [image["file"] for image in group["images"]]


def test_a_folder_is_reported_without_a_trace_in_the_project(project: Path, pets: Path) -> None:
    before = hash_files(pets)
    output = run(project, "data_report", str(pets))
    assert output.splitlines()[0] == "My pets & co: data_report.html, data_report.json"
    assert (
        "  2 copies of earlier images; 1 pair of near duplicates; 1 picture with two labels"
        in output.splitlines()
    )
    found = json.loads((project / "data_report.json").read_text())
    at = "My pets & co"
    assert [read_names(group) for group in found["copies"]] == [
        [f"{at}/cats/00.jpg", f"{at}/cats/same.jpg"],
        [f"{at}/cats/01.jpg", f"{at}/dogs/wrong.jpg"],
    ]
    assert [read_names(pair) for pair in found["near"]] == [
        [f"{at}/dogs/02.jpg", f"{at}/dogs/small.png"]
    ]
    assert [read_names(group) for group in found["two_labels"]] == [
        [f"{at}/cats/01.jpg", f"{at}/dogs/wrong.jpg"]
    ]
    assert [bad["file"] for bad in found["bad_files"]] == [f"{at}/cats/cut.jpg"]
    assert found["misnamed"] == [{"file": f"{at}/dogs/04.png", "format": "JPEG"}]
    assert found["unused"][0]["first"] == [f"{at}/dogs/notes.txt"]
    assert [row["images"] for row in found["classes"]] == [PER_CLASS + 1, PER_CLASS + 2]
    assert sum(split["images"] for split in found["splits"]) == 2 * PER_CLASS + 3
    assert {row["measure"] for row in found["sizes"]} == {
        "longer side 128 to 255 px", "width to height 1:1"
    }  # fmt: skip
    page = (project / "data_report.html").read_text()
    assert page.count("data:image/jpeg;base64,") == 2 + 2 + 2
    picture = page.partition("data:image/jpeg;base64,")[2].partition('"')[0]
    assert base64.b64decode(picture).startswith(b"\xff\xd8\xff")
    assert str(pets.parent) not in page + output
    assert hash_files(pets) == before
    assert git(project, "status", "--short") == ""
    assert not list((project / "data").glob("*.partial"))
    first = hash_files(project)
    run(project, "data_report", str(pets), IMGPIPE_WORKERS="1")
    assert hash_files(project) == first


def test_the_dataset_of_the_parameters_is_the_default(project: Path) -> None:
    set_leaf(project, "preprocess.max_per_class", 30)
    for options in ((), ("--name", "digits")):
        assert run(project, "data_report", *options).startswith("digits: data_report.html")
        found = json.loads((project / "data_report.json").read_text())
        assert found["near_search"] == "small images"
        assert found["formats"] == [{"format": "L", "images": 1797}]


def test_a_folder_that_cannot_be_divided_is_reported_all_the_same(
    project: Path, pets: Path
) -> None:
    set_leaf(project, "preprocess.test_fold", "1/40")
    output = run(project, "data_report", str(pets))
    assert "  no splits: class 'cats' has 14 images for 40 folds" in output
    found = json.loads((project / "data_report.json").read_text())
    assert found["left_out_images"] == 0
    assert {image["split"] for image in found["copies"][0]["images"]} == {""}


def test_images_of_a_group_stay_in_one_split(project: Path, pets: Path) -> None:
    set_leaf(project, "preprocess.groups", r"(cats|dogs)/.*")
    assert "  no splits: class 'cats' has 1 group of images" in run(
        project, "data_report", str(pets)
    )
    set_leaf(project, "preprocess.groups", "column")  # of the table of another dataset
    assert "no splits" not in run(project, "data_report", str(pets))


@pytest.mark.parametrize("place", ["My pets & co/labels.csv", "labels.csv"])
def test_labels_may_be_in_a_table(project: Path, pets: Path, tmp_path: Path, place: str) -> None:
    """The groups of a table count, as `make photographs` chooses."""
    rows = [f"{n:02}.jpg,{'even' if n % 2 == 0 else 'odd'},{n % 2}" for n in range(2, PER_CLASS)]
    table = tmp_path / place
    table.write_text("\n".join(["file,label,group", *(f"cats/{row}" for row in rows)]))
    output = run(project, "data_report", str(pets), "--labels", str(table))
    assert "  no splits: class 'even' has 1 group of images for 3 splits" in output
    found = json.loads((project / "data_report.json").read_text())
    assert [(row["class"], row["images"]) for row in found["classes"]] == [("even", 5), ("odd", 5)]


def test_labels_may_be_in_the_names(project: Path, pets: Path) -> None:
    for image in range(2, PER_CLASS):
        (pets / "cats" / f"{image:02}.jpg").rename(pets / f"{image % 2} {image}.jpg")
    run(project, "data_report", str(pets), "--pattern", r"(\d) \d+")
    found = json.loads((project / "data_report.json").read_text())
    assert [(row["class"], row["images"]) for row in found["classes"]] == [("0", 5), ("1", 5)]


def test_two_reports_at_once_wait_for_each_other(project: Path, pets: Path) -> None:
    """They use one folder for intermediate files."""
    fcntl = pytest.importorskip("fcntl")
    path = project / ".dvc" / "tmp" / "locks" / "data%2Fdata_report.partial"
    path.parent.mkdir(parents=True, exist_ok=True)
    command = [sys.executable, SRC / "data_report.py", str(pets)]
    with path.open("ab") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        with Popen(command, cwd=project, stdout=subprocess.PIPE, text=True) as process:
            assert process.stdout is not None
            waits = process.stdout.readline()
            is_free = not (project / "data" / "data_report.partial").exists()
            fcntl.flock(held, fcntl.LOCK_UN)
            output = process.stdout.read()
    assert waits == (
        "data-report: another run uses data/data_report.partial; waiting for its end\n"
    )
    assert is_free
    assert process.returncode == 0
    assert output.startswith("My pets & co: data_report.html")


@pytest.mark.skipif(sys.platform == "darwin", reason="all names are UTF-8")
def test_the_name_of_the_folder_may_be_any(project: Path, pets: Path) -> None:
    odd = pets.rename(os.fsdecode(os.fsencode(pets.parent) + b"/~p\xff\n<b>"))
    shutil.copytree(odd, project / odd.name)
    for given in (str(odd), odd.name):
        output = run(project, "data_report", given)
        assert output.startswith("~p\\xff\\n<b>: data_report.html")
    assert "<b>" not in (project / "data_report.html").read_text()


def empty_folder(folder: Path) -> None:
    shutil.rmtree(folder)
    folder.mkdir()


def file(folder: Path) -> None:
    shutil.rmtree(folder)
    folder.write_bytes(b"file")


def one_class(folder: Path) -> None:
    shutil.rmtree(folder / "dogs")


def link_to_folder(folder: Path) -> None:
    (folder / "more").symlink_to(folder / "cats")


def control_character(folder: Path) -> None:
    (folder / "cats" / "a\nb.jpg").write_bytes(b"x")


def no_readable_image(folder: Path) -> None:
    for path in (folder / "cats").iterdir():
        path.write_bytes(b"")


def same_names(folder: Path) -> None:
    shutil.copytree(folder / "cats", folder / "CATS")


@pytest.mark.parametrize(
    "change",
    [
        shutil.rmtree,
        empty_folder,
        file,
        one_class,
        link_to_folder,
        control_character,
        no_readable_image,
        same_names,
    ],
    ids=["missing", "empty", "file", "one class", "link", "name", "unreadable", "same names"],
)
def test_odd_folders_are_one_line(
    project: Path, pets: Path, change: Callable[[Path], object]
) -> None:
    change(pets)
    result = attempt(project, "data_report", str(pets))
    assert result.returncode == 1
    assert result.stderr.startswith("error: ")
    assert result.stderr.count("\n") == 1
    assert not (project / "data_report.html").exists()
    assert not list((project / "data").glob("*.partial"))


def test_a_folder_and_a_name_are_refused(project: Path, pets: Path) -> None:
    result = attempt(project, "data_report", str(pets), "--name", "digits")
    assert result.stderr == "error: expected FOLDER or NAME, not both\n"
    result = attempt(project, "data_report", "--pattern", "(.+)_1")
    assert result.stderr.startswith("error: LABELS and PATTERN are for a FOLDER")
