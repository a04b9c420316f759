"""Exact operations: any order of the terms gives the same bytes, and the results are close."""

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from numpy.typing import NDArray

pytestmark = pytest.mark.tf
EPS = 2.0**-24  # relative error of a rounding to float32
FLOATS = st.floats(-1e6, 1e6, width=32, allow_subnormal=False)


def draw(seed: int, *shape: int) -> NDArray[np.float32]:
    """Return normal numbers with magnitudes from about 1e-3 to 1e3."""
    generator = np.random.default_rng(seed)
    values = generator.normal(size=shape) * 10.0 ** generator.uniform(-3, 3, shape)
    return values.astype(np.float32)


def error_bound(products: Any, x: NDArray[Any], y: NDArray[Any], terms: int) -> Any:
    """Return how much sums of products may differ from the sums of the unrounded products.

    Each factor is rounded by at most half of its step, and the result once to float32.
    """
    from imgpipe.nn.common.exact import factor_bits

    bits = int(factor_bits(terms))
    x, y = np.abs(x).astype(np.float64), np.abs(y).astype(np.float64)
    step_x, step_y = (2.0 ** (math.frexp(values.max())[1] + 1 - bits) for values in (x, y))
    upper = products(x + step_x / 2, y + step_y / 2)
    return upper - products(x, y) + EPS * upper


@given(arrays.arrays(np.float32, st.tuples(st.integers(1, 50), st.just(3)), elements=FLOATS))
def test_a_sum_is_the_same_in_every_order_and_rounded_once(values: NDArray[np.float32]) -> None:
    from imgpipe.nn.common.exact import sum_along

    total = sum_along(values, [0]).numpy()
    assert np.array_equal(total, sum_along(np.sort(values, axis=0), [0]))
    for column, result in zip(values.T.tolist(), total, strict=True):
        reference = math.fsum(column)
        step = 2.0 ** max(math.frexp(max(map(abs, column)))[1] - 46, -125)
        assert abs(result - reference) <= EPS * abs(reference) + len(column) * step


@pytest.mark.parametrize("terms", [1, 2, 3, 9, 4096, 4097, (1 << 20) - 1, 1 << 20, (1 << 26) + 1])
def test_the_largest_sum_is_an_exact_integer(terms: int) -> None:
    """Of terms and of products; with one bit more, twice as many terms would not be exact."""
    from imgpipe.nn.common.exact import MAX_FACTOR_BITS, MAX_TERM_BITS, factor_bits, term_bits

    bits = int(factor_bits(terms))
    assert terms * (1 << (bits - 1)) ** 2 <= 1 << 53
    assert bits == MAX_FACTOR_BITS or 4 * terms * (1 << bits) ** 2 > 1 << 53
    bits = int(term_bits(terms))
    assert terms * (1 << (bits - 1)) <= 1 << 53
    assert bits == MAX_TERM_BITS or 2 * terms * (1 << bits) > 1 << 53


@pytest.mark.parametrize("training", [True, False])
def test_matmul_is_the_same_in_every_order_and_close(training: bool) -> None:
    from imgpipe.nn.common.exact import matmul

    x, kernel = draw(1, 40, 70), draw(2, 70, 6)
    result = matmul(x, kernel, None, training=training).numpy()
    order = np.random.default_rng(3).permutation(70)
    assert np.array_equal(result, matmul(x[:, order], kernel[order], None, training=training))
    reference = x.astype(np.float64) @ kernel
    assert (np.abs(result - reference) <= error_bound(np.matmul, x, kernel, 70)).all()


CONVOLUTIONS = [(1, "same"), (2, "same"), (1, "valid"), (2, "valid")]


# The operation, and the shape of the kernel. With few channels, another way computes the same.
KINDS = [
    ("conv2d", (3, 3, 5, 6)),
    ("conv2d", (4, 2, 2, 6)),
    ("depthwise_conv2d", (3, 3, 5, 1)),
    ("depthwise_conv2d", (3, 3, 5, 2)),
]


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize(("kind", "shape"), KINDS)
@pytest.mark.parametrize(("stride", "padding"), CONVOLUTIONS)
def test_a_convolution_and_its_gradients_are_close(
    stride: int, padding: str, kind: str, shape: tuple[int, ...], training: bool
) -> None:
    import tensorflow as tf

    from imgpipe.nn.common import exact

    def native(x: Any, kernel: Any) -> Any:
        return getattr(tf.nn, kind)(x, kernel, [1, stride, stride, 1], padding.upper())

    x, kernel = draw(1, 4, 9, 8, shape[2]), draw(2, *shape)
    wide = [tf.constant(values.astype(np.float64)) for values in (x, kernel)]
    upstream = draw(3, *native(*wide).shape)
    with tf.GradientTape() as tape:
        tape.watch(wide)
        total = tf.reduce_sum(native(*wide) * upstream.astype(np.float64))
    expected = tape.gradient(total, wide)
    narrow = [tf.constant(x), tf.constant(kernel)]
    with tf.GradientTape() as tape:
        tape.watch(narrow)
        result = getattr(exact, kind)(
            *narrow, None, strides=(stride, stride), padding=padding, training=training
        )
        total = tf.reduce_sum(result * upstream)
    found = tape.gradient(total, narrow)

    terms = 4 * 9 * 8  # of the gradient of the kernel
    bound = error_bound(lambda *both: native(*both).numpy(), x, kernel, terms)
    assert (np.abs(result - native(*wide).numpy()) <= bound).all()

    def through(number: int) -> Any:
        """Return the gradient as products of the upstream gradient and the other factor."""

        def products(errors: NDArray[Any], other: NDArray[Any]) -> Any:
            values = list(wide)
            values[1 - number] = tf.constant(other)
            with tf.GradientTape() as tape:
                tape.watch(values)
                total = tf.reduce_sum(native(*values) * errors)
            return tape.gradient(total, values)[number].numpy()

        return products

    for number, other in ((0, kernel), (1, x)):
        if number == 1 and not training:
            assert found[number] is None
            continue
        bound = error_bound(through(number), upstream, other, terms)
        assert (np.abs(found[number] - expected[number].numpy()) <= bound).all()


def test_without_training_results_and_gradients_depend_on_no_other_example() -> None:
    import tensorflow as tf

    from imgpipe.nn.common.exact import conv2d, depthwise_conv2d, matmul

    x, kernel, depthwise = draw(1, 5, 6, 6, 3), draw(2, 3, 3, 3, 4), draw(3, 3, 3, 3, 1)
    options: dict[str, Any] = {"strides": (1, 1), "padding": "same", "training": False}
    operations: list[Callable[..., Any]] = [
        lambda x: conv2d(x, kernel, None, **options),
        lambda x: depthwise_conv2d(x, depthwise, None, **options),
        lambda x: matmul(tf.reshape(x, (len(x), -1)), draw(4, 108, 7), None, training=False),
    ]

    def compute(operation: Callable[..., Any], examples: slice) -> list[NDArray[np.float32]]:
        chosen = tf.constant(x[examples])
        with tf.GradientTape() as tape:
            tape.watch(chosen)
            result = operation(chosen)
        gradient = tape.gradient(result, chosen, draw(5, 5, *result.shape[1:])[examples])
        return [result.numpy(), gradient.numpy()]

    for operation in operations:
        of_all, of_one = compute(operation, slice(None)), compute(operation, slice(2, 3))
        for values, expected in zip(of_all, of_one, strict=True):
            assert expected.any()
            assert np.array_equal(values[2:3], expected)


def test_a_bias_and_its_gradient_are_exact() -> None:
    import tensorflow as tf

    from imgpipe.nn.common.exact import matmul

    x, kernel, bias, upstream = draw(1, 40, 7), draw(2, 7, 6), draw(3, 6), draw(4, 40, 6)
    variable = tf.constant(bias)
    with tf.GradientTape() as tape:
        tape.watch(variable)
        result = matmul(x, kernel, variable, training=True)
    assert np.array_equal(result, matmul(x, kernel, None, training=True).numpy() + bias)
    gradient = tape.gradient(result, variable, upstream)
    bound = error_bound(np.matmul, np.ones((1, 40)), upstream, 40)[0]
    assert (np.abs(gradient - upstream.astype(np.float64).sum(0)) <= bound).all()


def test_means_have_equal_gradients() -> None:
    import tensorflow as tf

    from imgpipe.nn.common.exact import mean_along

    x = tf.constant(draw(1, 4, 5, 3))
    with tf.GradientTape() as tape:
        tape.watch(x)
        mean = tf.reduce_sum(mean_along(x, (0, 1)))
    assert np.array_equal(tape.gradient(mean, x), np.full((4, 5, 3), np.float32(1 / 20)))


@pytest.mark.parametrize("mean", [0.0, 1.0, -300.0])
def test_batch_normalization_and_its_gradients_are_close(mean: float) -> None:
    """Errors of channels do not depend on the sizes of other channels."""
    import tensorflow as tf

    from imgpipe.nn.common.exact import normalize_batch

    generator = np.random.default_rng(1)
    sizes = np.array([1e-3, 1.0, 1e4])
    values = (generator.normal(mean, size=(8, 9, 7, 3)) * sizes).astype(np.float32)
    narrow = [tf.constant(v) for v in (values, draw(2, 3), draw(3, 3))]
    wide = [tf.cast(v, tf.float64) for v in narrow]
    upstream = generator.normal(size=values.shape).astype(np.float32)
    epsilon = 1e-8
    with tf.GradientTape(persistent=True) as tape:
        tape.watch([narrow, wide])
        found = normalize_batch(*narrow, epsilon=epsilon)
        means, variances = tf.nn.moments(wide[0], [0, 1, 2])
        expected = (wide[0] - means) / tf.sqrt(variances + epsilon) * wide[1] + wide[2]
    gradients, references = (
        [values.numpy() for values in tape.gradient(target, sources, factors)]
        for target, sources, factors in (
            (found.result, narrow, upstream),
            (expected, wide, upstream.astype(np.float64)),
        )
    )
    # The terms are rounded to 22 bits of the largest of a channel, which is at most 4 standard
    # deviations plus the mean, and the results to float32.
    error = 2.0**-22 * (4 + abs(mean))
    scales = np.abs(wide[1]) + np.abs(wide[2])
    expected, means, variances = (values.numpy() for values in (expected, means, variances))
    assert (np.abs(found.result.numpy() - expected) <= 8 * error * scales).all()
    assert (np.abs(found.mean.numpy() - means) <= error * sizes).all()
    assert (np.abs(found.variance.numpy() - variances) <= 4 * error * variances).all()
    slopes = np.abs(wide[1]) / np.sqrt(variances)
    assert (np.abs(gradients[0] - references[0]) <= 32 * error * slopes).all()
    for gradient, reference in zip(gradients[1:], references[1:], strict=True):
        assert np.abs(gradient - reference).max() <= 4 * error * np.abs(upstream).sum() / 3


def test_cross_entropy_and_its_gradient_are_close() -> None:
    import tensorflow as tf

    from imgpipe.nn.common.exact import cross_entropy

    generator = np.random.default_rng(1)
    logits = generator.normal(size=(200, 10)) * 10.0 ** generator.uniform(-4, 3, (200, 1))
    targets = generator.dirichlet(np.full(10, 0.1), 200).astype(np.float32)
    targets[:20] = np.eye(10)[0]
    upstream = generator.normal(size=200).astype(np.float32)
    narrow = tf.constant(logits.astype(np.float32))
    wide = tf.cast(narrow, tf.float64)
    with tf.GradientTape(persistent=True) as tape:
        tape.watch([narrow, wide])
        losses = cross_entropy(narrow, tf.constant(targets))
        total = tf.reduce_sum(losses * upstream)
        expected = tf.reduce_logsumexp(wide, 1) * targets.astype(np.float64).sum(1) - (
            tf.reduce_sum(targets.astype(np.float64) * wide, 1)
        )
        wide_total = tf.reduce_sum(expected * upstream.astype(np.float64))
    # The first term: the sum of the targets, and a sum of terms of one sign, are rounded to
    # float32. The second: the reference loses digits of the largest logit.
    error = np.finfo(np.float64).eps * np.abs(logits).max(1) * 8
    assert (np.abs(losses.numpy() - expected) <= 4 * EPS * np.abs(expected) + error).all()
    gradients = tape.gradient(total, narrow), tape.gradient(wide_total, wide)
    assert np.allclose(*gradients, rtol=4 * EPS, atol=4 * EPS)


def test_cross_entropy_is_equal_for_any_order_of_the_classes() -> None:
    import tensorflow as tf

    from imgpipe.nn.common.exact import cross_entropy

    logits, targets = draw(1, 50, 37), np.abs(draw(2, 50, 37))
    targets /= targets.sum(1, keepdims=True)
    upstream = draw(3, 50)

    def compute(order: Any) -> list[NDArray[np.float32]]:
        chosen = tf.constant(logits[:, order])
        with tf.GradientTape() as tape:
            tape.watch(chosen)
            losses = cross_entropy(chosen, tf.constant(targets[:, order]))
        return [losses.numpy(), tape.gradient(losses, chosen, upstream).numpy()]

    order = np.random.default_rng(4).permutation(37)
    (losses, gradient), (permuted_losses, permuted_gradient) = compute(slice(None)), compute(order)
    assert np.array_equal(losses, permuted_losses)
    assert np.array_equal(gradient[:, order], permuted_gradient)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16"])
def test_cross_entropy_is_finite_for_all_finite_logits(dtype: str) -> None:
    import tensorflow as tf

    from imgpipe.nn.common.exact import cross_entropy

    largest = tf.constant(1e38 if dtype != "float16" else 6e4, dtype)
    logits = tf.stack([[largest, -largest, 0], [1.0, 2.0, 3.0], [0, 0, 0]])
    logits = tf.cast(logits, dtype)
    with tf.GradientTape() as tape:
        tape.watch(logits)
        losses = cross_entropy(logits, tf.constant([[0.0, 1.0, 0.0]] * 3))
    gradient = tape.gradient(losses, logits)
    assert losses.dtype == tf.float32
    assert gradient.dtype == dtype
    expected = [2 * float(largest), np.log(1 + np.exp(1) + np.exp(-1)), np.log(3)]
    assert np.allclose(losses.numpy(), expected, rtol=2 * EPS)
    precision = {"float32": EPS, "bfloat16": 2.0**-8, "float16": 2.0**-11}[dtype]
    assert np.allclose(
        tf.cast(gradient, tf.float32).numpy()[::2],
        np.array([[1, -1, 0], [1 / 3, -2 / 3, 1 / 3]]),
        rtol=precision,
    )


def test_softmax_and_sigmoid_are_close_with_their_gradients() -> None:
    import tensorflow as tf

    from imgpipe.nn.common import exact

    logits = np.random.default_rng(1).normal(size=(200, 10)).astype(np.float32) * 10
    logits[0] = [0.0, -86.0, -87.5, *[-100.0] * 7]
    upstream = np.random.default_rng(2).normal(size=logits.shape)
    for ours, native in ((exact.softmax, tf.nn.softmax), (exact.sigmoid, tf.sigmoid)):
        narrow, wide = tf.constant(logits), tf.constant(logits.astype(np.float64))
        with tf.GradientTape(persistent=True) as tape:
            tape.watch([narrow, wide])
            result, expected = ours(narrow), native(wide)
            total = tf.reduce_sum(result * upstream.astype(np.float32))
            wide_total = tf.reduce_sum(expected * upstream)
        # 87 is where exponentials become 0; logits minus the largest are rounded to float32.
        assert np.allclose(result, expected, rtol=100 * EPS, atol=2e-38)
        gradients = tape.gradient(total, narrow), tape.gradient(wide_total, wide)
        assert np.allclose(*gradients, rtol=0, atol=20 * EPS)
