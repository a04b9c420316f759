"""A person's folder whose labels are in a table, or in the names of the files."""

import shutil
from pathlib import Path

import pytest
from support import ROOT, find_error, hash_files, write_photographs

from imgpipe.core.yaml_file import read_yaml
from imgpipe.datasets.catalog import load_entry
from imgpipe.intake.adding import add_dataset, plan_dataset
from imgpipe.intake.label_sources import find_label_source
from imgpipe.intake.labeled_survey import survey_photographs


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project with the catalog, as current folder; next to it `pets`, a folder of 12 images."""
    folder = tmp_path / "project"
    (folder / "data" / "local").mkdir(parents=True)
    shutil.copy(ROOT / "data" / "catalog.yaml", folder / "data")
    write_photographs(tmp_path / "pets", {".": 12})
    monkeypatch.chdir(folder)
    return folder


def write_table(path: Path, labels: dict[int, str], header: str = "id,breed") -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    rows = [header, *(f"{number:03},{label}" for number, label in labels.items())]
    path.write_text("\n".join(rows))


def add(labels: str = "", pattern: str = "", source: str = "../pets") -> list[str]:
    """What the commands print."""
    new = plan_dataset(source, "pets")
    found = find_label_source(new.source, labels, pattern, is_in_place=new.is_in_place)
    survey = survey_photographs(new.source, found)
    lines = list(survey.describe())
    added = add_dataset(new, survey.top, survey.files, survey.counts, survey.splits, found)
    return [*lines, added]


def error_of(labels: str = "", pattern: str = "", source: str = "../pets") -> str:
    before = hash_files(Path())
    message = find_error(add, labels, pattern, source)
    assert hash_files(Path()) == before
    return message


HALVES = {number: "black cat" if number < 6 else "Hund/dog" for number in range(12)}


def test_a_table_beside_the_images_is_copied(project: Path) -> None:
    table = project.parent / "pets" / "labels.csv"
    write_table(table, {number: label for number, label in HALVES.items() if number != 3})
    (table.parent / "notes.txt").write_text("text")
    lines = add("../pets/labels.csv")
    assert lines[:4] == [
        "../pets: 11 images in 2 classes",
        "  ../pets/labels.csv: the columns file = 'id', label = 'breed'",
        "  Hund/dog: 6 images",
        "  black cat: 5 images",
    ]
    assert lines[5:] == [
        "  not used, without a row in the table of labels: 1 file",
        "    003.jpg",
        "  not used, not an image: 1 file",
        "    notes.txt",
        "data/local/pets: hard links to your files; data/catalog.yaml: the entry pets",
    ]
    added = project / "data" / "local" / "pets"
    assert hash_files(added) == hash_files(table.parent)
    assert (added / "000.jpg").samefile(table.parent / "000.jpg")
    assert not (added / "labels.csv").samefile(table)  # an edit must not change the person's file
    assert read_yaml(project / "data" / "catalog.yaml")["pets"] == {
        "title": "Photographs: Hund/dog, black cat",
        "files": "data/local/pets",
        "format": {"kind": "image_folder", "labels": "labels.csv"},
    }
    assert load_entry("pets").format.labels == "labels.csv"


@pytest.mark.parametrize("place", ["../pets/tables/a b.tsv", "../elsewhere/a b.tsv"])
def test_a_table_may_be_anywhere(project: Path, place: str) -> None:
    write_table(Path(place), HALVES)
    add(place)
    name = "tables/a b.tsv" if "pets" in place else "a b.tsv"
    assert load_entry("pets").format.labels == name
    assert (Path("data/local/pets") / name).read_bytes() == Path(place).read_bytes()


def test_a_table_may_be_given_by_its_name_in_the_folder(project: Path) -> None:
    write_table(project.parent / "pets" / "labels.csv", HALVES)
    assert add("labels.csv")[0] == "../pets: 12 images in 2 classes"


def test_a_dataset_in_place(project: Path) -> None:
    shutil.move(project.parent / "pets", "data/local/pets")
    write_table(project.parent / "labels.csv", HALVES)
    assert error_of("../labels.csv", source="data/local/pets") == (
        "LABELS: ../labels.csv: not in data/local/pets: move it there"
    )
    shutil.move(project.parent / "labels.csv", "data/local/pets")
    assert add("labels.csv", source="data/local/pets")[-1].startswith("data/local/pets: in place")


def test_splits_and_groups_are_reported(project: Path) -> None:
    rows = [
        f"{n:03}.jpg,{'cat' if n % 2 else 'dog'},{'test' if n < 2 else 'train'},p{n // 2}"
        for n in range(12)
    ]
    table = project.parent / "pets" / "labels.csv"
    table.write_text("\n".join(["file,class,split,patient", *rows]))
    assert add("labels.csv")[1:4] == [
        "  ../pets/labels.csv: the columns file = 'file', label = 'class', split = 'split', group ="
        " 'patient'; 6 groups: each stays in one split with `preprocess.groups: column`",
        "  cat: 5 train, 1 test",
        "  dog: 5 train, 1 test",
    ]


def test_labels_in_the_names(project: Path) -> None:
    for path in sorted((project.parent / "pets").iterdir()):
        kind = "cat" if path.stem < "006" else "dog"
        path.rename(path.with_name(f"{kind}.{path.stem}.jpg"))
    lines = add(pattern=r"(.+)\.\d+")
    assert lines[1:4] == [
        r"  labels: the part of the name that (.+)\.\d+ has in parentheses",
        "  cat: 6 images",
        "  dog: 6 images",
    ]
    assert load_entry("pets").format.label_pattern == r"(.+)\.\d+"


@pytest.mark.parametrize(
    ("labels", "pattern", "problem"),
    [
        ("labels.csv", "(.)", "LABELS and PATTERN: expected one of the two; found both"),
        ("other.csv", "", "LABELS: other.csv: no such file"),
        ("../pets", "", "LABELS: ../pets: no such file"),
        (".labels.csv", "", "LABELS: ../pets/.labels.csv: ignored, because it is hidden, or"),
        ("../labels.csv", "", "LABELS: ../labels.csv: not in ../pets: there is another"),
        ("", ".+", "PATTERN: expected a regular expression with one part in parentheses"),
        ("", "(", "PATTERN: expected a regular expression; found '('"),
        ("", r"(.+)\.\d+", r"../pets: the pattern (.+)\.\d+ matches no name of an image"),
        ("", "(.).*", "../pets: all labels are '0'; at least two are needed"),
        ("few.csv", "", "../pets: class 'a' has 2 images; expected at least 5 for training"),
        ("same.csv", "", "../pets: the labels 'A' and 'a' differ only in capital letters"),
        ("wrong.csv", "", "../pets/wrong.csv: row 3: '99' is the name of no image"),
    ],
)  # fmt: skip
def test_what_is_refused_is_one_line(
    project: Path, labels: str, pattern: str, problem: str
) -> None:
    pets = project.parent / "pets"
    write_table(pets / "labels.csv", HALVES)
    write_table(pets / ".labels.csv", HALVES)
    write_table(pets.parent / "labels.csv", HALVES)
    write_table(pets / "few.csv", {0: "a", 1: "a", **dict.fromkeys(range(2, 12), "b")})
    write_table(pets / "same.csv", {0: "a", 1: "A"})
    (pets / "wrong.csv").write_text("id,label\n000,a\n99,b\n")
    assert error_of(labels, pattern).startswith(problem)
