from pathlib import Path
from typing import Any

import pytest
import yaml
from support import ROOT

from imgpipe.core.errors import PipelineError
from imgpipe.datasets.catalog import (
    DigitsEntry,
    IdxEntry,
    ImageArchiveEntry,
    LocalImagesEntry,
    load_entry,
)

CATALOG = ROOT / "data" / "catalog.yaml"


def error_of(tmp_path: Path, catalog: Any, dataset: str) -> str:
    path = tmp_path / "catalog.yaml"
    path.write_text(yaml.safe_dump(catalog, sort_keys=False))
    with pytest.raises(PipelineError) as caught:
        load_entry(dataset, path)
    message = str(caught.value)
    assert "\n" not in message
    return message.replace(tmp_path.as_posix() + "/", "")


@pytest.mark.parametrize(
    ("dataset", "kind"), [("digits", DigitsEntry), ("mnist", IdxEntry), ("fashion_mnist", IdxEntry)]
)
def test_every_entry_is_valid(dataset: str, kind: type) -> None:
    entry = load_entry(dataset, CATALOG)
    assert isinstance(entry, kind)
    assert entry.format.classes is not None
    assert len(entry.format.classes) == 10


@pytest.mark.parametrize("dataset", ["cats_and_dogs_small", "cats_vs_dogs", "flowers"])
def test_every_entry_of_photographs_is_valid(dataset: str) -> None:
    assert isinstance(load_entry(dataset, CATALOG), ImageArchiveEntry)


def test_a_folder_of_ones_own_needs_four_lines(tmp_path: Path) -> None:
    path = tmp_path / "catalog.yaml"
    path.write_text(
        "leaves:\n  title: Leaves\n  files: data/local/leaves\n  format: {kind: image_folder}\n"
    )
    entry = load_entry("leaves", path)
    assert isinstance(entry, LocalImagesEntry)
    assert entry.archive_name == "leaves.zip"


@pytest.mark.parametrize(
    "folder", ["../leaves", "/data/local/leaves", "data/local/..", "data/local", "data/local/a/b"]
)
def test_a_folder_of_ones_own_is_in_its_place(tmp_path: Path, folder: str) -> None:
    entry = {"title": "Leaves", "files": folder, "format": {"kind": "image_folder"}}
    message = error_of(tmp_path, {"leaves": entry}, "leaves")
    assert message.startswith("catalog.yaml: leaves.files: expected text of the form ^data/local/")


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"root": "../x"}, "format.root: expected text of the form"),
        ({"root": "/x"}, "format.root: expected text of the form"),
        ({"splits": {"test": "t"}}, "format.splits.train: this key is missing"),
        (
            {"splits": {"train": "a", "tset": "b"}},
            "format.splits.tset: unknown key (did you mean 'test'?); known here: train,",
        ),
        ({"classes": ["a"]}, "format.classes: expected at least 2 values; found ['a']"),
        ({"classes": ["a", "b", "a"]}, "format.classes: expected distinct names; found 'a' twice"),
        ({"clases": ["a", "b"]}, "format.clases: unknown key (did you mean 'classes'?)"),
    ],
)
def test_what_an_image_folder_may_say(
    tmp_path: Path, catalog_value: dict[str, Any], change: dict[str, Any], expected: str
) -> None:
    own = {"title": "Leaves", "files": "data/local/leaves", "format": {"kind": "image_folder"}}
    for entry in (own, catalog_value["flowers"]):
        entry["format"] = {"kind": "image_folder", **change}
        message = error_of(tmp_path, {"leaves": entry}, "leaves")
        assert message.startswith(f"catalog.yaml: leaves.{expected}")


def test_the_catalog_holds_no_untested_entry(catalog_value: dict[str, Any]) -> None:
    assert list(catalog_value) == [
        "digits", "mnist", "fashion_mnist", "cats_and_dogs_small", "cats_vs_dogs", "flowers"
    ]  # fmt: skip


def test_unknown_dataset_names_the_nearest(tmp_path: Path, catalog_value: dict[str, Any]) -> None:
    assert error_of(tmp_path, catalog_value, "fashion-mnist") == (
        "params.yaml: dataset: expected an entry of catalog.yaml (digits, mnist, fashion_mnist,"
        " cats_and_dogs_small, cats_vs_dogs, flowers);"
        " found 'fashion-mnist' (did you mean 'fashion_mnist'?)"
    )


def test_errors_name_the_dotted_key(tmp_path: Path, catalog_value: dict[str, Any]) -> None:
    entry = catalog_value["mnist"]
    entry["files"][1]["sha256"] = "3552"
    assert error_of(tmp_path, catalog_value, "mnist") == (
        "catalog.yaml: mnist.files.1.sha256: expected text of the form"
        " ^([0-9a-f]{64}|unpublished)$; found '3552'"
    )
    entry["files"][1]["sha"] = entry["files"][1].pop("sha256")
    assert "mnist.files.1.sha: unknown key (did you mean 'sha256'?)" in error_of(
        tmp_path, catalog_value, "mnist"
    )


@pytest.mark.parametrize("name", ["../evil.gz", "/etc/passwd", "a/b.gz", ""])
def test_a_file_name_leads_nowhere_else(
    tmp_path: Path, catalog_value: dict[str, Any], name: str
) -> None:
    catalog_value["digits"]["files"][0]["name"] = name
    message = error_of(tmp_path, catalog_value, "digits")
    assert "digits.files.0.name: expected text of the form" in message


def test_unknown_kind(tmp_path: Path, catalog_value: dict[str, Any]) -> None:
    catalog_value["digits"]["format"]["kind"] = "digit"
    assert error_of(tmp_path, catalog_value, "digits") == (
        "catalog.yaml: digits.format.kind: expected one of digits, idx, image_folder; found 'digit'"
        " (did you mean 'digits'?)"
    )


def test_splits_name_files_of_the_entry(tmp_path: Path, catalog_value: dict[str, Any]) -> None:
    splits = catalog_value["mnist"]["format"]["splits"]
    splits["test"] = {"images": "t10k-images.gz", "labels": "t10k-labels-idx1-ubyte.gz"}
    message = error_of(tmp_path, catalog_value, "mnist")
    assert message.startswith(
        "catalog.yaml: mnist.format.splits.test.images: expected one of the entry's files;"
        " found 't10k-images.gz'"
    )


def test_classes_are_distinct(tmp_path: Path, catalog_value: dict[str, Any]) -> None:
    catalog_value["digits"]["format"]["classes"][3] = "1"
    assert error_of(tmp_path, catalog_value, "digits") == (
        "catalog.yaml: digits.format.classes: expected distinct names; found '1' twice"
    )


def test_an_empty_catalog(tmp_path: Path) -> None:
    assert "expected a mapping of names to datasets" in error_of(tmp_path, None, "digits")
