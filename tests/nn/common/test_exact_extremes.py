"""Exact operations on numbers of extreme sizes, in extreme amounts, and in any order."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from numpy.typing import NDArray

pytestmark = pytest.mark.tf
FLOATS = st.floats(-(2.0**90), 2.0**90, width=32)
_Array = NDArray[np.float32]
_Operation = Callable[[Any], Any]


def make_operations(*, training: bool = True) -> dict[str, _Operation]:
    """Return operations on (4, 6, 6, 2) whose parameters are random."""
    import tensorflow as tf

    from imgpipe.nn.common import exact

    generator = np.random.default_rng(1)

    def draw(*shape: int) -> Any:
        return tf.constant(generator.normal(size=shape).astype(np.float32))

    kernel, depthwise, dense, targets = draw(3, 3, 2, 4), draw(3, 3, 2, 1), draw(72, 5), draw(1, 72)
    gamma, beta = draw(2), draw(2)
    options: dict[str, Any] = {"strides": (1, 1), "training": training}
    operations: dict[str, _Operation] = {
        "matmul": lambda x: exact.matmul(tf.reshape(x, (-1, 72)), dense, None, training=training),
        "conv2d": lambda x: exact.conv2d(x, kernel, None, padding="same", **options),
        "valid": lambda x: exact.conv2d(x, kernel, None, padding="valid", **options),
        "strided": lambda x: exact.conv2d(
            x, kernel, None, strides=(2, 2), padding="same", training=training
        ),
        "depthwise": lambda x: exact.depthwise_conv2d(
            x, depthwise, None, padding="same", **options
        ),
        "means": lambda x: exact.mean_along(x, (1, 2)),
        "softmax": lambda x: exact.softmax(tf.reshape(x, (-1, 72))),
        "cross-entropy": lambda x: exact.cross_entropy(
            tf.reshape(x, (-1, 72)), tf.tile(tf.abs(targets), (len(x), 1))
        ),
    }
    if training:
        operations["batch"] = lambda x: exact.normalize_batch(x, gamma, beta, epsilon=1e-3).result
        operations["sum"] = lambda x: exact.sum_along(x, (0, 1, 2, 3))
    return operations


def call_with_gradient(operation: _Operation, x: _Array, upstream: float = 1.0) -> list[_Array]:
    """Return the result for some input, and the gradient of the input."""
    import tensorflow as tf

    source = tf.constant(x)
    with tf.GradientTape() as tape:
        tape.watch(source)
        result = operation(source)
    gradient = tape.gradient(result, source, tf.fill(tf.shape(result), upstream))
    return [result.numpy(), gradient.numpy()]


@given(
    arrays.arrays(np.float32, (3, 5), elements=FLOATS),
    st.integers(2, 52),
    st.sampled_from([None, (0,), (1,)]),
)
@example(np.full((3, 5), 1e-25, np.float32), 20, None)
@example(np.full((3, 5), 1e-25, np.float32), 50, (1,))
def test_numbers_are_rounded_to_the_nearest_of_the_grid(
    x: _Array, bits: int, axes: tuple[int, ...] | None
) -> None:
    import tensorflow as tf

    from imgpipe.nn.common.exact import round_to_grid

    dtype = tf.float32 if bits <= 23 else tf.float64
    rounded = round_to_grid(tf.constant(x), bits, axes, dtype=dtype).numpy()
    largest = np.abs(x).max(axis=axes, keepdims=True).astype(np.float64)
    finest = -63 if dtype == tf.float32 else -125
    step = np.ldexp(1.0, np.maximum(np.frexp(largest)[1] + 1 - bits, finest))
    multiples = rounded / step
    assert np.array_equal(multiples, np.rint(multiples))
    assert np.abs(multiples).max() <= 2 ** (bits - 1)
    assert (np.abs(rounded - x) <= step / 2).all()


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_a_number_that_is_not_finite_gives_no_plausible_results(value: float) -> None:
    """In training, it reaches the whole batch; else, all results of its example."""
    x = np.random.default_rng(2).normal(size=(4, 6, 6, 2)).astype(np.float32)
    broken = x.copy()
    broken[1, 3, 3, 0] = value
    of_examples = ("means", "softmax", "cross-entropy")
    for training in (True, False):
        for name, operation in make_operations(training=training).items():
            if name == "softmax" and value == -np.inf:
                continue  # its probability is 0
            result, expected = operation(broken).numpy(), operation(x).numpy()
            if training and name not in of_examples:
                wrong = result[..., 0] if name == "batch" else result
                assert not np.isfinite(wrong).any(), name
            else:
                wrong = result[1, 0] if name == "means" else result[1]
                assert not np.isfinite(wrong).any(), name
                assert np.array_equal(np.delete(result, 1, 0), np.delete(expected, 1, 0)), name


def test_gradients_that_are_not_finite_give_no_plausible_gradients() -> None:
    x = np.random.default_rng(2).normal(size=(4, 6, 6, 2)).astype(np.float32)
    for name, operation in make_operations().items():
        assert not np.isfinite(call_with_gradient(operation, x, np.nan)[1]).any(), name


def test_subnormal_numbers_are_zeros() -> None:
    """Whether a processor computes with them depends on the thread."""
    generator = np.random.default_rng(2)
    x = generator.normal(size=(4, 6, 6, 2)).astype(np.float32)
    tiny = (np.abs(x) < 0.3) * generator.normal(size=x.shape) * 1e-40
    zeros = np.where(tiny != 0, 0, x).astype(np.float32)
    numbers = np.where(tiny != 0, tiny, x).astype(np.float32)
    assert not np.array_equal(zeros, numbers)
    for scale in (1, 0):  # beside normal numbers, and without
        for name, operation in make_operations().items():
            pairs = zip(
                call_with_gradient(operation, np.where(tiny != 0, numbers, scale * x)),
                call_with_gradient(operation, scale * zeros),
                strict=True,
            )
            assert all(np.array_equal(*pair) for pair in pairs), name


def test_one_huge_number_leaves_the_error_of_a_sum_near_its_own_rounding() -> None:
    from imgpipe.nn.common.exact import matmul, sum_along

    generator = np.random.default_rng(2)
    x = (generator.normal(size=(3, 1000)) * 1e-20).astype(np.float32)
    kernel = generator.normal(size=(1000, 4)).astype(np.float32)
    x[0, 7] = 1e20
    total = sum_along(x, [1]).numpy()
    assert total[0] == np.float32(1e20)
    assert np.allclose(total[1:], x[1:].astype(np.float64).sum(1), rtol=1e-6)
    products = matmul(x, kernel, None, training=False).numpy()
    assert np.allclose(products, x.astype(np.float64) @ kernel, rtol=1e-4)


def test_the_sum_of_the_most_and_largest_products_is_exact() -> None:
    """Of 2 ** 20 positions: photographs of 150 x 150 pixels in batches of 46."""
    import tensorflow as tf

    from imgpipe.nn.common.exact import factor_bits, matmul, normalize_batch

    terms = 1 << 20
    largest = np.float32(2 - 2.0 ** (2 - int(factor_bits(terms))))  # not rounded by the grid
    column = tf.fill([terms, 1], largest)
    with tf.GradientTape() as tape:
        kernel = tf.constant([[largest]])
        tape.watch(kernel)
        result = matmul(column, kernel, None, training=True)
    exact_sum = np.float32(float(largest) ** 2 * terms)
    assert tape.gradient(result, kernel, column).numpy() == exact_sum
    assert matmul(tf.transpose(column), column, None, training=False).numpy() == exact_sum
    normalized = normalize_batch(column, tf.ones(1), tf.zeros(1), epsilon=1e-3)
    assert normalized.mean.numpy() == largest
    assert normalized.variance.numpy() <= 1e-10  # of float64


def test_products_that_cancel_leave_nothing_in_the_gradient_of_a_kernel() -> None:
    import tensorflow as tf

    from imgpipe.nn.common.exact import matmul

    generator = np.random.default_rng(2)
    half, errors = generator.uniform(1, 2, size=(2, 1 << 19, 1)).astype(np.float32)
    with tf.GradientTape() as tape:
        kernel = tf.constant([[1.0]])
        tape.watch(kernel)
        result = matmul(np.concatenate([half, half]), kernel, None, training=True)
    upstream = np.concatenate([errors, -errors])
    assert tape.gradient(result, kernel, upstream).numpy() == 0


@pytest.mark.parametrize("value", [0.1, 12345678.0, 1e15])
def test_a_batch_of_equal_values_has_variance_zero(value: float) -> None:
    import tensorflow as tf

    from imgpipe.nn.common.exact import normalize_batch

    for count in range(1, 30):
        x = tf.fill([count, 1], np.float32(value))
        normalized = normalize_batch(x, tf.ones(1), tf.zeros(1), epsilon=1e-3)
        assert normalized.variance.numpy() == 0
        # The mean is rounded to 23 bits.
        assert (np.abs(normalized.result) <= 2.0**-22 * value / np.sqrt(1e-3)).all()


@pytest.mark.parametrize("training", [True, False])
def test_operations_scale_with_powers_of_two(training: bool) -> None:
    x = np.random.default_rng(2).normal(size=(4, 6, 6, 2)).astype(np.float32)
    for name, operation in make_operations(training=training).items():
        if name in ("conv2d", "valid", "strided", "depthwise", "means", "sum"):
            assert np.array_equal(operation(x * 2.0**30), operation(x).numpy() * 2.0**30), name


def test_the_order_of_the_examples_has_no_effect() -> None:
    """Sums over the batch are equal, and results for each example move with it."""
    import tensorflow as tf

    from imgpipe.nn.common import exact

    generator = np.random.default_rng(2)
    x = generator.normal(size=(4, 6, 6, 2)).astype(np.float32)
    order = np.array([2, 0, 3, 1])
    for name, operation in make_operations().items():
        results = call_with_gradient(operation, x)
        for values, permuted in zip(results, call_with_gradient(operation, x[order]), strict=True):
            assert np.array_equal(values[order] if values.ndim else values, permuted), name

    kernel, bias = (generator.normal(size=size).astype(np.float32) for size in ((3, 3, 2, 4), 4))
    gamma, beta = (generator.normal(size=2).astype(np.float32) for _ in range(2))
    upstream = generator.normal(size=(4, 6, 6, 4)).astype(np.float32)

    def find_gradients(rows: Any) -> list[_Array]:
        parameters = [tf.constant(values) for values in (kernel, bias, gamma, beta)]
        with tf.GradientTape() as tape:
            tape.watch(parameters)
            normalized = exact.normalize_batch(x[rows], parameters[2], parameters[3], epsilon=1e-3)
            result = exact.conv2d(
                normalized.result,
                parameters[0],
                parameters[1],
                strides=(1, 1),
                padding="same",
                training=True,
            )
        gradients = tape.gradient(result, parameters, upstream[rows])
        return [tensor.numpy() for tensor in (*gradients, *normalized[1:])]

    for values, permuted in zip(find_gradients(slice(None)), find_gradients(order), strict=True):
        assert np.array_equal(values, permuted)


@pytest.mark.parametrize("training", [True, False])
def test_the_order_of_channels_and_of_the_places_of_a_kernel_has_no_effect(training: bool) -> None:
    import tensorflow as tf

    from imgpipe.nn.common import exact

    generator = np.random.default_rng(2)
    x = generator.normal(size=(4, 6, 6, 9)).astype(np.float32)
    kernel = generator.normal(size=(3, 3, 9, 5)).astype(np.float32)
    upstream = generator.normal(size=(4, 4, 4, 5)).astype(np.float32)
    order = generator.permutation(9)

    def call(x: _Array, kernel: _Array, upstream: _Array) -> list[_Array]:
        sources = [tf.constant(x), tf.constant(kernel)]
        with tf.GradientTape() as tape:
            tape.watch(sources)
            result = exact.conv2d(
                sources[0],
                sources[1],
                None,
                strides=(1, 1),
                padding="valid",
                training=training,
            )
        gradients = tape.gradient(result, sources, upstream)
        return [
            result.numpy(),
            *(gradient.numpy() for gradient in gradients if gradient is not None),
        ]

    straight = call(x, kernel, upstream)
    permuted = call(x[..., order], kernel[:, :, order], upstream)
    turned = call(x[:, ::-1, ::-1], kernel[::-1, ::-1], upstream[:, ::-1, ::-1])
    assert np.array_equal(straight[0], permuted[0])
    assert np.array_equal(straight[1][..., order], permuted[1])
    assert np.array_equal(straight[0][:, ::-1, ::-1], turned[0])
    assert np.array_equal(straight[1][:, ::-1, ::-1], turned[1])
    if training:
        assert np.array_equal(straight[2][:, :, order], permuted[2])
        assert np.array_equal(straight[2][::-1, ::-1], turned[2])


def test_zeros_give_zeros_of_one_sign() -> None:
    """Of two zeros of different sign, the maximum depends on the instructions."""
    zeros = np.where(np.random.default_rng(2).uniform(size=(4, 6, 6, 2)) < 0.5, -0.0, 0.0)
    for name in ("conv2d", "valid", "strided", "depthwise", "matmul"):
        for values in call_with_gradient(make_operations()[name], zeros.astype(np.float32), -0.0):
            assert not values.any(), name
            assert not np.signbit(values).any(), name
