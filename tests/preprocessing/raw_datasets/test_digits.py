import gzip
from pathlib import Path

import numpy as np
import pytest
from support import CATALOG, find_error, identity, load_download

from imgpipe.datasets.catalog import load_entry
from imgpipe.datasets.download import fetch_file
from imgpipe.preprocessing.raw_datasets import open_dataset
from imgpipe.preprocessing.splits import UNASSIGNED

DIGITS = load_entry("digits", CATALOG)


def test_the_digits_are_equal_to_scikit_learns(tmp_path: Path) -> None:
    from sklearn.datasets import (
        load_digits,
    )

    download = load_download("digits")
    fetch_file(download.files[0], download.urls, tmp_path)
    dataset = open_dataset(DIGITS, tmp_path, tmp_path)
    expected = load_digits()
    assert (dataset.labels == expected.target).all()
    images = np.stack([np.asarray(dataset.read(index)) for index in range(len(dataset.labels))])
    assert images.shape == (1797, 8, 8)
    assert images.dtype == np.uint8
    assert (images == np.rint(expected.images * 255 / 16)).all()
    assert identity(dataset, 17) == "digits.csv.gz#17"
    assert dataset.paths(np.array([17])) == ["17"]
    assert set(dataset.splits) == {UNASSIGNED}
    assert dataset.classes == [str(digit) for digit in range(10)]


def table_with(row: int, column: int, value: int) -> bytes:
    """A table of all digits, with one other value."""
    rows = [[16] * 64 + [label] for label in range(10)]
    rows[row][column] = value
    lines = "".join(",".join(map(str, values)) + "\n" for values in rows)
    return gzip.compress(lines.encode(), mtime=0)


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b"1,2,3\n", "not a gzipped table"),
        (gzip.compress(b"1,2,x\n", mtime=0), "not a gzipped table"),
        (
            gzip.compress(b"1,2,3\n", mtime=0),
            "expected 64 pixels and a label in a line; found 3 values",
        ),
        (gzip.compress(b"0," * 64 + b"0\n", mtime=0)[:-9], "not a gzipped table"),
        (
            table_with(row=1, column=5, value=17),
            "row 2, column 6: expected a pixel from 0 to 16; found 17",
        ),
        (
            table_with(row=9, column=63, value=-1),
            "row 10, column 64: expected a pixel from 0 to 16; found -1",
        ),
        (
            table_with(row=0, column=0, value=10**12),
            "row 1, column 1: expected a pixel from 0 to 16; found 1000000000000",
        ),
        (
            table_with(row=3, column=64, value=-2),
            "row 4, column 65: expected a label of 0 or more; found -2",
        ),
        (table_with(row=3, column=5, value=10**20), "not a gzipped table"),
    ],
)
def test_damaged_digits_are_reported(tmp_path: Path, content: bytes, expected: str) -> None:
    (tmp_path / "digits.csv.gz").write_bytes(content)
    message = find_error(open_dataset, DIGITS, tmp_path, tmp_path)
    assert message.removeprefix(tmp_path.as_posix()).startswith(f"/digits.csv.gz: {expected}")
