"""Feed records to a network in order, one batch at a time, for validation and prediction."""

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from imgpipe.records.stored_images import Inputs

# The most input values in one batch; the outputs of the layers are many times larger.
_MAX_VALUES = 1 << 22
_MAX_INPUTS = 512


def count_steps(examples: int, batch_size: int) -> int:
    """Return the number of batches that hold every example once."""
    return math.ceil(examples / batch_size)


def evaluation_batch_size(input_shape: Sequence[int]) -> int:
    """Return the number of inputs in a batch if the network is not being trained."""
    return max(1, min(_MAX_INPUTS, _MAX_VALUES // math.prod(input_shape)))


class Slice(NamedTuple):
    """Some of the equal slices into which each batch is cut, one for each replica."""

    first: int
    end: int
    total: int
    """Slices of a batch."""

    def bounds(self, examples: Any) -> tuple[Any, Any]:
        """Return the first row of the slices in a batch, and the row after the last one.

        Args:
            examples: examples in the batch, a number, an array or a tensor of integers.
        """
        return self.first * examples // self.total, self.end * examples // self.total


WHOLE = Slice(0, 1, 1)


def ordered_batches(
    inputs: Inputs, *columns: NDArray[Any], batch_size: int | None = None, rows: Slice = WHOLE
) -> tf.data.Dataset:
    """Return every input once, in order, in batches together with its values of the columns.

    Args:
        inputs: images (N, H, W, C) uint8, or features (N, F) float32.
        columns: arrays (N, ...), such as labels and weights.
        batch_size: inputs in a batch; if not given, `evaluation_batch_size`.
        rows: the slice of each batch to return.
    """

    def add_inputs(numbers: tf.Tensor, *values: tf.Tensor) -> tuple[tf.Tensor, ...]:
        dtype = tf.as_dtype(inputs.dtype)
        taken = tf.numpy_function(lambda numbers: inputs[numbers], [numbers], dtype)
        return tf.ensure_shape(taken, [None, *inputs.shape[1:]]), *values

    def take_rows(*batch: tf.Tensor) -> tuple[tf.Tensor, ...]:
        start, end = rows.bounds(tf.shape(batch[0])[0])
        return tuple(column[start:end] for column in batch)

    numbered = tf.data.Dataset.from_tensor_slices((np.arange(inputs.shape[0]), *columns))
    batches = numbered.batch(batch_size or evaluation_batch_size(inputs.shape[1:])).map(take_rows)
    return prefetch(batches.map(add_inputs, num_parallel_calls=1, deterministic=True))


def prefetch(batches: tf.data.Dataset) -> tf.data.Dataset:
    """Return the same batches, prepared while the batches before them are used.

    Autotuning of tf.data is off: there is nothing to tune here, and autotuning delays the end of an
    epoch. It checks every iterator after 10 ms, 20 ms, 40 ms and so on, and releases an exhausted
    iterator only at its next check: if the last batch is taken after 1.3 s, the epoch would end
    after 2.55 s.
    """
    options = tf.data.Options()
    options.autotune.enabled = False
    return batches.prefetch(2).with_options(options)
