"""Images whose labels are in a table, or in the names of the files, and corrected labels."""

import zipfile
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from support import find_error

from imgpipe.core.schema import check
from imgpipe.datasets.catalog import LocalEntry
from imgpipe.datasets.formats import ImageFolderFormat
from imgpipe.preprocessing.raw_datasets import RawDataset, open_dataset
from imgpipe.preprocessing.splits import SPLITS, UNASSIGNED

TABLE = "id,breed\n1,a tabby / tiger\n2,Müll\n3,a tabby / tiger\n"


def open_files(tmp_path: Path, files: dict[str, str], **reading: Any) -> RawDataset:
    """Open an archive with files; a file without a text is a picture."""
    stream = BytesIO()
    Image.new("RGB", (8, 6)).save(stream, "JPEG")
    with zipfile.ZipFile(tmp_path / "leaves.zip", "w") as archive:
        for name, text in files.items():
            archive.writestr(name, text or stream.getvalue())
    entry = {
        "title": "Leaves", "files": "data/local/leaves",
        "format": {"kind": "image_folder", **reading},
    }  # fmt: skip
    return open_dataset(check(LocalEntry[ImageFolderFormat], entry, "catalog"), tmp_path, tmp_path)


def error_of(tmp_path: Path, files: dict[str, str], **reading: Any) -> str:
    return find_error(open_files, tmp_path, files, **reading)


def pictures(*names: str) -> dict[str, str]:
    return dict.fromkeys(names, "")


def labels_of(dataset: RawDataset) -> dict[str, str]:
    paths = dataset.paths(np.arange(len(dataset.labels)))
    return {path: dataset.classes[label] for path, label in zip(paths, dataset.labels, strict=True)}


def unused_of(dataset: RawDataset) -> dict[str, list[str]]:
    return {found["reason"]: found["first"] for found in dataset.unused.to_metrics()}


def test_the_labels_are_in_a_table(tmp_path: Path) -> None:
    files = pictures("train/2.jpg", "train/1.jpg", "test/9.jpg", "test/.hidden", "train/3.jpg")
    dataset = open_files(tmp_path, files | {"labels.csv": TABLE, "a.txt": "x"}, labels="labels.csv")
    assert dataset.classes == ["Müll", "a tabby / tiger"]
    assert labels_of(dataset) == {
        "train/2.jpg": "Müll", "train/1.jpg": "a tabby / tiger", "train/3.jpg": "a tabby / tiger"
    }  # fmt: skip
    assert dataset.splits.tolist() == [UNASSIGNED] * 3
    assert dataset.groups is None
    assert dataset.read(2).size == (8, 6)
    assert unused_of(dataset) == {
        "hidden, or left by a system or a program": ["data/local/leaves/test/.hidden"],
        "not an image": ["data/local/leaves/a.txt"],
        "without a row in the table of labels": ["data/local/leaves/test/9.jpg"],
    }


def test_a_table_may_have_splits_and_groups(tmp_path: Path) -> None:
    table = "file,label,split,group\na,x,train,p\nb,y,test,q\nc,y,train,p\n"
    files = pictures("0.jpg", "c.jpg", "b.jpg", "a.jpg") | {"labels.csv": table}
    dataset = open_files(tmp_path, files, labels="labels.csv")
    assert labels_of(dataset) == {"c.jpg": "y", "b.jpg": "y", "a.jpg": "x"}
    train, test = SPLITS.index("train"), SPLITS.index("test")
    assert dataset.splits.tolist() == [train, test, train]
    assert dataset.groups is not None
    assert dataset.groups[0] == dataset.groups[2] != dataset.groups[1]


def test_the_entry_may_name_the_classes_and_the_folder(tmp_path: Path) -> None:
    files = pictures("in/1.jpg", "in/2.jpg", "in/3.jpg", "out.jpg") | {
        "in/table/1.tsv": "id\tlabel\n1\tx\n2\ty\n3\tz\n"
    }
    dataset = open_files(tmp_path, files, root="in", labels="table/1.tsv", classes=["z", "x"])
    assert dataset.classes == ["z", "x"]
    assert labels_of(dataset) == {"1.jpg": "x", "3.jpg": "z"}
    assert unused_of(dataset) == {
        "of a class that format.classes leaves out": ["data/local/leaves/in/2.jpg"],
        "outside of the folders of the classes": ["data/local/leaves/out.jpg"],
    }


def test_the_labels_are_in_the_names(tmp_path: Path) -> None:
    files = pictures("cat.1.jpg", "cat.2.jpg", "more/dog.1.JPEG", "cover.jpg")
    dataset = open_files(tmp_path, files, label_pattern=r"(.+)\.\d+")
    assert labels_of(dataset) == {"cat.1.jpg": "cat", "cat.2.jpg": "cat", "more/dog.1.JPEG": "dog"}
    assert unused_of(dataset) == {
        "with a name that does not match the pattern of labels": ["data/local/leaves/cover.jpg"]
    }


@pytest.mark.parametrize("reading", [{}, {"labels": "labels.csv"}, {"label_pattern": r"(.).*"}])
def test_corrections_replace_labels(tmp_path: Path, reading: dict[str, str]) -> None:
    files = pictures("x/x1.jpg", "x/x2.jpg", "y/y1.jpg", "y/y2.jpg")
    labels = "file,label\nx1,x\nx2,x\ny1,y\ny2,y\n"
    tables = {"labels.csv": labels, "right.csv": "file,label\nx2,y\n./y/y2.jpg,y\n"}
    dataset = open_files(tmp_path, files | tables, corrections="right.csv", **reading)
    expected = {"x/x1.jpg": "x", "x/x2.jpg": "y", "y/y1.jpg": "y", "y/y2.jpg": "y"}
    assert labels_of(dataset) == expected
    # As metrics/label_issues.csv has the names.
    tables["right.csv"] = "file,split,label\ndata/local/leaves/x/x2.jpg,train,y\n"
    dataset = open_files(tmp_path, files | tables, corrections="right.csv", **reading)
    assert labels_of(dataset) == expected
    tables["right.csv"] = "file,label\ny1,y\nx2,z\n"
    assert error_of(tmp_path, files | tables, corrections="right.csv", **reading) == (
        "data/local/leaves/right.csv: row 3: 'x2' has the label 'z'; expected one of x, y"
    )


@pytest.mark.parametrize(
    ("table", "problem"),
    [
        ("id,label\n1,Oak\n2,oak\n", ": the labels 'Oak' and 'oak' differ only in capital"),
        ("id,label\n1,oak\n2,oak\n", ": all labels are 'oak'; at least two are needed"),
        ("id,label\n1,oak\n3,elm\n", "/labels.csv: row 3: '3' is the name of no image, or of one"),
        ("1,oak\n2,elm\n", "/labels.csv: expected a header with a column of files"),
    ],
)  # fmt: skip
def test_wrong_tables_are_reported_with_their_place(
    tmp_path: Path, table: str, problem: str
) -> None:
    files = pictures("1.jpg", "2.jpg") | {"labels.csv": table}
    message = error_of(tmp_path, files, labels="labels.csv")
    assert message.startswith(f"data/local/leaves{problem}")


def test_a_missing_table_is_reported(tmp_path: Path) -> None:
    assert error_of(tmp_path, pictures("1.jpg"), labels="labels.csv") == (
        "data/local/leaves/labels.csv: no such file, but the catalog has format.labels: labels.csv"
    )


@pytest.mark.parametrize(
    ("reading", "problem"),
    [
        ({"labels": "a.csv", "label_pattern": "(.)"}, "format.labels: cannot be combined with"),
        ({"labels": "a.csv", "splits": {"train": "t"}}, "format.labels: cannot be combined with"),
        ({"label_pattern": "(.)("}, "format.label_pattern: expected a regular expression; found"),
        ({"label_pattern": "."}, "format.label_pattern: expected a regular expression with one"),
        ({"labels": "../a.csv"}, "format.labels: expected text of the form"),
    ],
)
def test_a_wrong_entry_is_reported(tmp_path: Path, reading: dict[str, Any], problem: str) -> None:
    assert problem in error_of(tmp_path, {}, **reading)
