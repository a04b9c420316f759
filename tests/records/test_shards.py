"""Writing and reading shards; each kind of damage stops every reader."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from support import find_error, hash_file, write_random_records

from imgpipe.records import shards, tfrecord
from imgpipe.records.folders import Records
from imgpipe.records.info import RecordsInfo, Shard, name_shard, read_info, write_info
from imgpipe.records.shards import (
    StoredShard,
    count_shards,
    write_shard,
)

SHAPE = (12, 17, 3)


@pytest.fixture
def info(tmp_path: Path) -> RecordsInfo:
    return write_random_records(tmp_path, {"train": [10, 10, 7]})


def random_images(count: int) -> NDArray[np.uint8]:
    return np.random.default_rng(1).integers(0, 256, (count, *SHAPE), dtype=np.uint8)


def read_all(folder: Path, info: RecordsInfo) -> None:
    for _ in Records(folder, info).read("train"):
        pass


def index_all(folder: Path, info: RecordsInfo) -> None:
    for shard in Records(folder, info).shards("train"):
        shard.index()


def index_into_array(folder: Path, info: RecordsInfo) -> None:
    for shard in Records(folder, info).shards("train"):
        shard.index(np.empty((shard.examples, *SHAPE), np.uint8))


@pytest.fixture(params=[read_all, index_all, index_into_array])
def error_of(request: pytest.FixtureRequest, tmp_path: Path) -> Callable[[RecordsInfo], str]:
    """Read the records in each way; return the error."""

    def read(info: RecordsInfo) -> str:
        return find_error(request.param, tmp_path, info).removeprefix(f"{tmp_path.as_posix()}/")

    return read


FIRST, SECOND, THIRD = (name_shard("train", number, 3) for number in range(3))


def test_records_read_back(tmp_path: Path, info: RecordsInfo) -> None:
    images = random_images(5)
    triples = [(image, n % 2, f"folder/ä {n}.png") for n, image in enumerate(images)]
    shard = write_shard(tmp_path / "new" / "shard", triples)
    assert shard == Shard(file="shard", examples=5, sha256=hash_file(tmp_path / "new" / "shard"))
    (batch,) = StoredShard(tmp_path / "new" / shard.file, shard, info).read()
    assert batch.images.dtype == np.uint8
    assert batch.labels.dtype == np.int64
    assert (batch.images == images).all()
    assert batch.labels.tolist() == [0, 1, 0, 1, 0]
    assert batch.identities == [identity for _, _, identity in triples]


def test_equal_records_give_equal_bytes(tmp_path: Path, info: RecordsInfo) -> None:
    again = write_random_records(tmp_path / "again", {"train": [10, 10, 7]})
    assert again == info
    assert hash_file(tmp_path / "again" / FIRST) == hash_file(tmp_path / FIRST)


def test_an_interrupted_shard_does_not_have_its_name(tmp_path: Path) -> None:
    def fail() -> Any:
        yield random_images(1)[0], 0, "a"
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        write_shard(tmp_path / "shard", fail())
    assert list(tmp_path.iterdir()) == []


def test_batches_are_limited_in_records_and_bytes(
    tmp_path: Path, info: RecordsInfo, monkeypatch: pytest.MonkeyPatch
) -> None:
    shard = info.splits["train"].shards[0]
    (whole,) = StoredShard(tmp_path / shard.file, shard, info).read()
    monkeypatch.setattr(shards, "_LARGEST_BATCH", 4)
    batches = list(StoredShard(tmp_path / shard.file, shard, info).read())
    assert [len(batch.labels) for batch in batches] == [4, 4, 2]
    assert (np.concatenate([batch.images for batch in batches]) == whole.images).all()
    monkeypatch.setattr(shards, "_BATCH_BYTES", 1)
    batches = list(StoredShard(tmp_path / shard.file, shard, info).read())
    assert [len(batch.labels) for batch in batches] == [1] * 10


def test_a_split_is_read_in_the_order_of_its_shards(tmp_path: Path, info: RecordsInfo) -> None:
    found = [name for batch in Records(tmp_path, info).read("train") for name in batch.identities]
    expected = [
        f"train/{shard}#{n}" for shard, count in enumerate((10, 10, 7)) for n in range(count)
    ]
    assert found == expected


def test_an_index_says_where_the_images_are(tmp_path: Path, info: RecordsInfo) -> None:
    shard = info.splits["train"].shards[2]
    images = np.zeros((7, *SHAPE), dtype=np.uint8)
    index = StoredShard(tmp_path / shard.file, shard, info).index(images)
    (batch,) = StoredShard(tmp_path / shard.file, shard, info).read()
    assert (images == batch.images).all()
    assert index.labels.tolist() == batch.labels.tolist()
    assert index.identities == batch.identities
    content = index.path.read_bytes()
    for (start, stop), image in zip(index.image_ranges, batch.images, strict=True):
        assert content[start:stop] == image.tobytes()


def test_an_empty_shard_reads_back(tmp_path: Path, info: RecordsInfo) -> None:
    shard = write_shard(tmp_path / "empty", [])
    assert list(StoredShard(tmp_path / shard.file, shard, info).read()) == []
    index = StoredShard(tmp_path / shard.file, shard, info).index()
    assert (len(index.labels), index.image_ranges.shape) == (0, (0, 2))


def cut_records(path: Path, count: int) -> None:
    """Leave only the first records of a shard, whole."""
    lengths = []
    rest = path.read_bytes()
    content = rest
    while rest:
        size = 12 + int.from_bytes(rest[:8], "little") + 4
        lengths.append(size)
        rest = rest[size:]
    path.write_bytes(content[: sum(lengths[:count])])


def test_a_shard_cut_between_two_records_is_reported(
    tmp_path: Path, info: RecordsInfo, error_of: Callable[[RecordsInfo], str]
) -> None:
    cut_records(tmp_path / SECOND, 4)
    assert error_of(info) == (
        f"{SECOND}: expected 10 records, as info.json says; found 4; run `dvc repro`"
    )
    cut_records(tmp_path / SECOND, 0)
    assert "expected 10 records, as info.json says; found 0" in error_of(info)


def test_a_shard_with_more_records_is_reported(
    tmp_path: Path, info: RecordsInfo, error_of: Callable[[RecordsInfo], str]
) -> None:
    with (tmp_path / SECOND).open("ab") as stream:
        stream.write((tmp_path / FIRST).read_bytes())
    assert error_of(info).startswith(f"{SECOND}: expected 10 records, as info.json says; found 20")


def test_two_swapped_shards_of_equal_size_are_reported(
    tmp_path: Path, info: RecordsInfo, error_of: Callable[[RecordsInfo], str]
) -> None:
    shutil.move(tmp_path / FIRST, tmp_path / "between")
    shutil.move(tmp_path / SECOND, tmp_path / FIRST)
    shutil.move(tmp_path / "between", tmp_path / SECOND)
    first, second = (shard.sha256 for shard in info.splits["train"].shards[:2])
    assert error_of(info) == (
        f"{FIRST}: expected SHA-256 {first}, as info.json says; found {second}; run `dvc repro`"
    )


def test_another_image_with_correct_checksums_is_reported(
    tmp_path: Path, info: RecordsInfo, error_of: Callable[[RecordsInfo], str]
) -> None:
    """The checksums of TFRecord cannot show that somebody rewrote a record."""
    (batch,) = Records(tmp_path, info).shards("train")[0].read()
    images = batch.images.copy()
    images[3, 0, 0, 0] ^= 1
    write_shard(tmp_path / FIRST, zip(images, batch.labels.tolist(), batch.identities, strict=True))
    assert error_of(info).startswith(f"{FIRST}: expected SHA-256 ")


@pytest.mark.parametrize(("position", "kind"), [(3, "damaged length"), (300, "damaged content")])
def test_a_flipped_bit_is_reported_with_its_record(
    tmp_path: Path,
    info: RecordsInfo,
    error_of: Callable[[RecordsInfo], str],
    position: int,
    kind: str,
) -> None:
    content = bytearray((tmp_path / THIRD).read_bytes())
    content[position] ^= 1
    (tmp_path / THIRD).write_bytes(content)
    assert error_of(info) == f"{THIRD}: record 0: {kind}"


def test_a_missing_shard_is_reported(
    tmp_path: Path, info: RecordsInfo, error_of: Callable[[RecordsInfo], str]
) -> None:
    (tmp_path / THIRD).unlink()
    assert error_of(info) == f"{THIRD}: not found; run `dvc repro`"


GOOD: dict[str, bytes | int] = {"image": bytes(12 * 17 * 3), "label": 1, "identity": b"a"}


@pytest.mark.parametrize(
    ("features", "reason"),
    [
        ({"image": bytes(12 * 17 * 3), "label": 1}, "KeyError: 'identity'"),
        ({"label": 1, "identity": b"a"}, "KeyError: 'image'"),
        (GOOD | {"image": bytes(5)}, "ValueError: cannot reshape array of size 5"),
        (GOOD | {"image": 5}, "ValueError: a field has the wrong type"),
        (GOOD | {"label": b"1"}, "ValueError: a field has the wrong type"),
        (GOOD | {"identity": b"\xff"}, "UnicodeDecodeError: "),
        (GOOD | {"label": 2}, "ValueError: label 2 of 2 classes"),
        (GOOD | {"label": 2**63 - 1}, "ValueError: label 9223372036854775807 of 2 classes"),
        (None, "ValueError: an Example"),
    ],
)
def test_a_record_of_another_form_is_reported(
    tmp_path: Path,
    info: RecordsInfo,
    error_of: Callable[[RecordsInfo], str],
    features: dict[str, bytes | int] | None,
    reason: str,
) -> None:
    payloads = [
        tfrecord.encode_example(GOOD),
        b"no example" if features is None else tfrecord.encode_example(features),
    ]
    (tmp_path / FIRST).write_bytes(
        b"".join(part for payload in payloads for part in tfrecord.frame_record(payload))
    )
    assert error_of(info).startswith(
        f"{FIRST}: record 1: expected identity, image, label with an image of (12, 17, 3); {reason}"
    )


def test_a_description_of_other_shards_is_reported(
    tmp_path: Path, info: RecordsInfo, error_of: Callable[[RecordsInfo], str]
) -> None:
    value = json.loads((tmp_path / "info.json").read_text())
    value["splits"]["train"]["shards"][0]["sha256"] = "0" * 64
    write_info(tmp_path, RecordsInfo(**value))
    expected = f"{FIRST}: expected SHA-256 {'0' * 64}, as info.json says"
    assert error_of(read_info(tmp_path)).startswith(expected)


@pytest.mark.parametrize(
    ("examples", "expected"), [(0, 1), (1, 1), (1149, 1), (1150, 2), (10_000, 9)]
)
def test_a_shard_has_at_most_the_given_size(tmp_path: Path, examples: int, expected: int) -> None:
    assert count_shards(examples, (28, 28, 1), shard_size_mib=1) == expected
    images = np.zeros((28, 28, 1), np.uint8)
    path = tmp_path / "shard"
    write_shard(path, ((images, 0, "an identity of usual length") for _ in range(1149)))
    assert path.stat().st_size <= 1 << 20


def test_names_of_shards_have_number_and_count() -> None:
    assert name_shard("test", 3, 12) == "test-00003-of-00012.tfrecord"
