"""Class probabilities from a trained model."""

from collections.abc import Callable

import keras
import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from imgpipe.nn.common.arithmetic import Forward
from imgpipe.nn.common.batches import ordered_batches
from imgpipe.records.stored_images import Inputs


class Predictor:
    """Computes the class probabilities of images."""

    def __init__(self, model: keras.Model, forward: Forward) -> None:
        """Take a trained model, and the function that computes it."""
        self._run = tf.function(
            lambda images: forward(model, images, training=False),
            autograph=False,
            input_signature=[tf.TensorSpec((None, *model.input_shape[1:]), tf.uint8)],
        )

    def predict(
        self, images: Inputs, on_images: Callable[[int], object] = lambda images: None
    ) -> NDArray[np.float32]:
        """Return class probabilities, (N, K) float32, in the order of the images.

        Args:
            images: (N, H, W, C) uint8.
            on_images: called after each batch with its number of images, such as `update` of a
                progress bar.
        """
        found: list[NDArray[np.float32]] = []
        for (batch,) in ordered_batches(images):
            found.append(self._run(batch).numpy())
            on_images(len(found[-1]))
        return np.concatenate(found)
