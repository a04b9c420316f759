import json
from pathlib import Path
from typing import Any

import pytest
from support import find_error, write_random_records

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
