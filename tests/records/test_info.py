import json
from pathlib import Path
from typing import Any

import pytest
from support import write_random_records

from imgpipe.core.errors import PipelineError
from imgpipe.records.folders import Records
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


def make_version_0(value: Any) -> Any:
    """Turn a description into one of the version before `format_version`."""
    old = {
        "framing" if key == "image_spec" else key: item
        for key, item in value.items()
        if key != "format_version"
    }
    for split in old["splits"].values():
        for shard in split["shards"]:
            del shard["sha256"]
    return old | {"record_encoding": "raw"}


def error_of(read: Any, folder: Path) -> str:
    with pytest.raises(PipelineError) as caught:
        read(folder)
    message = str(caught.value)
    assert "\n" not in message
    return message.removeprefix(f"{folder.as_posix()}/")


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


def test_version_0_is_read(tmp_path: Path, info: RecordsInfo) -> None:
    write_value(tmp_path, make_version_0(read_value(tmp_path)))
    found = read_info(tmp_path)
    assert found.image_spec == info.image_spec
    assert [shard.sha256 for shard in found.splits["train"].shards] == [None, None]
    value = found.model_dump()
    for split in value["splits"].values():
        for shard in split["shards"]:
            shard["sha256"] = None
    expected = info.model_dump()
    for split in expected["splits"].values():
        for shard in split["shards"]:
            shard["sha256"] = None
    assert value == expected
    assert sum(len(batch.labels) for batch in Records(tmp_path, found).read("train")) == 5


def test_png_records_of_version_0_are_refused(tmp_path: Path, info: RecordsInfo) -> None:
    write_value(tmp_path, make_version_0(read_value(tmp_path)) | {"record_encoding": "png"})
    assert error_of(read_info, tmp_path) == (
        "info.json: record_encoding: expected 'raw'; found 'png', which is no longer read;"
        " run `dvc repro`"
    )


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"splits": [1]}, "info.json: splits: "),
        ({"splits": {"train": {"examples": 1}}}, "info.json: splits.train.per_class: this key is"),
        ({"framing": None}, "info.json: framing: expected a mapping"),
        ({"record_encoding": "jpeg"}, "info.json: record_encoding: expected 'raw' or 'png'; found"),
        ({"image_spec": 1}, "info.json: image_spec: unknown key"),
    ],
)
def test_a_damaged_version_0_is_reported(
    tmp_path: Path, info: RecordsInfo, change: dict[str, Any], expected: str
) -> None:
    write_value(tmp_path, make_version_0(read_value(tmp_path)) | change)
    assert error_of(read_info, tmp_path).startswith(expected)


@pytest.mark.parametrize("read", [read_info, read_augmented_info])
def test_a_newer_version_is_refused(tmp_path: Path, info: RecordsInfo, read: Any) -> None:
    # It may have keys that this version does not know; the version is what matters.
    write_value(tmp_path, {"format_version": 2, "unknown": 1})
    assert error_of(read, tmp_path) == (
        "info.json: format_version: expected at most 1; found 2, which a newer imgpipe wrote;"
        " update imgpipe, or run `dvc repro`"
    )


@pytest.mark.parametrize("version", ["1", -1, 1.0, None, True])
def test_a_version_that_is_no_number_is_refused(
    tmp_path: Path, info: RecordsInfo, version: Any
) -> None:
    write_value(tmp_path, read_value(tmp_path) | {"format_version": version})
    assert error_of(read_info, tmp_path) == (
        "info.json: format_version: expected a whole number of at least 0; found"
        f" {version!r}; run `dvc repro`"
    )


def test_augmented_records_of_version_0_are_refused(tmp_path: Path) -> None:
    write_value(tmp_path, {"copies": 0, "record_fields": {}, "shards": []})
    assert error_of(read_augmented_info, tmp_path) == (
        "info.json: format_version: expected 1; found 0, of an older imgpipe;"
        " run `dvc repro augment`"
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
