from pathlib import Path

import numpy as np
import pytest

from imgpipe.core.errors import PipelineError
from imgpipe.evaluation.views import Views, read_views, write_views

GENERATOR = np.random.default_rng(0)
MAPS = [
    ("relu_1", GENERATOR.random((7, 7, 4), dtype=np.float32)),
    ("relu_2", GENERATOR.random((3, 3, 8), dtype=np.float32)),
]


@pytest.mark.parametrize("layers", [0, 2])
def test_views_are_read_as_they_were_written(layers: int, tmp_path: Path) -> None:
    written = Views(
        images=GENERATOR.integers(0, 256, (2, 9, 9, 1), dtype=np.uint8),
        kernels=GENERATOR.random((4, 3, 3, 1), dtype=np.float32),
        activation_maps=GENERATOR.random((2, 7, 7), dtype=np.float32),
        feature_maps=MAPS[:layers],
        layers_with_maps=9,
    )
    for name in ("1.npz", "2.npz"):
        write_views(tmp_path / name, written)
    assert (tmp_path / "1.npz").read_bytes() == (tmp_path / "2.npz").read_bytes()
    found = read_views(tmp_path / "1.npz")
    for name in ("images", "kernels", "activation_maps"):
        values = getattr(found, name)
        assert values.dtype == getattr(written, name).dtype
        assert (values == getattr(written, name)).all()
    assert found.layers_with_maps == 9
    assert [name for name, _ in found.feature_maps] == [name for name, _ in MAPS[:layers]]
    for (_, values), (_, expected) in zip(found.feature_maps, MAPS, strict=False):
        assert (values == expected).all()


def test_a_file_without_views_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "views.npz"
    with pytest.raises(PipelineError, match=r"views\.npz: not found; `dvc repro` writes it"):
        read_views(path)
    np.savez(path, images=np.zeros(3))
    whole = path.read_bytes()
    for content in (b"", b"text", whole, whole[:-40]):
        path.write_bytes(content)
        with pytest.raises(PipelineError, match=r"views\.npz: expected an npz archive of views"):
            read_views(path)
