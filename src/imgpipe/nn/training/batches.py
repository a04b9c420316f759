"""Feed training records to Keras, one batch at a time."""

import math
from typing import Any

import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from imgpipe.nn.common.batches import count_steps, prefetch
from imgpipe.nn.training.training_set import TrainingSet

# One call of Python takes several small batches, up to this size of their inputs, because a call
# costs as much as a copy of a hundred small images.
_BYTES_AT_ONCE = 1 << 20


class TrainingBatches:
    """Epochs of batches: each epoch holds every training example once, in a new order.

    The order is a function of (seed, epoch) only.
    """

    def __init__(
        self,
        training_set: TrainingSet,
        labels: NDArray[np.int64 | np.float32],
        *,
        batch_size: int,
        seed: int,
    ) -> None:
        """Prepare the batches.

        Args:
            training_set: gives the inputs.
            labels: (N, ...), in the form that the loss takes.
            batch_size: examples in a batch; the last batch of an epoch may be smaller.
            seed: seed of the order.
        """
        self._seed = seed
        self._epoch = 0
        self._order = np.arange(len(labels))

        input_shape, input_dtype = training_set.input_shape, training_set.input_dtype
        at_once = max(
            1, _BYTES_AT_ONCE // (batch_size * math.prod(input_shape) * input_dtype.itemsize)
        )
        part_size = at_once * batch_size

        def take(part: np.int64) -> tuple[NDArray[Any], NDArray[np.int64 | np.float32]]:
            examples = self._order[part * part_size : (part + 1) * part_size]
            return training_set.take(examples, self._epoch), labels[examples]

        def take_tensors(part: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
            part_inputs, part_labels = tf.numpy_function(
                take, [part], [tf.as_dtype(input_dtype), tf.as_dtype(labels.dtype)]
            )
            return (
                tf.ensure_shape(part_inputs, [None, *input_shape]),
                tf.ensure_shape(part_labels, [None, *labels.shape[1:]]),
            )

        parts = tf.data.Dataset.range(count_steps(len(labels), part_size))
        batches = parts.map(take_tensors, num_parallel_calls=1, deterministic=True)
        if at_once > 1:
            batches = batches.rebatch(batch_size)
        batches = batches.apply(
            tf.data.experimental.assert_cardinality(count_steps(len(labels), batch_size))
        )
        # Build the dataset once: in short epochs, building it again would take longer than
        # everything else except the arithmetic.
        self._batches = prefetch(batches)

    def of_epoch(self, epoch: int) -> tf.data.Dataset:
        """Return the batches of one epoch, counted from 0.

        The previous epoch must be fully consumed.
        """
        keys = tf.random.stateless_uniform(
            [len(self._order)], seed=[self._seed, epoch], minval=None, maxval=None, dtype=tf.int64
        )
        self._order = tf.argsort(keys, stable=True).numpy()
        self._epoch = epoch
        return self._batches
