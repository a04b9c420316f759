"""Reading model files of this format version and of other versions."""

import json
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from support import (
    SMALL_SPEC,
    build_network,
    find_error,
    make_easy_images,
    predict_probabilities,
    save_network,
    write_random_records,
)

from imgpipe.core.errors import PipelineError

pytestmark = pytest.mark.tf


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "model.keras"


def write_signature(path: Path, content: Any) -> None:
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("metadata.json", json.dumps({"imgpipe": content}))


def test_a_loaded_model_equals_the_saved_model(path: Path) -> None:
    from imgpipe.nn.inference.loading import load_model

    model = build_network("resnet", shape=(12, 12, 1))
    images, _ = make_easy_images(20)
    save_network(model, path)
    loaded = load_model(path)
    assert (predict_probabilities(loaded, images) == predict_probabilities(model, images)).all()


def test_a_file_that_is_not_a_model_is_refused(path: Path) -> None:
    from imgpipe.nn.inference.loading import load_model

    with pytest.raises(PipelineError, match=r"model\.keras: not found; `dvc repro train` writes"):
        load_model(path)
    path.write_bytes(b"no archive")
    with pytest.raises(PipelineError, match=r"model\.keras: not a Keras model"):
        load_model(path)


def test_the_signature_has_the_dataset_the_classes_and_the_image_spec(path: Path) -> None:
    from imgpipe.nn.inference.loading import read_signature

    save_network(build_network("mlp", shape=(12, 12, 1)), path)
    signature = read_signature(path)
    assert (signature.dataset, signature.classes) == ("easy", ["a", "b"])
    assert signature.image_spec == SMALL_SPEC
    assert signature.format_version == 1


def test_a_file_without_a_signature_is_refused(path: Path) -> None:
    from imgpipe.nn.inference.loading import read_signature

    with pytest.raises(PipelineError, match=r"model\.keras: not found; `dvc repro train` writes"):
        read_signature(path)
    path.write_bytes(b"no archive")
    with pytest.raises(PipelineError, match=r"model\.keras: not a model of this pipeline"):
        read_signature(path)
    build_network("mlp", shape=(12, 12, 1)).save(path)
    with pytest.raises(PipelineError, match=r"expected the key imgpipe in metadata\.json"):
        read_signature(path)


VERSION = "format_version: expected 1; found {}; update imgpipe, or run `dvc repro`"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda content: content | {"format_version": 2}, VERSION.format(2)),
        (lambda content: content | {"format_version": "1"}, VERSION.format("'1'")),
        (lambda content: {"dataset": "d", "framing": content["image_spec"]}, VERSION.format(None)),
        (lambda content: content | {"classes": 3}, "classes: expected a list; found 3"),
        (
            lambda content: content | {"pixels": "0 to 1"},
            "pixels: expected '0 to 255, float32 or uint8'; found '0 to 1'",
        ),
        (lambda content: [content["dataset"]], "expected a mapping of keys to values; found ['d']"),
    ],
    ids=["newer", "text", "missing", "classes", "pixels", "list"],
)
def test_a_wrong_signature_is_refused_in_one_line(
    path: Path, change: Callable[[Any], Any], message: str
) -> None:
    from imgpipe.nn.inference.loading import read_signature

    content = {
        "format_version": 1,
        "dataset": "d",
        "classes": ["a"],
        "pixels": "0 to 255, float32 or uint8",
        "image_spec": SMALL_SPEC.model_dump(),
    }
    write_signature(path, content)
    assert read_signature(path).dataset == "d"
    write_signature(path, change(content))
    with pytest.raises(PipelineError) as caught:
        read_signature(path)
    assert str(caught.value) == f"{path.as_posix()}: metadata.json: imgpipe: {message}"


def test_a_model_of_other_records_is_refused(path: Path, tmp_path: Path) -> None:
    """With as many classes, it would get a score."""
    from imgpipe.nn.common.model_signature import ModelSignature
    from imgpipe.nn.fitting.saved_model import save_model
    from imgpipe.nn.inference.loading import load_model_of_records

    info = write_random_records(tmp_path / "records", {"train": [3]}, image_shape=(12, 12, 1))
    model = build_network("mlp", shape=(12, 12, 1))
    right = ModelSignature.of_records(info)
    save_model(model, right, path)
    assert load_model_of_records(path, info).output_shape == model.output_shape
    cropped = info.image_spec.model_copy(update={"fit": "crop"})
    for key, value in (("dataset", "x"), ("classes", ["b", "a"]), ("image_spec", cropped)):
        save_model(model, right.model_copy(update={key: value}), path)
        assert find_error(load_model_of_records, path, info) == (
            f"{path.as_posix()}: trained on other records, with another {key}; run"
            " `dvc repro train`"
        )
