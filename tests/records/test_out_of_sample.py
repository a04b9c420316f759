"""Probabilities of images by networks that were not fitted to them."""

from pathlib import Path

import numpy as np
import pytest

from imgpipe.core.errors import PipelineError
from imgpipe.records.npz_file import write_npz
from imgpipe.records.out_of_sample import OutOfSample, read_out_of_sample


def test_the_file_gives_back_what_was_written(tmp_path: Path) -> None:
    written = OutOfSample(
        np.array([0, 3]), np.eye(2, dtype=np.float32), np.full((3, 2), 0.5, dtype=np.float32)
    )
    write_npz(tmp_path / "out_of_sample.npz", written._asdict())
    found = read_out_of_sample(tmp_path / "out_of_sample.npz")
    for name in OutOfSample._fields:
        np.testing.assert_array_equal(getattr(found, name), getattr(written, name))


def test_another_file_is_refused(tmp_path: Path) -> None:
    write_npz(tmp_path / "out_of_sample.npz", {"training": np.zeros((2, 2), dtype=np.float32)})
    with pytest.raises(PipelineError, match="npz archive of out-of-sample probabilities"):
        read_out_of_sample(tmp_path / "out_of_sample.npz")
