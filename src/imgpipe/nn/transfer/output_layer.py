"""The output layer of a pretrained network, fitted to features."""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from imgpipe.console.messages import report
from imgpipe.core.exact_sums import dot, sum_exactly
from imgpipe.nn.fitting.history import Epoch, History
from imgpipe.nn.fitting.training_set import TrainingSet, balance_classes
from imgpipe.nn.transfer.logistic_regression import (
    Examples,
    LabeledFeatures,
    Layer,
    choose_penalty,
    cross_entropy,
    fit_layer,
    fit_standardization,
    one_thread,
)
from imgpipe.settings.transfer import Transfer


class FittedLayer(NamedTuple):
    """An output layer, and how it was fitted."""

    layer: Layer
    history: History
    validation_logits: NDArray[np.float64]
    """(N, K), of the validation images; the logarithms of the probabilities."""
    out_of_fold: NDArray[np.float32] | None
    """(M, K), probabilities of the training examples, by the other folds of a cross-validation."""


def fit_output_layer(features: TrainingSet, classes: int, settings: Transfer) -> FittedLayer:
    """Fit a linear layer to features.

    The layer is fitted to standardized features: the mean of each feature is 0, and one factor for
    all features makes the mean square 1. The weights of the returned layer include mean and factor.

    Args:
        features: features of the examples to train and to validate on.
        classes: the number of classes.
        settings: the section `transfer` of params.yaml.

    Returns:
        the layer; as its history, the metrics of all iterations of L-BFGS as epochs. The last epoch
        is the best one, because the penalty, not early stopping, prevents over-fitting.
    """
    training = _collect_training(features, classes, settings)
    validation = _collect_validation(features, classes, settings)
    with one_thread():
        chosen = choose_penalty(
            training,
            settings.l2_penalties,
            folds=settings.folds,
            seed=settings.seed,
            most_iterations=settings.iterations,
        )
        mean, scale = fit_standardization(training.features)
        standardized = validation.standardize(mean, scale)
        layer, epochs = _fit_with_history(
            training.standardize(mean, scale), standardized, chosen.penalty, settings.iterations
        )
        _, validation_logits = layer.predict_with_logarithms(standardized.features)
    if chosen.log_loss is not None:
        report(
            f"train: cross-validation on {len(np.unique(training.groups)):,} training images"
            f" chose l2_penalty {chosen.penalty:g}, log loss {chosen.log_loss:.4f}"
        )
    return FittedLayer(
        layer.include_standardization(mean, scale),
        History(epochs, best=epochs[-1], l2_penalty=chosen.penalty),
        validation_logits,
        # Of each example its first variant, which may be a copy.
        None if chosen.probabilities is None else chosen.probabilities[: features.examples],
    )


def _fit_with_history(
    training: Examples, validation: Examples, penalty: float, iterations: int
) -> tuple[Layer, list[Epoch]]:
    """Return the fitted layer, and the metrics of each iteration."""
    epochs: list[Epoch] = []

    def add_epoch(layer: Layer) -> None:
        epochs.append(_measure(layer, training, validation, number=len(epochs) + 1))

    layer = fit_layer(training, penalty, most_iterations=iterations, on_iteration=add_epoch)
    if not epochs:  # features without information: L-BFGS stops at weights 0
        add_epoch(layer)
    return layer, epochs


def _collect_training(features: TrainingSet, classes: int, settings: Transfer) -> LabeledFeatures:
    """Return all variants of all training examples."""
    everything = np.arange(features.examples)
    variants = range(features.variants)
    labels = np.tile(features.labels, len(variants))
    smoothing = settings.label_smoothing
    return LabeledFeatures(
        np.concatenate([features.take(everything, epoch) for epoch in variants]),
        targets=np.eye(classes)[labels] * (1 - smoothing) + smoothing / classes,
        weights=_weigh_classes(features.labels, classes, settings)[labels],
        groups=np.tile(features.sample, len(variants)),
    )


def _collect_validation(features: TrainingSet, classes: int, settings: Transfer) -> LabeledFeatures:
    """Return the validation examples; the labels of the training examples decide the weights."""
    inputs, labels = features.validation
    numbers = np.arange(len(labels))
    return LabeledFeatures(
        inputs[numbers],
        targets=np.eye(classes)[labels],
        weights=_weigh_classes(features.labels, classes, settings)[labels],
        groups=numbers,
    )


def _weigh_classes(
    labels: NDArray[np.int64], classes: int, settings: Transfer
) -> NDArray[np.float64]:
    """Return the weight of each class, (K,); a balanced class without examples has weight 0."""
    if settings.class_weights != "balanced":
        return np.ones(classes)
    balanced = balance_classes(labels)
    return np.array([balanced.get(label, 0.0) for label in range(classes)])


def _measure(layer: Layer, training: Examples, validation: Examples, *, number: int) -> Epoch:
    fitted, predicted = layer.predict(training.features), layer.predict(validation.features)
    labels, actual = training.targets.argmax(axis=1), validation.targets.argmax(axis=1)
    losses, weights = cross_entropy(predicted, actual), validation.weights
    return Epoch(
        epoch=number,
        learning_rate=1.0,
        loss=_average(cross_entropy(fitted, labels), training.weights),
        accuracy=float((fitted.argmax(axis=1) == labels).mean()),
        validation_loss=_average(losses, weights),
        validation_accuracy=float((predicted.argmax(axis=1) == actual).mean()),
        validation_loss_unweighted=_average(losses, np.ones_like(losses)),
    )


def _average(values: NDArray[np.float64], weights: NDArray[np.float64]) -> float:
    """Return the weighted mean; 0 if all weights are 0."""
    return dot(values, weights) / (float(sum_exactly(weights)) or 1.0)
