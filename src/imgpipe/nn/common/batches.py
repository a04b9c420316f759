"""Records → `tf.data`, in batches of which each takes the images that it needs.

Small images, and those stored as PNG, are decoded once into an array, where memory has room for it.
Others stay in their files, which are mapped into memory, so that the system keeps what it has room
for. The batches are the same.
"""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from imgpipe.records.stored_images import Images

# Of the values of an image that a network is shown; in its layers there are many times as many.
_VALUES_AT_ONCE = 1 << 22


_MOST_EVALUATED_AT_ONCE = 512


def count_steps(examples: int, batch_size: int) -> int:
    """Return the number of batches that hold every example once."""
    return math.ceil(examples / batch_size)


def evaluation_batch_size(image_shape: Sequence[int]) -> int:
    """Return how many images (H, W, C) a network is shown at once when it only answers."""
    return max(1, min(_MOST_EVALUATED_AT_ONCE, _VALUES_AT_ONCE // math.prod(image_shape)))


def ordered_batches(images: Images, *columns: NDArray[Any]) -> tf.data.Dataset:
    """Return every image once, in order, each batch with what the columns (N, ...) have for it."""

    def with_images(numbers: tf.Tensor, *others: tf.Tensor) -> tuple[tf.Tensor, ...]:
        taken = tf.numpy_function(lambda numbers: images[numbers], [numbers], tf.uint8)
        return tf.ensure_shape(taken, [None, *images.shape[1:]]), *others

    numbered = tf.data.Dataset.from_tensor_slices((np.arange(images.shape[0]), *columns))
    batches = numbered.batch(evaluation_batch_size(images.shape[1:]))
    return _ahead(batches.map(with_images, num_parallel_calls=1, deterministic=True))


def _ahead(batches: tf.data.Dataset) -> tf.data.Dataset:
    """Return the same batches, made while those before them are used.

    Nothing is left for tf.data to tune, and its tuner would cost much: it looks at every iterator
    after 10 ms, 20 ms, 40 ms and so on, and an iterator that is over waits for its next look. An
    epoch whose last batch is taken after 1.3 s would end after 2.55 s.
    """
    options = tf.data.Options()
    options.autotune.enabled = False
    return batches.prefetch(2).with_options(options)
