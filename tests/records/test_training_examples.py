from pathlib import Path

import numpy as np
import pytest

from imgpipe.core.errors import PipelineError
from imgpipe.records.npz_file import write_npz
from imgpipe.records.training_examples import TrainingExamples, read_training_examples


@pytest.mark.parametrize("draws", [0, 3])
def test_examples_are_read_as_they_were_written(draws: int, tmp_path: Path) -> None:
    generator = np.random.default_rng(0)
    written = TrainingExamples(
        images=generator.integers(0, 256, (2, 5, 6, 3), dtype=np.uint8),
        draws=generator.integers(0, 256, (2, draws, 5, 6, 3), dtype=np.uint8),
    )
    for name in ("1.npz", "new/2.npz"):
        write_npz(tmp_path / name, written._asdict())
    assert (tmp_path / "1.npz").read_bytes() == (tmp_path / "new/2.npz").read_bytes()
    found = read_training_examples(tmp_path / "1.npz")
    for name in ("images", "draws"):
        values, expected = getattr(found, name), getattr(written, name)
        assert (values.dtype, values.shape) == (expected.dtype, expected.shape)
        assert (values == expected).all()


def test_a_file_without_examples_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "examples.npz"
    with pytest.raises(PipelineError, match=r"examples\.npz: not found; `dvc repro` writes it"):
        read_training_examples(path)
    np.savez(path, images=np.zeros(3))
    whole = path.read_bytes()
    for content in (b"", b"text", whole, whole[:-40]):
        path.write_bytes(content)
        with pytest.raises(PipelineError, match=r"examples\.npz: expected an npz archive of"):
            read_training_examples(path)
