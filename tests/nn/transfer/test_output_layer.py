"""The output layer of a pretrained network, fitted to features."""

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.special import softmax
from support import TRANSFER_PARAMS, change_params

from imgpipe.core.exact_sums import ExactMatrix
from imgpipe.nn.fitting.history import History
from imgpipe.nn.fitting.training_set import TrainingSet
from imgpipe.nn.transfer.logistic_regression import Layer, cross_entropy
from imgpipe.nn.transfer.output_layer import _collect_training, fit_output_layer
from imgpipe.records.stored_images import LabeledInputs


def make_features(
    classes: int, *, variants: int = 1, bootstrap_seed: int | None = None
) -> TrainingSet:
    """Return random features with a small difference between the classes, equal at every call."""
    generator = np.random.default_rng(classes)

    def draw(count: int) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        labels = np.arange(count) % classes
        values = 3 + generator.normal(size=(count, 20)) + np.eye(classes, 20)[labels]
        return values.astype(np.float32), labels

    inputs, labels = draw(60)
    validation = LabeledInputs(*draw(20))
    copies = [draw(60)[0] for _ in range(variants - 1)]
    return TrainingSet(
        np.concatenate([inputs, *copies]), labels, validation, bootstrap_seed=bootstrap_seed
    )


def fit(features: TrainingSet, classes: int = 2, **changes: Any) -> tuple[Layer, History]:
    params = change_params(TRANSFER_PARAMS, **changes)
    fitted = fit_output_layer(features, classes, params.transfer)
    return fitted.layer, fitted.history


@pytest.mark.parametrize("classes", [2, 3])
def test_the_history_ends_with_the_metrics_of_the_layer(
    classes: int, capsys: pytest.CaptureFixture[str]
) -> None:
    features = make_features(classes)
    layer, (epochs, best, penalty) = fit(features, classes)
    inputs, labels = features.validation
    predicted = layer.predict(ExactMatrix(inputs[np.arange(20)]))
    assert best is epochs[-1]
    assert [epoch.epoch for epoch in epochs] == list(range(1, len(epochs) + 1))
    assert penalty in TRANSFER_PARAMS.transfer.l2_penalties
    assert best.validation_loss == pytest.approx(cross_entropy(predicted, labels).mean(), rel=1e-4)
    assert best.validation_loss_unweighted == best.validation_loss
    assert best.validation_accuracy == (predicted.argmax(axis=1) == labels).mean() > 1 / classes
    assert best.loss < np.log(classes)  # of equal probabilities
    assert f"on 60 training images chose l2_penalty {penalty:g}" in capsys.readouterr().out


@pytest.mark.parametrize("classes", [2, 3])
def test_the_validation_logits_are_those_of_the_layer(classes: int) -> None:
    features = make_features(classes)
    fitted = fit_output_layer(features, classes, TRANSFER_PARAMS.transfer)
    predicted = fitted.layer.predict(ExactMatrix(features.validation.inputs[np.arange(20)]))
    assert fitted.validation_logits.shape == (20, classes)
    np.testing.assert_allclose(softmax(fitted.validation_logits, axis=1), predicted, rtol=1e-3)


def test_equal_values_give_equal_bytes() -> None:
    (first, _), (second, _) = (fit(make_features(2)) for _ in range(2))
    assert first.kernel.tobytes() == second.kernel.tobytes()
    assert first.bias.tobytes() == second.bias.tobytes()


@pytest.mark.parametrize(
    "changes",
    [
        {"transfer__label_smoothing": 0.2},
        {"transfer__iterations": 2},
        {"transfer__l2_penalties": [0.5]},
    ],
)
def test_each_parameter_changes_the_weights(changes: dict[str, Any]) -> None:
    plain, _ = fit(make_features(2))
    changed, _ = fit(make_features(2), **changes)
    assert not np.allclose(plain.kernel, changed.kernel, rtol=1e-3)


@pytest.mark.parametrize("other", [{"variants": 2}, {"bootstrap_seed": 1}])
def test_copies_and_a_bootstrap_sample_change_the_weights(other: dict[str, Any]) -> None:
    plain, _ = fit(make_features(2))
    changed, _ = fit(make_features(2, **other))
    assert not np.allclose(plain.kernel, changed.kernel, rtol=1e-3)


def test_features_without_information_give_equal_probabilities() -> None:
    """The copies of each class are the images of the other class."""
    values = np.random.default_rng(1).normal(size=(24, 5)).astype(np.float32)
    labels = np.arange(24) % 2
    inputs = np.concatenate([values, values[::-1]])
    layer, history = fit(TrainingSet(inputs, labels, LabeledInputs(values, labels)))
    assert [epoch.epoch for epoch in history.epochs] == [1]
    assert layer.kernel == pytest.approx(0)


def test_balanced_class_weights_give_each_class_the_same_total() -> None:
    labels = np.array([0, 1, 1, 1])
    inputs = np.eye(4, dtype=np.float32)
    features = TrainingSet(inputs, labels, LabeledInputs(inputs, labels))
    params = change_params(TRANSFER_PARAMS, transfer__class_weights="balanced")
    examples = _collect_training(features, 2, params.transfer)
    assert examples.weights == pytest.approx([2, 2 / 3, 2 / 3, 2 / 3])
    assert examples.targets.tolist() == [[1, 0], [0, 1], [0, 1], [0, 1]]


@pytest.mark.parametrize(
    ("class_weights", "labels", "weighted"),
    [
        ("none", [0, 2], [0, 1]),
        ("balanced", [0, 2], [0]),
        ("none", [2], [0]),
        ("balanced", [2], []),
    ],
)
def test_a_class_without_training_examples_has_no_weight_if_classes_are_balanced(
    class_weights: str, labels: list[int], weighted: list[int]
) -> None:
    """A bootstrap sample may have no example of class 2."""
    inputs = np.random.default_rng(1).normal(size=(9, 4)).astype(np.float32)
    validation = LabeledInputs(inputs[: len(labels)], np.array(labels))
    features = TrainingSet(inputs, np.arange(9) % 2, validation)
    layer, history = fit(features, 3, transfer__class_weights=class_weights)
    losses = cross_entropy(
        layer.predict(ExactMatrix(validation.inputs[np.arange(len(labels))])), validation.labels
    )
    expected = losses[weighted].mean() if weighted else 0.0
    assert history.best.validation_loss == pytest.approx(expected, rel=1e-4)
    assert history.best.validation_loss_unweighted == pytest.approx(losses.mean(), rel=1e-4)
