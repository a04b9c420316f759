"""What a training minimizes, and how: loss, penalties, class weights, optimizer, learning rate."""

import keras
import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from imgpipe.nn.common.batches import count_steps
from imgpipe.nn.fitting.training_set import balance_classes
from imgpipe.settings.training import Training


class Objective:
    """The loss of a training: cross-entropy, with label smoothing and class weights.

    Keras computes it from the logits, the input of the softmax, so that no probability rounds to 0.
    With `label_encoding` one_hot, or with label smoothing, the labels become one-hot vectors.
    """

    def __init__(self, classes: int, settings: Training, labels: NDArray[np.int64]) -> None:
        """Prepare the loss.

        Args:
            classes: the number of classes, K.
            settings: the section `training` of params.yaml.
            labels: (N,), of the training examples; they decide the class weights.
        """
        self._classes, self._smoothing = classes, settings.label_smoothing
        self._one_hot = settings.label_encoding == "one_hot" or settings.label_smoothing > 0
        weights = balance_classes(labels) if settings.class_weights == "balanced" else None
        self._class_weights = weights and [weights.get(label, 0.0) for label in range(classes)]

    def weights(self, labels: tf.Tensor) -> tf.Tensor:
        """Return the weight (B,) float32 of each example, by its class.

        A class without training examples has weight 0.
        """
        if self._class_weights is None:
            return tf.ones_like(labels, tf.float32)
        return tf.gather(tf.constant(self._class_weights, tf.float32), labels)

    def losses(self, labels: tf.Tensor, probabilities: tf.Tensor) -> tf.Tensor:
        """Return the loss (B,) of each example, without its weight.

        Args:
            labels: (B,) int64.
            probabilities: (B, K) float32, from the network.
        """
        return self._cross_entropies(labels, probabilities, self._smoothing)

    def cross_entropies(self, labels: tf.Tensor, probabilities: tf.Tensor) -> tf.Tensor:
        """Return the cross-entropy (B,) of each example, in nats, without label smoothing."""
        return self._cross_entropies(labels, probabilities, 0.0)

    def _cross_entropies(
        self, labels: tf.Tensor, probabilities: tf.Tensor, smoothing: float
    ) -> tf.Tensor:
        if self._one_hot:
            return keras.losses.categorical_crossentropy(
                tf.one_hot(labels, self._classes), probabilities, label_smoothing=smoothing
            )
        return keras.losses.sparse_categorical_crossentropy(labels, probabilities)

    def are_correct(self, labels: tf.Tensor, probabilities: tf.Tensor) -> tf.Tensor:
        """Return whether the most probable class of each example is its label, (B,) bool."""
        return tf.equal(tf.argmax(probabilities, axis=-1), labels)


def set_penalties(model: keras.Model, settings: Training) -> None:
    """Add the penalties on all kernels to `model.losses`.

    Biases and the weights of batch normalization have no penalty.
    """
    if settings.l1_penalty or settings.l2_penalty:
        for weights in model.trainable_variables:
            if weights.name == "kernel":
                weights.regularizer = keras.regularizers.L1L2(
                    settings.l1_penalty, settings.l2_penalty
                )


def make_optimizer(settings: Training, *, examples: int) -> keras.optimizers.Optimizer:
    """Return the optimizer with its learning rate schedule.

    Args:
        settings: the section `training` of params.yaml.
        examples: the number of training examples in an epoch.
    """
    steps = settings.epochs * count_steps(examples, settings.batch_size)
    rate = _make_learning_rate(settings, steps)
    optimizer: keras.optimizers.Optimizer
    match settings.optimizer:
        case "adam":
            optimizer = keras.optimizers.Adam(rate)
        case "adamw":
            optimizer = keras.optimizers.AdamW(rate)
        case "rmsprop":
            optimizer = keras.optimizers.RMSprop(rate)
        case "sgd":
            optimizer = keras.optimizers.SGD(rate, momentum=0.9, nesterov=True)
    if settings.precision == "mixed_float16":
        # Without a factor, many gradients would be too small for half precision.
        return keras.optimizers.LossScaleOptimizer(optimizer)
    return optimizer


def _make_learning_rate(
    settings: Training, steps: int
) -> float | keras.optimizers.schedules.LearningRateSchedule:
    first, final_frac = settings.learning_rate, settings.learning_rate_final_frac
    match settings.learning_rate_schedule:
        case "cosine":
            return keras.optimizers.schedules.CosineDecay(first, steps, alpha=final_frac)
        case "exponential":
            return keras.optimizers.schedules.ExponentialDecay(first, steps, final_frac)
        case "constant":
            return first
