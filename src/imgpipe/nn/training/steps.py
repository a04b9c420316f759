"""The steps of training and of validation, on all replicas.

This is a loop of its own, because Keras's `fit` fails if several machines train (Keras 3.15), and
because its losses and sums depend on the processor.
"""

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import keras
import tensorflow as tf

from imgpipe.nn.common import exact
from imgpipe.nn.common.arithmetic import Forward
from imgpipe.nn.training.objective import Objective
from imgpipe.nn.training.replicas import Replicas

# One call of Python runs up to this number of steps. More steps in a call save no more time
# (measured on two processor cores).
STEPS_PER_CALL = 50


class Means(NamedTuple):
    """Means over examples."""

    cross_entropy: float
    """In nats, without label smoothing and penalties, but with class weights."""
    accuracy: float
    cross_entropy_unweighted: float


class Steps:
    """Runs steps: each gives every replica its slice of a batch."""

    def __init__(
        self,
        model: keras.Model,
        optimizer: keras.optimizers.Optimizer,
        objective: Objective,
        replicas: Replicas,
        forward: Forward,
    ) -> None:
        """Prepare the steps; TensorFlow compiles them when they run for the first time.

        The model returns logits; the optimizer is built for its trainable variables.
        """
        self._model, self._optimizer, self._forward = model, optimizer, forward
        self._objective, self._replicas = objective, replicas
        self._run_training = self._compile(self._train)
        self._run_validation = self._compile(self._validate)

    def train(
        self, batches: tf.data.Dataset, examples: int, batch_size: int
    ) -> Iterator[tuple[int, Means]]:
        """Train on each batch; yield the number of examples so far, and their means.

        The batches hold inputs and labels (B,) int64 for the replicas of this process; the numbers
        of examples, in all and in a batch, count all replicas. The last batch may be smaller.
        """
        return _run(self._run_training, batches, examples, batch_size)

    def validate(self, batches: tf.data.Dataset, examples: int, batch_size: int) -> Means:
        """Return the means over all examples; the arguments are the same as for `train`."""
        *_, (_, means) = _run(self._run_validation, batches, examples, batch_size)
        return means

    def _train(self, inputs: tf.Tensor, labels: tf.Tensor, size: tf.Tensor) -> tf.Tensor:
        """Run one step of one replica; return the sums for its means."""
        model, variables = self._model, self._model.trainable_variables
        with tf.GradientTape() as tape:
            logits = self._forward(model, inputs, training=True)
            losses = self._objective.losses(labels, logits)
            weighted = losses * self._objective.weights(labels)
            # Divided by the size of the whole batch, so that the sum of the gradients of all
            # replicas is the gradient of its mean.
            loss = exact.sum_along(weighted, [0]) / tf.cast(size, tf.float32)
            loss += self._objective.penalty(variables) / self._replicas.count
            scaled = self._optimizer.scale_loss(loss)
        self._optimizer.apply(tape.gradient(scaled, variables), variables)
        return self._sum_up(labels, logits)

    def _validate(self, inputs: tf.Tensor, labels: tf.Tensor, size: tf.Tensor) -> tf.Tensor:
        """Return the sums for the means of one step of one replica."""
        return self._sum_up(labels, self._forward(self._model, inputs, training=False))

    def _sum_up(self, labels: tf.Tensor, logits: tf.Tensor) -> tf.Tensor:
        """Return the sums of a slice, (5,) float64, for its means."""
        weights = self._objective.weights(labels)
        losses = self._objective.cross_entropies(labels, logits)
        correct = tf.cast(self._objective.are_correct(labels, logits), tf.float32)
        columns = tf.stack([losses * weights, weights, correct, losses, tf.ones_like(weights)])
        return tf.cast(exact.sum_along(columns, [1]), tf.float64)

    def _compile(self, step: Callable[..., tf.Tensor]) -> Any:
        """Return a function that runs several steps, and returns the sums over all replicas.

        `step` runs on inputs, labels and the size of the whole batch, in one replica. The function
        takes an iterator of batches, the number of the first step and of the step after the last
        one, the number of examples in all steps, and the size of a batch.
        """

        def run_replica(inputs: tf.Tensor, labels: tf.Tensor, size: tf.Tensor) -> tf.Tensor:
            inputs, labels = self._replicas.take_rows(size, inputs, labels)
            return step(inputs, labels, size)

        replica_function = tf.autograph.experimental.do_not_convert(run_replica)
        strategy = self._replicas.strategy

        def run(
            iterator: tf.data.Iterator, first: tf.Tensor, end: tf.Tensor, examples: tf.Tensor,
            batch_size: tf.Tensor,
        ) -> tf.Tensor:  # fmt: skip
            def add_step(number: tf.Tensor, sums: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
                size = tf.minimum(batch_size, examples - number * batch_size)
                of_replicas = strategy.run(replica_function, args=(*iterator.get_next(), size))
                return number + 1, sums + strategy.reduce("SUM", of_replicas, axis=None)

            _, sums = tf.while_loop(
                lambda number, _: number < end,
                add_step,
                (first, tf.zeros(5, tf.float64)),
                parallel_iterations=1,
            )
            return sums

        return tf.function(run, autograph=False, reduce_retracing=True)


def _run(
    run: Any, batches: tf.data.Dataset, examples: int, batch_size: int
) -> Iterator[tuple[int, Means]]:
    """Run all steps of a data set; yield the number of examples so far, and their means."""
    iterator, steps = iter(batches), int(batches.cardinality())
    sums = tf.zeros(5, tf.float64)
    for first in range(0, steps, STEPS_PER_CALL):
        end = min(first + STEPS_PER_CALL, steps)
        sums += run(iterator, *(tf.constant(n) for n in (first, end, examples, batch_size)))
        weighted, weights, correct, losses, count = sums.numpy().tolist()
        means = Means(weighted / (weights or 1.0), correct / count, losses / count)
        yield min(end * batch_size, examples), means
