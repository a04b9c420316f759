"""Operations of TensorFlow whose results have the same bytes on every processor.

A sum of rounded numbers depends on its order, and the order depends on the instruction set, the
sizes of the caches and the number of threads. Here every sum is exact, so its order has no effect:
the terms are integers times a power of two, and float64 holds every partial sum without rounding.
The result is rounded once, to float32.

Operations on single elements are exact by IEEE 754, if each is an operation of its own: `+`, `-`,
`*`, `/`, square root, maximum, comparisons, casts. Exponential and logarithm are computed from
these, because the variants of TensorFlow and of the C library depend on the processor.

TensorFlow's graph optimizer must be off (see `configure_runtime`): it replaces `1 / x` and
`x / sqrt(y)` by approximate instructions, which differ between processors.
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, TypeVar

import tensorflow as tf

from imgpipe.core.elementary import (
    EXP_COEFFICIENTS,
    LN_2_HIGH,
    LN_2_LOW,
    LOG_COEFFICIENTS,
    ONE_BY_LN_2,
    SQUARE_ROOT_2,
    evaluate_polynomial,
)

MANTISSA_BITS = 53
"""float64 holds every integer up to 2 ** 53."""
MAX_FACTOR_BITS = 25
"""Factors with more bits would be finer than float32."""
# Smaller numbers are rounded on the grid of this exponent: then no product is subnormal. Whether a
# processor calculates with subnormal numbers depends on the thread.
_MIN_EXPONENT = -40

_Axes = Sequence[int]
_Function = TypeVar("_Function", bound=Callable[..., Any])
_Product = Callable[[tf.Tensor, tf.Tensor], tf.Tensor]


def custom_gradient(function: _Function) -> _Function:
    """Let a function return its gradient, too, as `tf.custom_gradient` does, which has no types."""
    return tf.custom_gradient(function)  # type: ignore[no-any-return]


class Grid(NamedTuple):
    """A tensor as integers times a power of two."""

    integers: tf.Tensor
    """float64, not larger than 2 ** (bits - 1)."""
    step: tf.Tensor
    """float64, a power of two; its shape broadcasts to the shape of the integers."""


def to_grid(x: tf.Tensor, bits: int | tf.Tensor, axes: _Axes | None = None) -> Grid:
    """Round a tensor to integers times a power of two, which follows from the largest magnitude.

    Args:
        x: float32.
        bits: of the integers, with their sign.
        axes: the axes whose elements share a step; all if not given.
    """
    largest = tf.reduce_max(tf.abs(x), axis=axes, keepdims=True)
    exponent = tf.bitwise.right_shift(tf.bitcast(largest, tf.int32), 23) - 127
    exponent = tf.maximum(exponent, _MIN_EXPONENT) + 2 - bits
    return Grid(tf.round(tf.cast(x, tf.float64) * power_of_two(-exponent)), power_of_two(exponent))


def power_of_two(exponent: tf.Tensor) -> tf.Tensor:
    """Return 2 ** exponent, float64, for exponents from -1022 to 1023, int32."""
    biased = tf.cast(exponent, tf.int64) + 1023
    return tf.bitcast(tf.bitwise.left_shift(biased, tf.constant(52, tf.int64)), tf.float64)


def factor_bits(terms: int | tf.Tensor) -> tf.Tensor:
    """Return the bits of two factors, so that the sum of this number of products is exact, int32.

    Factors of b bits are at most 2 ** (b - 1), a sum of n products at most n * 2 ** (2 * b - 2).
    """
    return tf.minimum((MANTISSA_BITS + 2 - _log2_rounded_up(terms)) // 2, MAX_FACTOR_BITS)


def _log2_rounded_up(number: int | tf.Tensor) -> tf.Tensor:
    powers = tf.constant([1 << power for power in range(MANTISSA_BITS)], tf.int64)
    return tf.reduce_sum(tf.cast(powers < tf.cast(number, tf.int64), tf.int32))


def _count(x: tf.Tensor, axes: _Axes) -> tf.Tensor:
    """Return the number of elements along some axes, int32."""
    return tf.reduce_prod(tf.gather(tf.shape(x), axes))


def sum_along(x: tf.Tensor, axes: _Axes, *, keepdims: bool = False) -> tf.Tensor:
    """Return the sums along some axes, which count from 0, float32."""
    return _reduce(x, axes, 1.0, keepdims=keepdims)


def mean_along(x: tf.Tensor, axes: _Axes, *, keepdims: bool = False) -> tf.Tensor:
    """Return the means along some axes, which count from 0, float32."""
    return _reduce(x, axes, tf.cast(_count(x, axes), tf.float64), keepdims=keepdims)


def _reduce(x: tf.Tensor, axes: _Axes, divisor: float | tf.Tensor, *, keepdims: bool) -> tf.Tensor:
    """Return the sums along some axes, divided by a number, float32."""

    @custom_gradient
    def reduce(x: tf.Tensor) -> tuple[tf.Tensor, Callable[..., Any]]:
        bits = MANTISSA_BITS + 1 - _log2_rounded_up(_count(x, axes))
        integers, step = to_grid(x, bits, axes)
        total = tf.reduce_sum(integers, axes, keepdims=True) * step

        def gradient(upstream: tf.Tensor) -> tf.Tensor:
            share = tf.cast(tf.cast(upstream, tf.float64) / divisor, tf.float32)
            return tf.broadcast_to(share, tf.shape(x))

        return tf.cast(total / divisor, tf.float32), gradient

    result = reduce(x)
    return result if keepdims else tf.squeeze(result, list(axes))


def _all_but_last(x: tf.Tensor) -> list[int]:
    return list(range(len(x.shape) - 1))


@custom_gradient
def add_to_channels(x: tf.Tensor, values: tf.Tensor) -> Any:
    """Add a value to each channel, the last axis; `values` have the shape (C,)."""

    def gradient(upstream: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        return upstream, sum_along(upstream, _all_but_last(x))

    return x + values, gradient


@custom_gradient
def scale_channels(x: tf.Tensor, factors: tf.Tensor) -> Any:
    """Multiply each channel, the last axis, by a factor; `factors` have the shape (C,)."""

    def gradient(upstream: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        return upstream * factors, sum_along(upstream * x, _all_but_last(x))

    return x * factors, gradient


class _Products(NamedTuple):
    """Sums of products of two tensors, and their gradients, on float64."""

    forward: _Product
    """From input and kernel to output."""
    to_input: _Product
    """From the gradient of the output and the kernel to the gradient of the input."""
    to_kernel: _Product
    """From the input and the gradient of the output to the gradient of the kernel."""


def _multiply(
    x: tf.Tensor, kernel: tf.Tensor, products: _Products, terms: int, *, training: bool
) -> tf.Tensor:
    """Return exact sums of products, rounded to float32.

    Args:
        x: input, (N, ...) float32.
        kernel: float32.
        products: how they are multiplied.
        terms: the number of terms of each sum, forward and in the gradient of the input.
        training: all examples of a batch share a grid, as the gradient of the kernel needs;
            without training, each example has its own grid, so its result does not depend on the
            other examples, and only the input has a gradient.
    """
    axes = None if training else range(1, len(x.shape))

    @custom_gradient
    def multiply(x: tf.Tensor, kernel: tf.Tensor) -> Any:
        # The gradient of the kernel is a sum over all positions of all examples.
        most_terms = tf.maximum(terms, tf.size(x) // kernel.shape[-2]) if training else terms
        bits = factor_bits(most_terms)
        inputs, weights = to_grid(x, bits, axes), to_grid(kernel, bits)
        result = _round(products.forward(inputs.integers, weights.integers), inputs, weights)

        def gradient(upstream: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor | None]:
            errors = to_grid(upstream, bits, axes)
            to_input = products.to_input(errors.integers, weights.integers)
            if not training:
                return _round(to_input, errors, weights), None
            to_kernel = products.to_kernel(inputs.integers, errors.integers)
            return _round(to_input, errors, weights), _round(to_kernel, inputs, errors)

        return result, gradient

    return multiply(x, kernel)


def _round(sums: tf.Tensor, first: Grid, second: Grid) -> tf.Tensor:
    step = first.step * second.step
    return tf.cast(sums * tf.reshape(step, [-1] + [1] * (len(sums.shape) - 1)), tf.float32)


def matmul(x: tf.Tensor, kernel: tf.Tensor, *, training: bool) -> tf.Tensor:
    """Return x @ kernel, (..., U) float32, for x (..., F) and kernel (F, U)."""
    features, units = kernel.shape
    rows = tf.reshape(x, [-1, features])
    products = _Products(
        forward=tf.matmul,
        to_input=lambda errors, weights: tf.matmul(errors, weights, transpose_b=True),
        to_kernel=lambda inputs, errors: tf.matmul(inputs, errors, transpose_a=True),
    )
    result = _multiply(rows, kernel, products, max(features, units), training=training)
    return tf.reshape(result, tf.concat([tf.shape(x)[:-1], [units]], 0))


def conv2d(
    x: tf.Tensor, kernel: tf.Tensor, *, strides: _Axes, padding: str, training: bool
) -> tf.Tensor:
    """Return the convolution, (N, H, W, D) float32.

    Args:
        x: (N, H, W, C) float32.
        kernel: (height, width, C, D).
        strides: along H and W.
        padding: "same" or "valid".
        training: see `_multiply`.
    """
    options: dict[str, Any] = {"strides": [1, *strides, 1], "padding": padding.upper()}
    height, width, channels, filters = kernel.shape
    products = _Products(
        forward=lambda inputs, weights: tf.nn.conv2d(inputs, weights, **options),
        to_input=lambda errors, weights: tf.raw_ops.Conv2DBackpropInput(
            input_sizes=tf.shape(x), filter=weights, out_backprop=errors, **options
        ),
        to_kernel=lambda inputs, errors: tf.raw_ops.Conv2DBackpropFilter(
            input=inputs, filter_sizes=kernel.shape, out_backprop=errors, **options
        ),
    )
    terms = height * width * max(channels, filters)
    return _multiply(x, kernel, products, terms, training=training)


def depthwise_conv2d(
    x: tf.Tensor, kernel: tf.Tensor, *, strides: _Axes, padding: str, training: bool
) -> tf.Tensor:
    """Return the convolution of each channel with its kernels, (N, H, W, C * M) float32.

    Args:
        x: (N, H, W, C) float32.
        kernel: (height, width, C, M), for M outputs of each channel.
        strides: along H and W.
        padding: "same" or "valid".
        training: see `_multiply`.
    """
    options: dict[str, Any] = {"strides": [1, *strides, 1], "padding": padding.upper()}
    products = _Products(
        forward=lambda inputs, weights: tf.raw_ops.DepthwiseConv2dNative(
            input=inputs, filter=weights, **options
        ),
        to_input=lambda errors, weights: tf.raw_ops.DepthwiseConv2dNativeBackpropInput(
            input_sizes=tf.shape(x), filter=weights, out_backprop=errors, **options
        ),
        to_kernel=lambda inputs, errors: tf.raw_ops.DepthwiseConv2dNativeBackpropFilter(
            input=inputs, filter_sizes=kernel.shape, out_backprop=errors, **options
        ),
    )
    height, width, _, multiplier = kernel.shape
    return _multiply(x, kernel, products, height * width * multiplier, training=training)


# The exponential of smaller numbers would be subnormal in float32; here it is 0.
_LOWEST_EXPONENT = -87.0


def _exp(x: tf.Tensor) -> tf.Tensor:
    """Return e ** x for x <= 0, float64; 0 if x is below -87."""
    limited = tf.maximum(x, _LOWEST_EXPONENT)
    exponent = tf.round(limited * ONE_BY_LN_2)
    rest = (limited - exponent * LN_2_HIGH) - exponent * LN_2_LOW
    power = evaluate_polynomial(rest, EXP_COEFFICIENTS)
    power *= power_of_two(tf.cast(exponent, tf.int32))
    return tf.where(x < _LOWEST_EXPONENT, tf.zeros_like(power), power)


def _log(x: tf.Tensor) -> tf.Tensor:
    """Return the natural logarithm of normal positive numbers, float64."""
    bits = tf.bitcast(x, tf.int64)
    exponent = tf.bitwise.right_shift(bits, tf.constant(52, tf.int64)) - 1023
    mantissa = x * power_of_two(tf.cast(-exponent, tf.int32))  # in [1, 2)
    is_large = mantissa > SQUARE_ROOT_2
    mantissa = tf.where(is_large, mantissa * 0.5, mantissa)
    exponent = tf.cast(exponent, tf.float64) + tf.cast(is_large, tf.float64)
    ratio = (mantissa - 1.0) / (mantissa + 1.0)
    series = evaluate_polynomial(ratio * ratio, LOG_COEFFICIENTS)
    return exponent * LN_2_HIGH + (2.0 * ratio * series + exponent * LN_2_LOW)


@custom_gradient
def log(x: tf.Tensor) -> Any:
    """Return the natural logarithm of normal positive numbers, float32."""
    return tf.cast(_log(tf.cast(x, tf.float64)), tf.float32), lambda upstream: upstream / x


class _Powers(NamedTuple):
    """What softmax and cross-entropy have in common, float64."""

    distance: tf.Tensor
    """(N, K), from each logit up to the largest logit of its row."""
    powers: tf.Tensor
    """(N, K), e ** -distance."""
    total: tf.Tensor
    """(N, 1), the sum of the powers, from 1 to K."""


def _powers(logits: tf.Tensor) -> _Powers:
    logits = tf.cast(logits, tf.float64)
    distance = tf.reduce_max(logits, axis=-1, keepdims=True) - logits
    powers = _exp(-distance)
    # Each power is at most 1: this many binary places leave room for their sum.
    places = power_of_two(MANTISSA_BITS - _log2_rounded_up(logits.shape[-1]))
    total = tf.reduce_sum(tf.round(powers * places), axis=-1, keepdims=True) / places
    return _Powers(distance, powers, total)


@custom_gradient
def softmax(logits: tf.Tensor) -> Any:
    """Return probabilities (N, K) float32, from logits (N, K)."""
    _, powers, total = _powers(logits)
    probabilities = tf.cast(powers / total, tf.float32)

    def gradient(upstream: tf.Tensor) -> tf.Tensor:
        products = upstream * probabilities
        return probabilities * (upstream - sum_along(products, [1], keepdims=True))

    return probabilities, gradient


def cross_entropy(logits: tf.Tensor, targets: tf.Tensor) -> tf.Tensor:
    """Return the cross-entropy of each example, in nats, (N,) float32.

    No probability is rounded to 0, so the result is finite.

    Args:
        logits: (N, K), the input of the softmax.
        targets: (N, K) float32, the expected probabilities, without gradient.
    """

    @custom_gradient
    def from_logits(logits: tf.Tensor) -> Any:
        distance, powers, total = _powers(logits)
        wide_targets = tf.cast(targets, tf.float64)
        sums = tf.cast(sum_along(targets, [1], keepdims=True), tf.float64)
        # All terms are positive, so none cancels digits of another.
        below = sum_along(tf.cast(wide_targets * distance, tf.float32), [1], keepdims=True)
        losses = tf.cast(sums * _log(total) + tf.cast(below, tf.float64), tf.float32)

        def gradient(upstream: tf.Tensor) -> tf.Tensor:
            slopes = tf.cast(powers / total * sums - wide_targets, tf.float32)
            return upstream[:, tf.newaxis] * slopes

        return tf.squeeze(losses, [1]), gradient

    return from_logits(tf.cast(logits, tf.float32))


@custom_gradient
def sigmoid(x: tf.Tensor) -> Any:
    """Return 1 / (1 + e ** -x), float32."""
    power = _exp(-tf.abs(tf.cast(x, tf.float64)))
    numerator = tf.where(x < 0, power, tf.ones_like(power))
    result = tf.cast(numerator / (power + 1.0), tf.float32)
    return result, lambda upstream: upstream * (result * (1.0 - result))
