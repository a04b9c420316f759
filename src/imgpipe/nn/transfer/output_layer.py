"""Transfer learning: fit the last layer of a pretrained network to features computed once."""

from collections.abc import Mapping, Sequence
from functools import partial

import keras
import numpy as np
from numpy.typing import NDArray

from imgpipe.console.messages import report
from imgpipe.nn.fitting.history import Epoch, Training, write_metrics
from imgpipe.nn.fitting.training_set import LabeledInputs, TrainingSet, balance_classes
from imgpipe.nn.transfer.cluster_features import make_extractor, store_on_cluster
from imgpipe.nn.transfer.logistic_regression import (
    Examples,
    Layer,
    choose_penalty,
    cross_entropy,
    fit_layer,
    fit_standardization,
    one_thread,
)
from imgpipe.parallel.cluster import find_scheduler
from imgpipe.records.info import RecordsInfo
from imgpipe.records.shards import StoredShard
from imgpipe.settings.architectures import Pretrained
from imgpipe.settings.params import Params
from imgpipe.settings.train import Train


class TransferLearning:
    """The training of a network that `build_pretrained` built."""

    def __init__(
        self,
        model: keras.Model,
        info: RecordsInfo,
        params: Params,
        sources: Mapping[str, str],
    ) -> None:
        """Give the network its weights from ImageNet.

        Args:
            model: from `build_model`.
            info: describes the records.
            params: the whole of params.yaml.
            sources: the SHA-256 of the project's source files, by their names under `src`.

        Raises:
            PipelineError: the weights are not installed, or differ from the declared hash.
        """
        self._chosen: Pretrained = params.chosen_architecture
        self._model, self._settings = model, params.train
        self._extractor = make_extractor(model, info, params, sources)
        self._store_on_cluster = partial(store_on_cluster, self._extractor, info, params, sources)

    def read_features(self, shards: Sequence[StoredShard]) -> LabeledInputs:
        """Return the features (N, F) float32 of shards; `open_training_set` takes this function.

        If there is a Dask cluster, its workers compute the features that are not stored.

        Raises:
            PipelineError: a shard is damaged, or the cluster cannot be used.
        """
        computed = self._store_on_cluster(shards) if find_scheduler() else 0
        return self._extractor.read(shards, computed_elsewhere=computed)

    def fit_output_layer(self, features: TrainingSet) -> Training:
        """Fit the output layer of the network; leave the network with its weights.

        The layer is fitted to standardized features: the mean of each feature is 0, and one factor
        for all features makes the mean square 1. The weights of the layer then include mean and
        factor. An epoch is an iteration of L-BFGS. The last epoch is the best one, because the
        penalty, not early stopping, prevents over-fitting.

        Args:
            features: features of the examples to train and to validate on.

        Returns:
            the metrics of all iterations, and of the last one.
        """
        examples = _collect_examples(features, self._model.output_shape[-1], self._settings)
        validation, labels = features.validation
        iterations = self._settings.epochs
        with one_thread():
            penalty, log_loss = choose_penalty(
                examples,
                self._chosen.l2_penalties,
                folds=self._chosen.folds,
                seed=self._settings.seed,
                most_iterations=iterations,
            )
            mean, scale = fit_standardization(examples.features)
            standardized = examples.standardize(mean, scale)
            rows = (validation[np.arange(len(labels))] - mean) / scale
            classes = examples.targets.shape[1]
            weights = _weigh_classes(features.labels, classes, self._settings)[labels]
            history: list[Epoch] = []

            def add_epoch(layer: Layer) -> None:
                number = len(history) + 1
                history.append(_measure(layer, standardized, rows, labels, weights, number))

            layer = fit_layer(
                standardized, penalty, most_iterations=iterations, on_iteration=add_epoch
            )
        if not history:  # features without information: L-BFGS stops at weights 0
            add_epoch(layer)
        kernel = (layer.kernel / scale).astype(np.float32)
        bias = (layer.bias - mean.astype(np.float64) @ (layer.kernel / scale)).astype(np.float32)
        self._model.get_layer("logits").set_weights([kernel, bias])
        if log_loss is not None:
            report(
                f"train: cross-validation on {len(np.unique(examples.groups)):,} training images"
                f" chose l2_penalty {penalty:g}, log loss {log_loss:.4f}"
            )
        training = Training(history, best=history[-1], l2_penalty=penalty)
        write_metrics(training, self._model.count_params())
        return training


def _collect_examples(features: TrainingSet, outputs: int, settings: Train) -> Examples:
    """Return all variants of all training examples."""
    everything = np.arange(features.examples)
    variants = range(features.variants)
    rows = np.concatenate([features.take(everything, epoch) for epoch in variants])
    labels = np.tile(features.labels, len(variants))
    classes = max(2, outputs)
    smoothing = settings.label_smoothing
    targets = np.eye(classes)[labels] * (1 - smoothing) + smoothing / classes
    weights = _weigh_classes(features.labels, classes, settings)[labels]
    return Examples(rows, targets, weights, np.tile(features.sample, len(variants)))


def _weigh_classes(labels: NDArray[np.int64], classes: int, settings: Train) -> NDArray[np.float64]:
    """Return the weight of each class, (K,); a balanced class without examples has weight 0."""
    if settings.class_weights != "balanced":
        return np.ones(classes)
    balanced = balance_classes(labels)
    return np.array([balanced.get(label, 0.0) for label in range(classes)])


def _measure(
    layer: Layer,
    training: Examples,
    validation: NDArray[np.float32],
    validation_labels: NDArray[np.int64],
    validation_weights: NDArray[np.float64],
    number: int,
) -> Epoch:
    labels = training.targets.argmax(axis=1)
    fitted, predicted = layer.predict(training.features), layer.predict(validation)
    losses = cross_entropy(predicted, validation_labels)
    return Epoch(
        epoch=number,
        learning_rate=1.0,
        loss=float(np.average(cross_entropy(fitted, labels), weights=training.weights)),
        accuracy=float((fitted.argmax(axis=1) == labels).mean()),
        validation_loss=float(losses @ validation_weights / (validation_weights.sum() or 1.0)),
        validation_accuracy=float((predicted.argmax(axis=1) == validation_labels).mean()),
        validation_loss_unweighted=float(losses.mean()),
    )
