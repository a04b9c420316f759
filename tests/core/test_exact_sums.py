"""Exact sums: any order of the terms gives the same bytes, and the results are close."""

import math
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from numpy.typing import NDArray

from imgpipe.core.exact_sums import ExactMatrix, dot, sum_exactly

Array = NDArray[np.float64]
FLOATS = st.floats(-1e30, 1e30, allow_subnormal=False)
TABLES = arrays.arrays(np.float64, st.tuples(st.integers(1, 60), st.just(3)), elements=FLOATS)
MATRIX_EPS = 2.0**-19  # the error of an element of a matrix, for a largest magnitude of 1
FACTOR_BITS = 34  # of the other factor, for one term


def draw(seed: int, *shape: int) -> Array:
    """Return normal numbers with magnitudes from about 1e-3 to 1e3."""
    generator = np.random.default_rng(seed)
    return generator.normal(size=shape) * 10.0 ** generator.uniform(-3, 3, shape)


@given(TABLES, st.integers(0, 1000))
def test_a_sum_is_the_same_in_every_order_and_close(values: Array, seed: int) -> None:
    order = np.random.default_rng(seed).permutation(len(values))
    totals = sum_exactly(values, axis=0)
    assert np.array_equal(totals, sum_exactly(values[order], axis=0))
    assert np.array_equal(totals, sum_exactly(np.ascontiguousarray(values.T), axis=1))
    for column, total in zip(values.T, totals, strict=True):
        largest = np.abs(column).max()
        rounding = 2.0**-52 * len(column) * max(largest, 2.0**-400)
        exact = math.fsum(column)
        assert abs(total - exact) <= len(column) * rounding + 2.0**-53 * abs(exact)
        assert total == sum_exactly(column)


@pytest.mark.parametrize("count", [1, 2, 3, 1000, 1 << 20, (1 << 20) + 1])
def test_a_sum_of_many_equal_largest_numbers_is_exact(count: int) -> None:
    largest = 2 - 2.0**-30  # 31 bits, and 21 for the number of terms
    assert sum_exactly(np.full(count, largest)) == largest * count


def test_sums_of_nothing_of_zeros_and_of_tiny_numbers() -> None:
    assert sum_exactly(np.zeros(0)) == 0
    assert sum_exactly(np.zeros((0, 3)), axis=0).tolist() == [0, 0, 0]
    assert sum_exactly(np.zeros((2, 3)), axis=1).tolist() == [0, 0]
    assert sum_exactly(np.full(4, 1e-320)) == 0  # rounded to a multiple of about 1e-136
    assert sum_exactly(np.array([1.5, 2.25], np.float32)).dtype == np.float64


@given(
    arrays.arrays(np.float64, (2, 20), elements=st.floats(-1e10, 1e10)), st.permutations(range(20))
)
def test_a_dot_product_is_the_same_in_every_order_and_close(pair: Array, order: list[int]) -> None:
    first, second = pair
    found = dot(first, second)
    assert found == dot(second[order], first[order])
    products = (first * second).tolist()
    largest = max(map(abs, products))
    assert found == pytest.approx(math.fsum(products), abs=20 * 20 * 2.0**-52 * largest + 1e-100)


def forward(matrix: ExactMatrix, right: Array) -> Array:
    return matrix.multiply(right)


def backward(matrix: ExactMatrix, right: Array) -> Array:
    return matrix.multiply_transposed(right)


@pytest.mark.parametrize("product", [forward, backward])
@pytest.mark.parametrize("terms", [1, 5, 64, 65, 3000])
def test_a_matrix_product_is_the_same_in_every_order_and_close(
    product: Callable[[ExactMatrix, Array], Array], terms: int
) -> None:
    left, right = draw(1, 7, terms).astype(np.float32), draw(2, terms, 3)

    def multiply(order: NDArray[np.int64]) -> Array:
        rows = left[:, order]
        matrix = ExactMatrix(rows if product is forward else np.ascontiguousarray(rows.T))
        return product(matrix, np.ascontiguousarray(right[order]))

    plain = np.arange(terms)
    result = multiply(plain)
    for seed in range(5):
        order = np.random.default_rng(seed).permutation(terms)
        assert np.array_equal(result, multiply(order))
    largest_left, largest_right = np.abs(left).max(), np.abs(right).max()
    error_left = MATRIX_EPS * largest_left
    error_right = 2.0**-33 * 2 * terms * largest_right
    bound = terms * (error_left * largest_right + error_right * (largest_left + error_left))
    expected = left.astype(np.float64) @ right
    assert np.abs(result - expected).max() <= bound


@pytest.mark.parametrize("terms", [1, 2, 3, 1 << 11, (1 << 11) + 1, 1 << 22])
def test_the_largest_sum_of_products_is_exact(terms: int) -> None:
    """All factors have all bits, and the magnitude that rounding to the grid can reach."""
    left = ExactMatrix(np.full((1, terms), 2 - 2.0**-18, np.float32))  # 19 bits
    bits = FACTOR_BITS - max(terms - 1, 0).bit_length()
    right = np.full((terms, 1), 2 - 2.0 ** (1 - bits))
    total = left.multiply(right).item()
    assert total == (2 - 2.0**-18) * (2 - 2.0 ** (1 - bits)) * terms
