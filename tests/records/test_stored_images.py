from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from support import write_random_records

from imgpipe.records import stored_images
from imgpipe.records.folders import Records
from imgpipe.records.stored_images import StoredImages


def open_both(folder: Path, of_shards: list[int]) -> tuple[StoredImages, NDArray[np.uint8]]:
    """Return the images of some shards, in the files and in an array."""
    info = write_random_records(folder, {"train": of_shards})
    indices = [shard.index() for shard in Records(folder, info).shards("train")]
    expected = [batch.images for batch in Records(folder, info).read("train")]
    return StoredImages(indices, info), np.concatenate(expected)


def test_images_are_equal_to_the_records(tmp_path: Path) -> None:
    stored, expected = open_both(tmp_path, [7, 0, 1, 12])
    assert stored.shape == expected.shape == (20, 12, 17, 3)
    assert (stored[np.arange(20)] == expected).all()
    numbers = np.array([19, 0, 7, 7, 6, 8])
    found = stored[numbers]
    assert found.dtype == np.uint8
    assert (found == expected[numbers]).all()
    assert stored[np.array([], dtype=np.int64)].shape == (0, 12, 17, 3)


def test_a_selection_is_a_copy_that_may_be_changed(tmp_path: Path) -> None:
    stored, expected = open_both(tmp_path, [3])
    found = stored[np.array([1])]
    found[:] = 0
    assert (stored[np.array([1])] == expected[[1]]).all()


def test_a_number_beyond_the_last_image_is_an_error(tmp_path: Path) -> None:
    stored, _ = open_both(tmp_path, [3])
    with pytest.raises(IndexError):
        stored[np.array([3])]


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of the files that were opened, in their order."""
    names: list[str] = []
    map_file = stored_images._map_file

    def record(path: Path) -> memoryview:
        names.append(path.name)
        return map_file(path)

    monkeypatch.setattr(stored_images, "_map_file", record)
    return names


def test_more_files_than_may_be_open_are_read(
    tmp_path: Path, opened: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stored_images, "_MOST_OPEN_FILES", 2)
    stored, expected = open_both(tmp_path, [3, 3, 3, 3])
    for numbers in np.random.default_rng(0).integers(12, size=(20, 8)):
        assert (stored[numbers] == expected[numbers]).all()
    assert len(opened) > 4  # files were closed and opened again


def test_each_file_is_opened_once_if_all_may_be_open(tmp_path: Path, opened: list[str]) -> None:
    stored, _ = open_both(tmp_path, [3, 3])
    for _ in range(3):
        stored[np.arange(6)]
    assert len(opened) == 2
