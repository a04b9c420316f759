"""The optimizer and its learning rates, from operations that every processor computes equally."""

from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from imgpipe.core.elementary import cos, exp, log
from imgpipe.nn.common.batches import count_steps
from imgpipe.settings.training import Training

_ADAMW_DECAY = 0.004  # Keras's default


def make_optimizer(settings: Training, *, examples: int) -> keras.optimizers.Optimizer:
    """Return the optimizer with its learning rate schedule.

    Args:
        settings: the section `training` of params.yaml.
        examples: the number of training examples in an epoch.
    """
    rates = TableOfRates(list_learning_rates(settings, examples=examples))
    optimizer: keras.optimizers.Optimizer
    match settings.optimizer:
        case "adam":
            optimizer = Adam(rates)
        case "adamw":
            optimizer = Adam(rates, weight_decay=_ADAMW_DECAY)
        case "rmsprop":
            optimizer = keras.optimizers.RMSprop(rates)
        case "sgd":
            optimizer = keras.optimizers.SGD(rates, momentum=0.9, nesterov=True)
    if settings.precision == "mixed_float16":
        # Without a factor, many gradients would be too small for half precision.
        return keras.optimizers.LossScaleOptimizer(optimizer)
    return optimizer


def list_learning_rates(settings: Training, *, examples: int) -> NDArray[np.float32]:
    """Return the learning rate of each step, (steps,) float32; a constant rate once.

    Of Keras's schedules, `CosineDecay` calls a cosine and `ExponentialDecay` a power of TensorFlow,
    whose last digits depend on the processor.
    """
    steps = settings.epochs * count_steps(examples, settings.batch_size)
    progress = np.arange(steps) / steps
    first, final_frac = settings.learning_rate, settings.learning_rate_final_frac
    match settings.learning_rate_schedule:
        case "cosine":
            rates = first * (final_frac + (1.0 - final_frac) * (0.5 + 0.5 * cos(np.pi * progress)))
        case "exponential":
            rates = first * exp(progress * log(np.array(final_frac)))
        case "constant":
            rates = np.array([first])
    return np.asarray(rates, np.float32)


class TableOfRates(keras.optimizers.schedules.LearningRateSchedule):  # type: ignore[misc]
    """A learning rate for each step; after the last one, its rate stays."""

    def __init__(self, rates: Sequence[float] | NDArray[np.float32]) -> None:
        """Take the rates in the order of the steps."""
        self._rates = np.asarray(rates, np.float32)

    def __call__(self, step: Any) -> tf.Tensor:
        """Return the rate of a step, counted from 0."""
        return _look_up(self._rates, step)


class Adam(keras.optimizers.Adam):  # type: ignore[misc]
    """Adam, whose corrections for the first steps come from a table.

    Keras computes powers of the decay rates in each step, with a function whose last digits depend
    on the processor. Source: Kingma and Ba (2014), arXiv:1412.6980, the end of section 2; with
    `weight_decay` Loshchilov and Hutter (2017), arXiv:1711.05101.
    """

    def __init__(
        self, rates: keras.optimizers.schedules.LearningRateSchedule, **options: Any
    ) -> None:
        """Take the learning rates; the other options are Keras's."""
        super().__init__(rates, **options)
        self._corrections = _list_corrections(self.beta_1, self.beta_2)

    def update_step(self, gradient: tf.Tensor, variable: Any, learning_rate: tf.Tensor) -> None:
        """Change a variable and its moments."""
        number = self._get_variable_index(variable)
        first, second = self._momentums[number], self._velocities[number]
        gradient = tf.cast(gradient, variable.dtype)
        self.assign_add(first, (gradient - first) * (1.0 - self.beta_1))
        self.assign_add(second, (gradient * gradient - second) * (1.0 - self.beta_2))
        size = tf.cast(learning_rate, variable.dtype) * _look_up(self._corrections, self.iterations)
        self.assign_sub(variable, first * size / (tf.sqrt(second) + self.epsilon))


def _list_corrections(beta_1: float, beta_2: float) -> NDArray[np.float32]:
    """Return sqrt(1 - beta_2^t) / (1 - beta_1^t) for t = 1, 2, ... until it is 1 in float32."""
    corrections: list[np.float32] = []
    power_1, power_2 = np.float64(beta_1), np.float64(beta_2)
    while not corrections or corrections[-1] != 1.0:
        corrections.append(np.float32(np.sqrt(1.0 - power_2) / (1.0 - power_1)))
        power_1, power_2 = power_1 * beta_1, power_2 * beta_2
    return np.array(corrections)


def _look_up(table: NDArray[np.float32], step: Any) -> tf.Tensor:
    """Return the value of a step, counted from 0, or the last value."""
    place = tf.minimum(tf.cast(step, tf.int64), len(table) - 1)
    return tf.gather(tf.constant(table), place)
