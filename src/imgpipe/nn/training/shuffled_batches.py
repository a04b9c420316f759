"""Feed training records to a network, one batch at a time."""

import math
from typing import Any

import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from imgpipe.nn.common.batches import WHOLE, Slice, count_steps, prefetch
from imgpipe.nn.fitting.training_set import TrainingSet

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
        *,
        batch_size: int,
        seed: int,
        rows: Slice = WHOLE,
    ) -> None:
        """Prepare the batches, of which only the slice `rows` is returned.

        The last batch of an epoch may be smaller than `batch_size`.
        """
        self._seed = seed
        self._epoch = 0
        labels = training_set.labels
        self._order = np.arange(len(labels))

        input_shape, input_dtype = training_set.input_shape, training_set.input_dtype
        at_once = max(
            1, _BYTES_AT_ONCE // (batch_size * math.prod(input_shape) * input_dtype.itemsize)
        )
        part_size = at_once * batch_size

        def take(part: np.int64) -> tuple[NDArray[Any], NDArray[np.int64]]:
            examples = self._order[part * part_size : (part + 1) * part_size]
            examples = _take_rows(examples, batch_size, rows)
            return training_set.take(examples, self._epoch), labels[examples]

        def take_tensors(part: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
            part_inputs, part_labels = tf.numpy_function(
                take, [part], [tf.as_dtype(input_dtype), tf.int64]
            )
            return (
                tf.ensure_shape(part_inputs, [None, *input_shape]),
                tf.ensure_shape(part_labels, [None]),
            )

        parts = tf.data.Dataset.range(count_steps(len(labels), part_size))
        batches = parts.map(take_tensors, num_parallel_calls=1, deterministic=True)
        if at_once > 1:
            start, end = rows.bounds(batch_size)
            batches = batches.rebatch(end - start)
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


def _take_rows(examples: NDArray[np.int64], batch_size: int, rows: Slice) -> NDArray[np.int64]:
    """Return the examples of some batches that lie in the slice of their batch."""
    batches = np.split(examples, range(batch_size, len(examples), batch_size))
    return np.concatenate([batch[slice(*rows.bounds(len(batch)))] for batch in batches])
