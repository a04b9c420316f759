"""Operations of TensorFlow whose results have the same bytes on every processor.

A sum of rounded numbers depends on its order, and the order depends on the instruction set, the
sizes of the caches and the number of threads. Here every sum is exact, so its order has no effect:
the terms are multiples of a power of two, and float64 holds every partial sum without rounding. The
result is rounded once, to float32.

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
MAX_FACTOR_BITS = 23
"""float32 rounds numbers to 23 bits with their sign; see `round_to_grid`."""
MAX_TERM_BITS = 52
"""float64 rounds numbers to 52 bits with their sign."""
_FEW_CHANNELS = 3
# Exponents of the finest grids of products and of sums: then no result is subnormal in float32, and
# subnormal numbers become 0. Whether a processor calculates with them depends on the thread.
_MIN_STEPS = {tf.float32: -63, tf.float64: -125}
_ALL_BITS_BUT_SIGN = 0x7FFFFFFF

_Axes = Sequence[int]
_Function = TypeVar("_Function", bound=Callable[..., Any])
_Product = Callable[[tf.Tensor, tf.Tensor], tf.Tensor]


def custom_gradient(function: _Function) -> _Function:
    """Let a function return its gradient, too, as `tf.custom_gradient` does, which has no types."""
    return tf.custom_gradient(function)  # type: ignore[no-any-return]


def round_to_grid(
    x: tf.Tensor, bits: int | tf.Tensor, axes: _Axes | None = None, *, dtype: tf.DType = tf.float32
) -> tf.Tensor:
    """Round numbers to multiples of a power of two, which follows from the largest magnitude.

    The multiples are at most 2 ** (bits - 1). If a number is NaN, infinite or above 2 ** 100, all
    results along the axes may be NaN.

    Args:
        x: float32.
        bits: of the multiples, with their sign; at most 23 in float32, and 52 in float64.
        axes: the axes whose elements share a power; all if not given.
        dtype: in which the numbers are rounded: float32 for factors, float64 for terms.

    Returns:
        float64.
    """
    # Numbers are in the same order as their bits. A maximum of numbers may ignore NaN.
    magnitudes = tf.bitwise.bitwise_and(tf.bitcast(x, tf.int32), _ALL_BITS_BUT_SIGN)
    largest = tf.reduce_max(magnitudes, axes, keepdims=True)
    exponent = tf.maximum(tf.bitwise.right_shift(largest, 23) - 125 - bits, _MIN_STEPS[dtype])
    # The last digit of a sum with this number is one step of the grid.
    mantissa_bits = 24 if dtype == tf.float32 else MANTISSA_BITS
    anchor = tf.cast(power_of_two(exponent) * (1.5 * (1 << (mantissa_bits - 1))), dtype)
    return tf.cast((tf.cast(x, dtype) + anchor) - anchor, tf.float64)


def power_of_two(exponent: tf.Tensor) -> tf.Tensor:
    """Return 2 ** exponent, float64, for exponents from -1022 to 1023, int32."""
    biased = tf.cast(exponent, tf.int64) + 1023
    return tf.bitcast(tf.bitwise.left_shift(biased, tf.constant(52, tf.int64)), tf.float64)


def factor_bits(terms: int | tf.Tensor) -> tf.Tensor:
    """Return the bits of two factors, so that the sum of this number of products is exact, int32.

    Factors of b bits are at most 2 ** (b - 1), a sum of n products at most n * 2 ** (2 * b - 2).
    """
    return tf.minimum((MANTISSA_BITS + 2 - _log2_rounded_up(terms)) // 2, MAX_FACTOR_BITS)


def term_bits(terms: int | tf.Tensor) -> tf.Tensor:
    """Return the bits of terms, so that the sum of this number of terms is exact, int32."""
    return tf.minimum(MANTISSA_BITS + 1 - _log2_rounded_up(terms), MAX_TERM_BITS)


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
        rounded = round_to_grid(x, term_bits(_count(x, axes)), axes, dtype=tf.float64)
        total = tf.reduce_sum(rounded, axes, keepdims=True)

        def gradient(upstream: tf.Tensor) -> tf.Tensor:
            share = tf.cast(tf.cast(upstream, tf.float64) / divisor, tf.float32)
            return tf.broadcast_to(share, tf.shape(x))

        return tf.cast(total / divisor, tf.float32), gradient

    result = reduce(x)
    return result if keepdims else tf.squeeze(result, list(axes))


def _sum_rows(x: tf.Tensor) -> tf.Tensor:
    """Return the sums (C,) of all values of each channel, the last axis, float64.

    A product with ones is up to four times as fast as TensorFlow's sum.
    """
    rows = tf.reshape(x, [-1, x.shape[-1]])
    return tf.reshape(tf.matmul(tf.ones([1, tf.shape(rows)[0]], tf.float64), rows), [-1])


class BatchNorm(NamedTuple):
    """A normalized batch, its mean and its variance."""

    result: tf.Tensor
    mean: tf.Tensor
    """(C,), of the batch; without gradient."""
    variance: tf.Tensor
    """(C,), of the batch; without gradient."""


def normalize_batch(
    x: tf.Tensor, gamma: tf.Tensor, beta: tf.Tensor, *, epsilon: float
) -> BatchNorm:
    """Return (x - mean) / sqrt(variance + epsilon) * gamma + beta for each channel, float32.

    Args:
        x: (..., C) float32.
        gamma: (C,) float32.
        beta: (C,) float32.
        epsilon: added to the variance.
    """

    @custom_gradient
    def compute(x: tf.Tensor, gamma: tf.Tensor, beta: tf.Tensor) -> Any:
        axes = range(len(x.shape) - 1)
        count = _count(x, axes)
        bits, positions = factor_bits(count), tf.cast(count, tf.float64)
        rounded = round_to_grid(x, bits, axes)
        mean = _sum_rows(rounded) / positions
        variance = _sum_rows(tf.square(rounded)) / positions - tf.square(mean)
        # Of nearly equal values, rounding may make it negative.
        variance = tf.where(variance < 0, tf.zeros_like(variance), variance)
        deviation = tf.sqrt(variance + epsilon)
        scale = tf.cast(tf.cast(gamma, tf.float64) / deviation, tf.float32)
        centered = x - tf.cast(mean, tf.float32)

        def gradient(upstream: tf.Tensor, *_: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
            errors = round_to_grid(upstream, bits, axes)
            to_beta = _sum_rows(errors)
            to_gamma = (_sum_rows(errors * rounded) - mean * to_beta) / deviation
            # The mean and the variance depend on each value.
            shift = tf.cast(to_beta / positions, tf.float32)
            slope = tf.cast(to_gamma / deviation / positions, tf.float32)
            to_x = (upstream - shift - centered * slope) * scale
            return to_x, tf.cast(to_gamma, tf.float32), tf.cast(to_beta, tf.float32)

        result = centered * scale + beta
        return (result, tf.cast(mean, tf.float32), tf.cast(variance, tf.float32)), gradient

    return BatchNorm(*compute(x, gamma, beta))


@custom_gradient
def normalize(x: tf.Tensor, mean: tf.Tensor, scale: tf.Tensor, shift: tf.Tensor) -> Any:
    """Return (x - mean) * scale + shift for each channel, the last axis; only x has a gradient."""
    return (x - mean) * scale + shift, lambda upstream: (upstream * scale, None, None, None)


class _Products(NamedTuple):
    """Sums of products of two tensors, and their gradients, on float64."""

    forward: _Product
    """From input and kernel to output."""
    to_input: _Product
    """From the gradient of the output and the kernel to the gradient of the input."""
    to_kernel: _Product
    """From the input and the gradient of the output to the gradient of the kernel."""


def _multiply(
    x: tf.Tensor,
    kernel: tf.Tensor,
    bias: tf.Tensor | None,
    products: _Products,
    terms: int,
    *,
    training: bool,
) -> tf.Tensor:
    """Return exact sums of products, rounded to float32, plus the bias.

    Args:
        x: input, (N, ...) float32.
        kernel: float32.
        bias: one value for each element of the last axis of the result, float32, or None.
        products: how they are multiplied.
        terms: the number of terms of each sum, forward and in the gradient of the input.
        training: all examples of a batch share a grid, as the gradient of the kernel needs;
            without training, each example has its own grid, so its result does not depend on the
            other examples, and only the input has a gradient.
    """
    axes = None if training else range(1, len(x.shape))

    @custom_gradient
    def multiply(x: tf.Tensor, kernel: tf.Tensor, *bias: tf.Tensor) -> Any:
        # The gradient of the kernel is a sum over all positions of all examples.
        most_terms = tf.maximum(terms, tf.size(x) // kernel.shape[-2]) if training else terms
        bits = factor_bits(most_terms)
        inputs, weights = round_to_grid(x, bits, axes), round_to_grid(kernel, bits)

        def gradient(upstream: tf.Tensor) -> list[tf.Tensor | None]:
            errors = round_to_grid(upstream, bits, axes)
            to_input = tf.cast(products.to_input(errors, weights), tf.float32)
            if not training:
                return [to_input, None, *(None for _ in bias)]
            to_kernel = tf.cast(products.to_kernel(inputs, errors), tf.float32)
            return [to_input, to_kernel, *(tf.cast(_sum_rows(errors), tf.float32) for _ in bias)]

        result = tf.cast(products.forward(inputs, weights), tf.float32)
        return (result + bias[0] if bias else result), gradient

    return multiply(x, kernel) if bias is None else multiply(x, kernel, bias)


def matmul(x: tf.Tensor, kernel: tf.Tensor, bias: tf.Tensor | None, *, training: bool) -> tf.Tensor:
    """Return x @ kernel + bias, (..., U) float32, for x (..., F), kernel (F, U), bias (U,)."""
    features, units = kernel.shape
    rows = tf.reshape(x, [-1, features])
    products = _Products(
        forward=tf.matmul,
        to_input=lambda errors, weights: tf.matmul(errors, weights, transpose_b=True),
        to_kernel=lambda inputs, errors: tf.matmul(inputs, errors, transpose_a=True),
    )
    result = _multiply(rows, kernel, bias, products, max(features, units), training=training)
    return tf.reshape(result, tf.concat([tf.shape(x)[:-1], [units]], 0))


def conv2d(
    x: tf.Tensor,
    kernel: tf.Tensor,
    bias: tf.Tensor | None,
    *,
    strides: _Axes,
    padding: str,
    training: bool,
) -> tf.Tensor:
    """Return the convolution plus the bias, (N, H, W, D) float32.

    Args:
        x: (N, H, W, C) float32.
        kernel: (height, width, C, D).
        bias: (D,), or None.
        strides: along H and W.
        padding: "same" or "valid".
        training: see `_multiply`.
    """
    height, width, channels, filters = kernel.shape
    options: dict[str, Any] = {"strides": [1, *strides, 1], "padding": padding.upper()}
    products = _Products(
        forward=lambda inputs, weights: tf.nn.conv2d(inputs, weights, **options),
        to_input=lambda errors, weights: tf.raw_ops.Conv2DBackpropInput(
            input_sizes=tf.shape(x), filter=weights, out_backprop=errors, **options
        ),
        to_kernel=lambda inputs, errors: tf.raw_ops.Conv2DBackpropFilter(
            input=inputs, filter_sizes=kernel.shape, out_backprop=errors, **options
        ),
    )
    if tuple(strides) == (1, 1):
        products = _speed_up(products, x.shape, kernel.shape, padding)
    terms = height * width * max(channels, filters)
    return _multiply(x, kernel, bias, products, terms, training=training)


def _speed_up(
    products: _Products, image: Sequence[int], kernel: Sequence[int], padding: str
) -> _Products:
    """Return the products of a convolution with strides of 1, faster.

    TensorFlow's convolution in float64 takes 0.8 to 0.9 of the time of its gradients, and half of
    its time for images with few channels if two columns are computed together.

    Args:
        products: of TensorFlow.
        image: the shape of the input.
        kernel: the shape of the kernel.
        padding: "same" or "valid".
    """
    same = padding == "same"
    before = [(side - 1) // 2 if same else 0 for side in kernel[:2]]
    after = [side // 2 if same else 0 for side in kernel[:2]]
    columns = image[2] + before[1] + after[1] - kernel[1] + 1

    def forward_in_pairs(inputs: tf.Tensor, weights: tf.Tensor) -> tf.Tensor:
        pair = [tf.pad(weights, [[0, 0], edges, [0, 0], [0, 0]]) for edges in ([0, 1], [1, 0])]
        result = _convolve(inputs, tf.concat(pair, 3), before, after, strides=(1, 2))
        return tf.reshape(result, [-1, result.shape[1], columns, kernel[3]])

    def to_input(errors: tf.Tensor, weights: tf.Tensor) -> tf.Tensor:
        turned = tf.transpose(tf.reverse(weights, [0, 1]), [0, 1, 3, 2])
        return _convolve(errors, turned, after, before)

    def to_kernel(inputs: tf.Tensor, errors: tf.Tensor) -> tf.Tensor:
        # Examples and channels change their roles.
        swapped = tf.transpose(inputs, [3, 1, 2, 0]), tf.transpose(errors, [1, 2, 0, 3])
        return tf.transpose(_convolve(*swapped, before, after), [1, 2, 0, 3])

    products = products._replace(to_kernel=to_kernel)
    if kernel[2] <= _FEW_CHANNELS and columns % 2 == 0:
        products = products._replace(forward=forward_in_pairs)
    # Without padding, the convolution would multiply many zeros.
    return products._replace(to_input=to_input) if same else products


def _convolve(
    x: tf.Tensor, kernel: tf.Tensor, before: _Axes, after: _Axes, strides: _Axes = (1, 1)
) -> tf.Tensor:
    """Return a convolution with zeros before and after rows and columns."""
    padding = [[0, 0], *([*edges] for edges in zip(before, after, strict=True)), [0, 0]]
    return tf.nn.conv2d(x, kernel, strides, padding)


def depthwise_conv2d(
    x: tf.Tensor, kernel: tf.Tensor, bias: tf.Tensor | None, *, strides: _Axes, padding: str,
    training: bool,
) -> tf.Tensor:  # fmt: skip
    """Return the convolution of each channel with its kernels plus the bias, (N, H, W, C * M).

    Args:
        x: (N, H, W, C) float32.
        kernel: (height, width, C, M), for M outputs of each channel.
        bias: (C * M,), or None.
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
    return _multiply(x, kernel, bias, products, height * width * multiplier, training=training)


# The exponential of smaller numbers would be subnormal in float32; here it is 0.
_LOWEST_EXPONENT = -87.0


def _exp(x: tf.Tensor) -> tf.Tensor:
    """Return e ** x for x <= 0, float64; 0 if x is below -87."""
    is_too_small = x < _LOWEST_EXPONENT
    # A maximum may replace NaN.
    limited = tf.where(is_too_small, tf.constant(_LOWEST_EXPONENT, tf.float64), x)
    exponent = tf.round(limited * ONE_BY_LN_2)
    rest = (limited - exponent * LN_2_HIGH) - exponent * LN_2_LOW
    power = evaluate_polynomial(rest, EXP_COEFFICIENTS)
    power *= power_of_two(tf.cast(exponent, tf.int32))
    return tf.where(is_too_small, tf.zeros_like(power), power)


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
