from pathlib import Path

import numpy as np
import pytest

from imgpipe.core.errors import PipelineError
from imgpipe.evaluation.views import Views, choose_images, read_views, write_views

GENERATOR = np.random.default_rng(0)
MAPS = [
    ("relu_1", GENERATOR.random((7, 7, 4), dtype=np.float32)),
    ("relu_2", GENERATOR.random((3, 3, 8), dtype=np.float32)),
]


@pytest.mark.parametrize("layers", [0, 2])
def test_views_are_read_as_they_were_written(layers: int, tmp_path: Path) -> None:
    written = Views(
        numbers=np.array([3, 8]),
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
    for name in ("numbers", "images", "kernels", "activation_maps"):
        values = getattr(found, name)
        assert values.dtype == getattr(written, name).dtype
        assert (values == getattr(written, name)).all()
    assert found.layers_with_maps == 9
    assert [name for name, _ in found.feature_maps] == [name for name, _ in MAPS[:layers]]
    for (_, values), (_, expected) in zip(found.feature_maps, MAPS, strict=False):
        assert (values == expected).all()


def test_the_images_to_look_at_are_of_different_classes_with_the_surest_mistakes() -> None:
    #                  0  1  2  3  4  5  6  7  8  9
    labels = np.array([2, 2, 0, 1, 1, 0, 3, 1, 0, 2])
    answer = np.array([2, 2, 0, 3, 1, 3, 3, 3, 0, 0])
    sure = np.array([9, 9, 9, 6, 9, 8, 9, 7, 9, 6]) / 10
    probabilities = np.repeat((1 - sure[:, None]) / 3, 4, axis=1)
    probabilities[np.arange(10), answer] = sure
    assert choose_images(labels, probabilities.astype(np.float32)).tolist() == [2, 4, 0, 5, 7, 3]
    right = np.eye(4, dtype=np.float32)[labels]
    assert choose_images(labels, right).tolist() == [2, 3, 0, 6, 5, 4]
    wrong = np.roll(right, 1, axis=1)
    assert choose_images(labels, wrong).tolist() == [0, 1, 2]


def test_two_classes_fill_the_places_of_missing_mistakes() -> None:
    labels = np.array([0, 0, 0, 0, 1, 1, 1, 1])
    right = np.eye(2, dtype=np.float32)[labels]
    assert choose_images(labels, right).tolist() == [0, 4, 1, 5, 2, 6]
    right[7] = [0.75, 0.25]
    assert choose_images(labels, right).tolist() == [0, 4, 1, 5, 2, 7]
    assert choose_images(labels[3:5], right[3:5]).tolist() == [0, 1]


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
