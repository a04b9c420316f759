import hashlib
import shutil
from pathlib import Path
from typing import Any

import pytest
from support import EVERY_TRANSFORMATION, hash_file, hash_files, write_random_records

from imgpipe.augmentation.copies import write_copies
from imgpipe.core.errors import PipelineError
from imgpipe.records.folders import AugmentedRecords, Records
from imgpipe.records.info import copy_folder, read_augmented_info
from imgpipe.records.shards import StoredShard
from imgpipe.settings.augment import Augment

EVERY_KIND = {**EVERY_TRANSFORMATION, "fill_mode": "reflect", "seed": 7}
FLIPS = {
    "rotation_range": 0.0,
    "width_shift_range": 0.0,
    "height_shift_range": 0.0,
    "zoom_range": 0.0,
    "horizontal_flip": True,
}


@pytest.fixture(autouse=True)
def _in_this_process(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("IMGPIPE_WORKERS", "1")


@pytest.fixture
def settings(params_value: dict[str, Any]) -> Augment:
    return Augment(**(params_value["augment"] | {"copies": 2}))


# The hashes were computed by an earlier version, commit e18d595.
@pytest.mark.parametrize(
    ("changes", "image_shape", "expected"),
    [
        ({}, (28, 28, 1), "e14e910a193da0c38b07a7c74333b27297699a5ec2c1ca3a612b1e72736f1a4d"),
        (
            EVERY_KIND,
            (12, 17, 3),
            "b2197ded2ef1cd450e437066053a227707ab8698bfe44d287af67846bd731be2",
        ),
        (FLIPS, (12, 17, 3), "53715cf5fc62638c80879ca2106379593cb20613182e895429377b7f1c8a5085"),
    ],
    ids=["default", "every kind", "flips"],
)
def test_pixels_are_those_of_earlier_versions(
    tmp_path: Path,
    settings: Augment,
    changes: dict[str, Any],
    image_shape: tuple[int, int, int],
    expected: str,
) -> None:
    records, augmented = tmp_path / "records", tmp_path / "augmented"
    info = write_random_records(records, {"train": [600, 10]}, image_shape=image_shape)
    augmented.mkdir()
    write_copies(Records(records, info), settings.model_copy(update=changes), augmented)
    digest = hashlib.sha256()
    for shards in AugmentedRecords.open(augmented, Records(records, info)).copies:
        for shard in shards:
            for batch in shard.read():
                digest.update(batch.images.tobytes())
    assert digest.hexdigest() == expected


def test_copies_have_the_labels_and_identities_of_the_originals(
    tmp_path: Path, settings: Augment
) -> None:
    records, augmented = tmp_path / "records", tmp_path / "augmented"
    info = write_random_records(records, {"train": [7, 5], "test": [3]})
    augmented.mkdir()
    write_copies(Records(records, info), settings, augmented)
    described = read_augmented_info(augmented)
    assert described.copies == 2
    names = [shard.file for shard in info.splits["train"].shards]
    assert sorted(hash_files(augmented)) == [
        *(f"copy-01/{name}" for name in names),
        *(f"copy-02/{name}" for name in names),
        "info.json",
    ]
    for copy, shards in enumerate(described.shards_of_copies, start=1):
        for original, shard in zip(info.splits["train"].shards, shards, strict=True):
            folder = augmented / copy_folder(copy)
            assert shard.sha256 == hash_file(folder / shard.file)
            (before,), (after,) = (
                list(StoredShard(records / original.file, original, info).read()),
                list(StoredShard(folder / shard.file, shard, info).read()),
            )
            assert before.identities == after.identities
            assert (before.labels == after.labels).all()
            assert (before.images != after.images).any(axis=(1, 2, 3)).all()


def test_each_copy_shard_and_seed_has_random_numbers_of_its_own(
    tmp_path: Path, settings: Augment
) -> None:
    records = tmp_path / "records"
    info = write_random_records(records, {"train": [5, 5]})
    first, second = info.splits["train"].shards
    shutil.copy(records / first.file, records / second.file)
    second = second.model_copy(update={"sha256": first.sha256})
    train = info.splits["train"].model_copy(update={"shards": [first, second]})
    equal_shards = info.model_copy(update={"splits": {"train": train}})
    found = set()
    for seed in (1, 2):
        augmented = tmp_path / f"augmented-{seed}"
        augmented.mkdir()
        write_copies(
            Records(records, equal_shards), settings.model_copy(update={"seed": seed}), augmented
        )
        found |= {hash_file(path) for path in augmented.rglob("*.tfrecord")}
    assert len(found) == 8


def test_no_copies_give_an_empty_description(tmp_path: Path, settings: Augment) -> None:
    info = write_random_records(tmp_path / "records", {"train": [5]})
    (tmp_path / "augmented").mkdir()
    none = settings.model_copy(update={"copies": 0})
    write_copies(Records(tmp_path / "records", info), none, tmp_path / "augmented")
    assert list(hash_files(tmp_path / "augmented")) == ["info.json"]
    assert read_augmented_info(tmp_path / "augmented").copies == 0


def test_damaged_records_are_reported(tmp_path: Path, settings: Augment) -> None:
    records = tmp_path / "records"
    info = write_random_records(records, {"train": [5]})
    shard = records / info.splits["train"].shards[0].file
    shard.write_bytes(shard.read_bytes()[:-1])
    (tmp_path / "augmented").mkdir()
    with pytest.raises(PipelineError, match="record 4: cut short"):
        write_copies(Records(records, info), settings, tmp_path / "augmented")
