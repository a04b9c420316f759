"""Class probabilities from a trained model."""

from collections.abc import Callable

import keras
import numpy as np
from numpy.typing import NDArray

from imgpipe.nn.common.batches import evaluation_batch_size, ordered_batches
from imgpipe.records.stored_images import Inputs


def predict_probabilities(
    model: keras.Model,
    images: Inputs,
    on_images: Callable[[int], object] = lambda images: None,
) -> NDArray[np.float32]:
    """Return class probabilities, (N, K) float32, in the order of the images.

    Args:
        model: a trained model.
        images: (N, H, W, C) uint8.
        on_images: called after each batch with its number of images, such as `update` of a progress
            bar.
    """
    count, batch_size = images.shape[0], evaluation_batch_size(images.shape[1:])

    def report(batch: int, logs: object) -> None:
        on_images(min(batch_size, count - batch * batch_size))

    probabilities: NDArray[np.float32] = model.predict(
        ordered_batches(images),
        verbose=0,
        callbacks=[keras.callbacks.LambdaCallback(on_predict_batch_end=report)],
    )
    return probabilities
