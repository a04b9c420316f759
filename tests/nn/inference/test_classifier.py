"""The classifier that `predict` and `app` use."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from support import build_network, make_easy_images, save_network

from imgpipe.core.errors import PipelineError, UnreadableImageError
from imgpipe.settings.image_spec import ImageSpec

pytestmark = pytest.mark.tf


@pytest.fixture
def classifier(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """A network with two classes, a and b; another fixture has configured TensorFlow."""
    from imgpipe.nn.inference import classifier as module

    configured: list[tuple[str, int]] = []

    def configure(arithmetic: str, *, native_threads: int) -> None:
        configured.append((arithmetic, native_threads))

    monkeypatch.setattr(module, "configure_runtime", configure)
    save_network(build_network("mlp", shape=(12, 12, 1), classes=2), tmp_path / "model.keras")
    made = module.Classifier(tmp_path / "model.keras", threads=2)
    assert configured == [("native", 2)]
    return made


IMAGES, _ = make_easy_images(7)


def read_image(path: Path, image_spec: ImageSpec) -> NDArray[np.uint8]:
    """Return an image by its number, which is the name of the file."""
    assert image_spec.image_shape == (12, 12, 1)
    if path.name == "damaged":
        raise UnreadableImageError("not an image")
    if path.name == "missing":
        raise FileNotFoundError("no such file")
    image: NDArray[np.uint8] = IMAGES[int(path.name)]
    return image


def test_an_image_is_explained_by_its_probabilities_and_its_activation_map(classifier: Any) -> None:
    probabilities, evidence = classifier.explain(IMAGES[0])
    assert probabilities.shape == (2,)
    assert probabilities.sum() == pytest.approx(1)
    assert evidence.shape == (12, 12)
    assert evidence.max() == 1


@pytest.mark.parametrize("files_at_once", [2, 512])
def test_each_file_gets_its_most_probable_classes_or_an_error(
    classifier: Any, files_at_once: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    from imgpipe.nn.inference import classifier as module

    monkeypatch.setattr(module, "_FILES_AT_ONCE", files_at_once)
    names = ["3", "damaged", "0", "missing", "missing", "6"]
    found = list(classifier.classify_files([Path(name) for name in names], read_image, top=2))
    assert [Path(each.file).name for each in found] == names
    assert [each.error for each in found] == [
        None, "not an image", None, "no such file", "no such file", None
    ]  # fmt: skip
    for each in found:
        if each.error is None:
            probabilities, _ = classifier.explain(IMAGES[int(Path(each.file).name)])
            expected = sorted(zip("ab", probabilities, strict=True), key=lambda item: -item[1])
            assert [name for name, _ in each.classes] == [name for name, _ in expected]
            assert [value for _, value in each.classes] == pytest.approx(
                [value for _, value in expected], abs=1e-6
            )
        else:
            assert each.classes == []


def test_only_the_most_probable_classes_are_returned(classifier: Any) -> None:
    (found,) = classifier.classify_files([Path("3")], read_image, top=1)
    assert len(found.classes) == 1
    assert found.classes[0][1] >= 0.5


def test_a_missing_model_is_an_error(classifier: Any, tmp_path: Path) -> None:
    with pytest.raises(PipelineError, match=r"none\.keras: not found"):
        type(classifier)(tmp_path / "none.keras", threads=1)
