import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from support import find_error, write_random_records

from imgpipe.records.folders import AugmentedRecords, Records
from imgpipe.records.info import (
    FIELDS,
    AugmentedInfo,
    RecordsInfo,
    Shard,
    copy_folder,
    read_augmented_info,
    read_info,
    write_info,
)


@pytest.fixture
def info(tmp_path: Path) -> RecordsInfo:
    return write_random_records(tmp_path, {"train": [3, 2], "test": [2]})


def read_value(folder: Path) -> Any:
    return json.loads((folder / "info.json").read_text())


def write_value(folder: Path, value: Any) -> None:
    (folder / "info.json").write_text(json.dumps(value))


def error_of(read: Any, folder: Path) -> str:
    return find_error(read, folder).removeprefix(f"{folder.as_posix()}/")


def test_descriptions_read_back(tmp_path: Path, info: RecordsInfo) -> None:
    assert read_value(tmp_path)["format_version"] == 1
    assert read_info(tmp_path) == info
    assert info.image_shape == (12, 17, 3)
    shard = Shard(file="a", examples=1, sha256="0")
    augmented = AugmentedInfo(
        format_version=1, record_fields=FIELDS, shards_of_copies=[[shard]] * 2
    )
    write_info(tmp_path, augmented)
    assert read_augmented_info(tmp_path) == augmented
    assert augmented.copies == 2


@pytest.mark.parametrize("read", [read_info, read_augmented_info])
@pytest.mark.parametrize("version", [2, 0, "1", None])
def test_another_version_is_refused(tmp_path: Path, read: Any, version: Any) -> None:
    # It may have keys that this version does not know; the version is what matters.
    write_value(tmp_path, {"format_version": version, "unknown": 1})
    assert error_of(read, tmp_path) == (
        f"info.json: format_version: expected 1; found {version!r};"
        " update imgpipe, or run `dvc repro`"
    )


@pytest.mark.parametrize("read", [read_info, read_augmented_info])
def test_a_missing_version_is_refused(tmp_path: Path, read: Any) -> None:
    write_value(tmp_path, {"unknown": 1})
    assert "info.json: format_version: expected 1; found None;" in error_of(read, tmp_path)


def test_a_shard_without_a_hash_is_refused(tmp_path: Path, info: RecordsInfo) -> None:
    value = read_value(tmp_path)
    value["splits"]["test"]["shards"][0]["sha256"] = None
    write_value(tmp_path, value)
    assert error_of(read_info, tmp_path) == (
        "info.json: splits.test.shards.0.sha256: expected text in quotes; found None"
    )


@pytest.mark.parametrize("read", [read_info, read_augmented_info])
def test_a_missing_file_or_another_value_is_reported(tmp_path: Path, read: Any) -> None:
    assert error_of(read, tmp_path).startswith("info.json: not found; `dvc repro` runs")
    write_value(tmp_path, [1])
    assert error_of(read, tmp_path) == (
        "info.json: expected a mapping of keys to values; found [1]"
    )


def test_copies_are_counted_from_1() -> None:
    assert [copy_folder(copy) for copy in (1, 12)] == ["copy-01", "copy-12"]


def swap_splits(value: Any) -> None:
    splits = value["splits"]
    splits["train"], splits["test"] = splits["test"], splits["train"]


def name_as_test(value: Any) -> None:
    """Training shards with the names of test shards, as for copies of the files."""
    train = value["splits"]["train"]
    shards = [
        {**shard, "file": shard["file"].replace("train", "test")} for shard in train["shards"]
    ]
    value["splits"]["test"] = {**train, "shards": shards}


def change(path: str, new: Any) -> Callable[[Any], None]:
    """Return a function that changes one value; the keys are separated by spaces."""

    def change_one(value: Any) -> None:
        *keys, last = path.split()
        for key in keys:
            value = value[int(key) if key.isdecimal() else key]
        value[last] = new

    return change_one


@pytest.mark.parametrize(
    ("edit", "expected"),
    [
        (swap_splits,
         "splits.train.shards: expected train-00000-of-00001.tfrecord; found"
         " test-00000-of-00001.tfrecord"),
        (name_as_test,
         "splits.test.shards: test-00000-of-00002.tfrecord is also a shard of train: they have the"
         " same sha256"),
        (change("splits train examples", 6),
         "splits.train: expected the same number of examples in all of it; found 5, 6"),
        (change("splits train per_class", {"a": 3, "b": 3}),
         "splits.train: expected the same number of examples in all of it; found 5, 6"),
        (change("splits train per_class", {"b": 3, "a": 2}),
         "splits.train.per_class: expected the classes in their order"),
        (change("classes", ["b", "a"]),
         "splits.train.per_class: expected the classes in their order"),
    ],
)  # fmt: skip
def test_splits_that_are_not_what_they_say_are_refused(
    tmp_path: Path, info: RecordsInfo, edit: Callable[[Any], None], expected: str
) -> None:
    value = read_value(tmp_path)
    edit(value)
    write_value(tmp_path, value)
    assert error_of(read_info, tmp_path) == f"info.json: {expected}"


@pytest.mark.parametrize("counts", [[3], [2, 3], [5]])
def test_copies_of_another_training_split_are_refused(tmp_path: Path, counts: list[int]) -> None:
    records, other = tmp_path / "records", tmp_path / "other"
    write_random_records(records, {"train": [3, 2], "test": [2]})
    made_of = write_random_records(other, {"train": counts})
    augmented = AugmentedInfo(
        format_version=1, record_fields=FIELDS, shards_of_copies=[made_of.splits["train"].shards]
    )
    (tmp_path / "augmented").mkdir()
    write_info(tmp_path / "augmented", augmented)
    message = find_error(AugmentedRecords.open, tmp_path / "augmented", Records.open(records))
    assert message == (
        f"{tmp_path.as_posix()}/augmented: not copies of the training images in"
        f" {records.as_posix()}; run `dvc repro augment`"
    )
