"""A trained network at work: probabilities, and what it sees."""

from collections.abc import Callable

import keras
import numpy as np
from numpy.typing import NDArray

from imgpipe.nn.common.batches import evaluation_batch_size, ordered_batches
from imgpipe.records.stored_images import Images


def predict_probabilities(
    model: keras.Model,
    images: Images,
    on_images: Callable[[int], object] = lambda images: None,
) -> NDArray[np.float32]:
    """Return class probabilities, (N, K) float32, for images (N, H, W, C) uint8, in their order.

    `on_images` is called with the number of images that have been added to those that are done.
    """
    count, at_once = images.shape[0], evaluation_batch_size(images.shape[1:])
    done = 0

    def tell(batch: int, logs: object) -> None:
        nonlocal done
        done_before, done = done, min((batch + 1) * at_once, count)
        on_images(done - done_before)

    told = keras.callbacks.LambdaCallback(on_predict_batch_end=tell)
    probabilities: NDArray[np.float32] = model.predict(
        ordered_batches(images), verbose=0, callbacks=[told]
    )
    if probabilities.shape[1] == 1:  # of the second of two classes
        probabilities = np.concatenate([1 - probabilities, probabilities], axis=1)
    return probabilities
