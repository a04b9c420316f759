"""The output layer of a pretrained network, fitted to features."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support import PRETRAINED_PARAMS, build_network, change_params, write_random_records

from imgpipe.core.sources import hash_sources
from imgpipe.records.folders import Records
from imgpipe.settings.params import Params

pytestmark = pytest.mark.tf


def transfer(
    folder: Path,
    params: Params = PRETRAINED_PARAMS,
    *,
    classes: tuple[str, ...] = ("a", "b"),
    variants: Sequence[Callable[[Any], Any]] = (),
) -> tuple[Any, Any]:
    """Train on random images; return the network and the result."""
    from imgpipe.nn.fitting.training_set import TrainingSet
    from imgpipe.nn.transfer.output_layer import TransferLearning

    info = write_random_records(
        folder / "records", {"train": [24], "validation": [8]}, image_shape=(32, 32, 3),
        classes=classes,
    )  # fmt: skip
    model = build_network(
        "pretrained", params, shape=(32, 32, 3), classes=len(classes),
        normalization=info.normalization,
    )  # fmt: skip
    learning = TransferLearning(model, info, params, hash_sources())
    of_split = {
        split: learning.read_features(Records(folder / "records", info).shards(split))
        for split in ("train", "validation")
    }
    inputs, labels = of_split["train"]
    rows = np.concatenate([inputs, *(variant(inputs) for variant in variants)])
    seed = params.train.seed if params.train.bootstrap else None
    features = TrainingSet(rows, labels, of_split["validation"], bootstrap_seed=seed)
    return model, learning.fit_output_layer(features)


def output_layer(model: Any) -> list[Any]:
    weights: list[Any] = model.get_layer("logits").get_weights()
    return weights


@pytest.mark.parametrize("classes", [("a", "b"), ("a", "b", "c")])
def test_the_model_file_gives_the_metrics_of_the_regression(
    tmp_path: Path, repository: Path, classes: tuple[str, ...]
) -> None:
    from imgpipe.nn.inference.prediction import predict_probabilities
    from imgpipe.records.info import read_info
    from imgpipe.records.stored_images import StoredImages

    model, (history, best, penalty) = transfer(tmp_path, classes=classes)
    info = read_info(tmp_path / "records")
    index = Records(tmp_path / "records", info).shards("validation")[0].index()
    probabilities = predict_probabilities(model, StoredImages([index], info))
    right = probabilities[np.arange(8), index.labels]
    assert best is history[-1]
    assert penalty in PRETRAINED_PARAMS.architectures.pretrained.l2_penalties
    assert best.epoch == len(history)
    assert -np.log(right).mean() == pytest.approx(best.validation_loss, abs=1e-3)
    accuracy = (probabilities.argmax(axis=1) == index.labels).mean()
    assert accuracy == best.validation_accuracy
    assert history[-1].loss < history[0].loss
    assert (tmp_path / "metrics" / "history.csv").read_text().count("\n") == 1 + len(history)


@pytest.mark.parametrize("classes", [("a", "b"), ("a", "b", "c")])
def test_the_output_layer_is_the_regression_on_standardized_features(
    tmp_path: Path,
    repository: Path,
    monkeypatch: pytest.MonkeyPatch,
    classes: tuple[str, ...],
) -> None:
    from imgpipe.nn.inference.prediction import predict_probabilities
    from imgpipe.nn.transfer import output_layer as module
    from imgpipe.records.info import read_info
    from imgpipe.records.stored_images import StoredImages

    fits: list[tuple[Any, Any]] = []
    fit_layer = module.fit_layer

    def fit_and_note(examples: Any, *arguments: Any, **options: Any) -> Any:
        layer = fit_layer(examples, *arguments, **options)
        fits.append((examples, layer))
        return layer

    monkeypatch.setattr(module, "fit_layer", fit_and_note)
    model, _ = transfer(tmp_path, classes=classes)
    ((standardized, layer),) = fits
    info = read_info(tmp_path / "records")
    index = Records(tmp_path / "records", info).shards("train")[0].index()
    found = predict_probabilities(model, StoredImages([index], info))
    expected = layer.predict(standardized.features)
    assert np.ptp(expected) > 0.1
    assert found == pytest.approx(expected, abs=1e-5)
    assert standardized.features.mean(axis=0) == pytest.approx(0, abs=1e-5)
    assert np.square(standardized.features).mean() == pytest.approx(1, rel=1e-5)


@pytest.mark.parametrize(
    ("changes", "files"),
    [
        ({"train__seed": 5, "train__bootstrap": True, "train__label_smoothing": 0.2}, 2),
        ({"train__class_weights": "balanced", "train__epochs": 3}, 2),
        ({"architectures__pretrained__l2_penalties": [0.5], "preprocess__seed": 5}, 2),
        ({"train__batch_size": 4}, 4),
        ({"threads": 1}, 4),
        ({"architectures__pretrained__backbone": "efficientnet_lite1"}, 4),
    ],
)
def test_another_head_reuses_the_features_and_another_network_computes_new_ones(
    tmp_path: Path, repository: Path, changes: dict[str, Any], files: int
) -> None:
    transfer(tmp_path)
    transfer(tmp_path, change_params(PRETRAINED_PARAMS, **changes))
    assert len(list((repository / ".dvc/tmp/imgpipe/features").iterdir())) == files


def test_equal_values_give_equal_bytes(tmp_path: Path, repository: Path) -> None:
    first, second = (output_layer(transfer(tmp_path / name)[0]) for name in ("1", "2"))
    assert [value.tobytes() for value in first] == [value.tobytes() for value in second]


@pytest.mark.parametrize(
    "changes",
    [
        {"train__label_smoothing": 0.2},
        {"train__bootstrap": True},
        {"train__epochs": 2},
        {"architectures__pretrained__l2_penalties": [0.5]},
    ],
)
def test_each_parameter_changes_the_weights(
    tmp_path: Path, repository: Path, changes: dict[str, Any]
) -> None:
    plain = output_layer(transfer(tmp_path / "plain")[0])
    changed = output_layer(
        transfer(tmp_path / "changed", change_params(PRETRAINED_PARAMS, **changes))[0]
    )
    assert not np.allclose(plain[0], changed[0], rtol=1e-3)


def test_augmented_copies_change_the_weights(tmp_path: Path, repository: Path) -> None:
    plain = output_layer(transfer(tmp_path / "plain")[0])
    copies = output_layer(transfer(tmp_path / "copies", variants=[np.sin])[0])
    assert not np.allclose(plain[0], copies[0], rtol=1e-3)


def test_features_without_information_give_equal_probabilities(
    tmp_path: Path, repository: Path
) -> None:
    """The copies of each class are the images of the other class."""
    model, training = transfer(tmp_path, variants=[lambda inputs: inputs[::-1]])
    assert [epoch.epoch for epoch in training.history] == [1]
    assert output_layer(model)[0] == pytest.approx(0)


def test_balanced_class_weights_give_each_class_the_same_total() -> None:
    from imgpipe.nn.fitting.training_set import LabeledInputs, TrainingSet
    from imgpipe.nn.transfer.output_layer import _collect_examples

    labels = np.array([0, 1, 1, 1])
    inputs = np.eye(4, dtype=np.float32)
    features = TrainingSet(inputs, labels, LabeledInputs(inputs, labels))
    params = change_params(PRETRAINED_PARAMS, train__class_weights="balanced")
    examples = _collect_examples(features, 1, params.train)
    assert examples.weights == pytest.approx([2, 2 / 3, 2 / 3, 2 / 3])
    assert examples.targets.tolist() == [[1, 0], [0, 1], [0, 1], [0, 1]]


@pytest.mark.parametrize(
    ("class_weights", "labels", "expected"),
    [
        ("none", [0, 2], (np.log(4) + np.log(2)) / 2),
        ("balanced", [0, 2], np.log(4)),
        ("none", [2], np.log(2)),
        ("balanced", [2], 0.0),
    ],
)
def test_a_class_without_training_examples_has_no_weight_if_classes_are_balanced(
    class_weights: str, labels: list[int], expected: float
) -> None:
    """A bootstrap sample may have no example of class 2."""
    from imgpipe.nn.fitting.training_set import LabeledInputs, TrainingSet
    from imgpipe.nn.transfer.logistic_regression import Layer
    from imgpipe.nn.transfer.output_layer import _collect_examples, _measure, _weigh_classes

    inputs = np.eye(3, dtype=np.float32)
    features = TrainingSet(inputs, np.array([0, 1, 1]), LabeledInputs(inputs, np.arange(3)))
    params = change_params(PRETRAINED_PARAMS, train__class_weights=class_weights)
    examples = _collect_examples(features, 3, params.train)
    layer = Layer(np.zeros((3, 3)), np.log([1 / 4, 1 / 4, 1 / 2]))
    weights = _weigh_classes(features.labels, 3, params.train)[labels]
    epoch = _measure(layer, examples, inputs[: len(labels)], np.array(labels), weights, 1)
    assert epoch.validation_loss == pytest.approx(expected)
    losses = np.where(np.array(labels) == 2, np.log(2), np.log(4))
    assert epoch.validation_loss_unweighted == pytest.approx(losses.mean())
