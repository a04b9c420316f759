"""What a training minimizes: the cross-entropy, with class weights, and penalties."""

import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from imgpipe.nn.common import exact
from imgpipe.nn.fitting.training_set import balance_classes
from imgpipe.settings.training import Training


class Objective:
    """The loss of a training: cross-entropy, with label smoothing, class weights and penalties.

    It is computed from the logits, the input of the softmax, so that no probability rounds to 0.
    """

    def __init__(self, classes: int, settings: Training, labels: NDArray[np.int64]) -> None:
        """Prepare the loss.

        Args:
            classes: the number of classes, K.
            settings: the section `training` of params.yaml.
            labels: (N,), of the training examples; they decide the class weights.
        """
        self._classes, self._settings = classes, settings
        weights = balance_classes(labels) if settings.class_weights == "balanced" else None
        self._class_weights = weights and [weights.get(label, 0.0) for label in range(classes)]

    def weights(self, labels: tf.Tensor) -> tf.Tensor:
        """Return the weight (B,) float32 of each example, by its class.

        A class without training examples has weight 0.
        """
        if self._class_weights is None:
            return tf.ones_like(labels, tf.float32)
        return tf.gather(tf.constant(self._class_weights, tf.float32), labels)

    def losses(self, labels: tf.Tensor, logits: tf.Tensor) -> tf.Tensor:
        """Return the loss (B,) float32 of each example, without its weight.

        Args:
            labels: (B,) int64.
            logits: (B, K), from the network.
        """
        smoothing = self._settings.label_smoothing
        targets = tf.one_hot(labels, self._classes) * (1.0 - smoothing) + smoothing / self._classes
        return exact.cross_entropy(logits, targets)

    def cross_entropies(self, labels: tf.Tensor, logits: tf.Tensor) -> tf.Tensor:
        """Return the cross-entropy (B,) of each example, in nats, without label smoothing."""
        return exact.cross_entropy(logits, tf.one_hot(labels, self._classes))

    def are_correct(self, labels: tf.Tensor, logits: tf.Tensor) -> tf.Tensor:
        """Return whether the most probable class of each example is its label, (B,) bool."""
        return tf.equal(tf.argmax(logits, axis=-1), labels)

    def penalty(self, variables: list[tf.Variable]) -> tf.Tensor:
        """Return the penalty on the kernels among the variables of a network, float32.

        Biases and the weights of batch normalization have no penalty.
        """
        l1, l2 = self._settings.l1_penalty, self._settings.l2_penalty
        total = tf.constant(0.0)
        for variable in variables:
            if (l1 or l2) and variable.name == "kernel":
                kernel = tf.convert_to_tensor(variable)
                total += exact.sum_along(
                    l1 * tf.abs(kernel) + l2 * kernel * kernel, range(len(kernel.shape))
                )
        return total
