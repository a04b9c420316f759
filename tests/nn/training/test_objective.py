"""Loss, penalties, class weights, optimizer and learning rate."""

from typing import Any

import numpy as np
import pytest
from support import (
    EASY_PARAMS,
    NETWORKS,
    build_network,
    change_params,
    make_easy_images,
    predict_probabilities,
    train_easily,
    train_network,
)

from imgpipe.settings.backbones import BACKBONES

pytestmark = pytest.mark.tf


@pytest.mark.parametrize(
    ("schedule", "second"),
    [("constant", 0.01), ("cosine", 0.01 * (1 + 0.01) / 2), ("exponential", 0.01 * 0.01**0.5)],
)
def test_the_learning_rate_follows_its_schedule(schedule: str, second: float) -> None:
    """The second of two epochs is half of the schedule, which ends at 0.01 of the first rate."""
    params = change_params(
        EASY_PARAMS, training__learning_rate_schedule=schedule, training__epochs=2
    )
    _, history = train_easily(params)
    assert history[0].learning_rate == pytest.approx(0.01)
    assert history[1].learning_rate == pytest.approx(second, rel=1e-4)


@pytest.mark.parametrize("optimizer", ["adam", "adamw", "rmsprop", "sgd"])
def test_every_optimizer_lowers_the_loss(optimizer: str) -> None:
    params = change_params(EASY_PARAMS, training__optimizer=optimizer, training__epochs=2)
    _, history = train_easily(params)
    assert history[1].loss < history[0].loss


@pytest.mark.parametrize("smoothing", [0.0, 0.2])
def test_the_loss_of_two_classes_is_the_binary_cross_entropy_of_a_sigmoid(smoothing: float) -> None:
    """Loss and gradient of the textbook's network, for likely and for unlikely labels."""
    from imgpipe.nn.common.runtime import keras, tf
    from imgpipe.nn.training.objective import Objective

    model = build_network("mlp", classes=2)
    features, unit = model.get_layer("logits").input, model.get_layer("logits")
    kernel, _ = unit.get_weights()
    textbook = keras.Model(features, keras.layers.Activation("sigmoid")(unit.output))
    pair = keras.Model(features, model.layers[-1].input)
    params = change_params(training__label_smoothing=smoothing)
    labels = np.arange(64) % 2
    objective = Objective(2, params.training, labels)
    inputs = np.abs(np.random.default_rng(0).normal(size=(64, kernel.shape[0]))).astype(np.float32)
    eps = float(np.finfo(np.float32).eps)
    for size in (0.1, 1.0, 10.0):
        unit.set_weights([size * kernel, np.zeros(1)])
        logits = np.abs(np.asarray(keras.Model(features, unit.output)(inputs)))[:, 0]
        with tf.GradientTape(persistent=True) as tape:
            expected = keras.losses.binary_crossentropy(
                labels[:, None].astype(np.float32), textbook(inputs), label_smoothing=smoothing
            )
            found = objective.losses(tf.constant(labels), pair(inputs))
        # An exponential, a logarithm and a sum; products of the logit with the smoothed targets.
        assert (np.abs(found - expected) <= 4 * eps * (1 + logits)).all()
        for weights, scale in ((unit.kernel, inputs), (unit.bias, np.ones((64, 1)))):
            one, other = (np.asarray(tape.gradient(loss, weights)) for loss in (found, expected))
            # In each term the probability is rounded, and so is each of 64 sums.
            bound = (3 + 64) * eps * scale.sum(axis=0)
            difference = np.abs(one - other).T
            assert (difference <= bound).all()
    assert logits.max() > 20


def test_two_classes_are_learned() -> None:

    model, history = train_easily(classes=2)
    assert history[-1].validation_accuracy > 0.95
    images, labels = make_easy_images(200, 2)
    probabilities = predict_probabilities(model, images)
    assert (probabilities.argmax(axis=1) == labels).mean() > 0.95
    best = min(epoch.validation_loss for epoch in history)
    expected = -np.log(probabilities[np.arange(200), labels]).mean()
    assert best == pytest.approx(expected, rel=1e-3)


@pytest.mark.parametrize("classes", [2, 10])
def test_labels_of_any_number_of_classes_can_be_smoothed(classes: int) -> None:
    _, history = train_easily(
        change_params(EASY_PARAMS, training__label_smoothing=0.2), classes=classes
    )
    target = 0.8 + 0.2 / classes
    assert history[-1].validation_loss == pytest.approx(-np.log(target), abs=0.1)


def test_label_smoothing_changes_the_target_but_not_the_scale_of_the_metrics() -> None:

    images, _ = make_easy_images(50)
    confidence = {}
    for smoothing in (0.0, 0.5):
        model, history = train_easily(
            change_params(EASY_PARAMS, training__label_smoothing=smoothing)
        )
        confidence[smoothing] = predict_probabilities(model, images).max(axis=1).mean()
    assert confidence[0.5] < 0.65 < 0.9 < confidence[0.0]
    # The target of the true class is 0.55; the lowest plain cross-entropy is then -ln(0.55).
    assert history[-1].validation_loss == pytest.approx(-np.log(0.55), abs=0.1)


@pytest.mark.parametrize(("l1", "l2"), [(0.01, 0.0), (0.0, 0.02), (0.01, 0.02)])
@pytest.mark.parametrize("name", NETWORKS)
def test_penalties_are_computed_from_the_kernels_only(name: str, l1: float, l2: float) -> None:
    from imgpipe.nn.training.objective import Objective

    params = change_params(training__l1_penalty=l1, training__l2_penalty=l2)
    variables = build_network(name, params).trainable_variables
    kernels = [
        np.asarray(weights, np.float64)
        for weights in variables
        if weights.name not in ("bias", "gamma", "beta")
    ]
    frozen = name in BACKBONES  # only the output layer is trained
    assert len(kernels) == 1 if frozen else len(kernels) > 2
    expected = sum(l1 * np.abs(kernel).sum() + l2 * (kernel**2).sum() for kernel in kernels)
    found = Objective(10, params.training, np.arange(10)).penalty(variables)
    assert float(found) == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("penalty", ["l1", "l2"])
def test_penalties_shrink_the_kernels_but_are_not_in_the_metrics(penalty: str) -> None:
    size, histories = {}, {}
    for weight in (0.0, 0.01):
        model, histories[weight] = train_easily(
            change_params(EASY_PARAMS, **{f"training__{penalty}_penalty": weight})
        )
        kernel = np.asarray(model.get_layer("dense_1").kernel)
        size[weight] = {"l1": np.abs(kernel).sum(), "l2": (kernel**2).sum()}[penalty]
        if penalty == "l1" and weight:
            assert (np.abs(kernel) < 1e-3).mean() > 0.5  # l1 makes kernels sparse
    assert size[0.01] < 0.5 * size[0.0]
    # Before the first step the penalty is above 3; the cross-entropy is about ln(10).
    assert histories[0.01][0].loss < 2.5


def test_balanced_classes_have_the_same_total_weight() -> None:
    from imgpipe.nn.fitting.training_set import balance_classes

    labels = np.array([0] * 90 + [2] * 10)
    weights = balance_classes(labels)
    assert weights == {0: pytest.approx(100 / 180), 2: pytest.approx(5.0)}
    assert np.mean([weights[label] for label in labels]) == pytest.approx(1)


@pytest.mark.parametrize("classes", [2, 3])
def test_class_weights_help_the_rare_class(classes: int) -> None:
    """All images are equal, so a network can learn only the frequency of each class."""
    from imgpipe.nn.common.runtime import keras

    labels = np.where(np.arange(300) % 10 == 0, classes - 1, np.arange(300) % (classes - 1))
    images = np.full((300, 12, 12, 1), 255, dtype=np.uint8)
    rare = {}
    for weights in ("none", "balanced"):
        params = change_params(
            EASY_PARAMS,
            networks__mlp__units=[16],
            networks__mlp__dropout_frac=0.0,
            training__class_weights=weights,
            training__epochs=30,
            training__learning_rate=0.05,
            training__batch_size=100,
            training__learning_rate_schedule="constant",
        )
        keras.utils.set_random_seed(1)
        model = build_network("mlp", params, shape=(12, 12, 1), classes=classes)
        train_network(model, params, images, labels)
        rare[weights] = predict_probabilities(model, images[:1])[0, classes - 1]
    assert rare["none"] == pytest.approx(0.1, abs=0.03)
    assert rare["balanced"] == pytest.approx(1 / classes, abs=0.05)


def train_constant(**changes: Any) -> Any:
    """Return the metrics of a network with constant probabilities 0.7, 0.2 and 0.1.

    Of the images, 90 % have class 0 and 10 % have class 1.
    """
    params = change_params(EASY_PARAMS, training__epochs=1, training__learning_rate=1e-9, **changes)
    labels = np.where(np.arange(200) < 180, 0, 1)
    images, _ = make_easy_images(200)
    model = build_network("cnn", params, shape=(12, 12, 1), classes=3)
    logits = model.get_layer("logits")
    logits.set_weights([np.zeros_like(logits.get_weights()[0]), np.log([0.7, 0.2, 0.1])])
    (epoch,) = train_network(model, params, images, labels)
    return epoch


def test_with_balanced_classes_losses_are_means_over_classes() -> None:
    epoch = train_constant(training__class_weights="balanced")
    balanced = -(np.log(0.7) + np.log(0.2)) / 2
    assert epoch.loss == pytest.approx(balanced, rel=1e-3)
    assert epoch.validation_loss == pytest.approx(balanced, rel=1e-3)
    assert epoch.validation_accuracy == pytest.approx(0.9)


@pytest.mark.parametrize("class_weights", ["none", "balanced"])
def test_the_unweighted_loss_is_a_mean_over_images(class_weights: str) -> None:
    epoch = train_constant(training__class_weights=class_weights)
    expected = -(0.9 * np.log(0.7) + 0.1 * np.log(0.2))
    assert epoch.validation_loss_unweighted == pytest.approx(expected, rel=1e-3)
    equal = epoch.validation_loss_unweighted == epoch.validation_loss
    assert equal == (class_weights == "none")
