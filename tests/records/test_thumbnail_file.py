"""The file of small pictures."""

from pathlib import Path

import pytest
from support import find_error

from imgpipe.records.thumbnail_file import read_thumbnails, write_thumbnails


@pytest.mark.parametrize(
    "thumbnails", [{}, {"a b.jpg": b"one"}, {"größe/1.jpg": b"one", "x#17": b"", "z": b"three"}]
)
def test_thumbnails_read_back(tmp_path: Path, thumbnails: dict[str, bytes]) -> None:
    write_thumbnails(tmp_path / "found.npz", thumbnails)
    assert read_thumbnails(tmp_path / "found.npz") == thumbnails


def test_a_damaged_file_is_reported(tmp_path: Path) -> None:
    path = tmp_path / "found.npz"
    path.write_bytes(b"other")
    assert find_error(read_thumbnails, path).endswith("run `dvc repro preprocess`")
