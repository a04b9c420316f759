"""Sums and matrix products of NumPy whose results have the same bytes on every processor.

A sum of rounded numbers depends on its order, and the order depends on the instruction set, the
library BLAS and the number of threads. Here every sum is exact, so its order has no effect: the
terms are integers times a power of two, and float64 holds every partial sum without rounding. The
power of two follows from the largest magnitude, which is the same in every order.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from imgpipe.core.elementary import exp, log

_MANTISSA_BITS = 53  # float64 holds every integer up to 2 ** 53
_MATRIX_BITS = 19  # of a matrix; the other factor has the other 34, less log2 of the terms
# Smaller numbers are rounded on the grid of this exponent: then no product is subnormal.
_MIN_EXPONENT = -400


class _Grid(NamedTuple):
    """Numbers as integers times a power of two."""

    integers: NDArray[np.float64]
    """Not larger than 2 ** bits."""
    step: NDArray[np.float64]
    """A power of two for each sum."""


def _to_grid(
    values: NDArray[np.floating], bits: int, axis: int | tuple[int, ...] | None = None
) -> _Grid:
    """Round numbers to integers times a power of two; elements along `axis` share the power."""
    largest = np.abs(values).max(axis=axis, keepdims=True, initial=0.0)
    exponent = np.maximum(np.frexp(largest.astype(np.float64))[1], _MIN_EXPONENT) - bits
    integers = values * np.ldexp(1.0, -exponent)
    return _Grid(np.rint(integers, out=integers), np.ldexp(1.0, exponent))


def _log2_rounded_up(terms: int) -> int:
    return max(terms - 1, 0).bit_length()


def sum_exactly(values: NDArray[np.floating], axis: int | None = None) -> NDArray[np.float64]:
    """Return sums along an axis, or the sum of all elements, float64.

    A term is rounded by at most 2 ** -52 of the largest term, times the number of terms.
    """
    terms = values.size if axis is None else values.shape[axis]
    grid = _to_grid(values, _MANTISSA_BITS - _log2_rounded_up(terms), axis)
    total: NDArray[np.float64] = grid.integers.sum(axis=axis, keepdims=True) * grid.step
    return total.squeeze(axis)


def dot(first: NDArray[np.float64], second: NDArray[np.float64]) -> float:
    """Return the sum of products of elements of two arrays of one shape."""
    return float(sum_exactly(first * second))


def softmax(logits: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the softmax of each row of logits (N, K), and its natural logarithm."""
    shifted = logits - logits.max(axis=1, keepdims=True)
    powers = exp(shifted)
    total = sum_exactly(powers, axis=1)[:, None]
    return powers / total, shifted - log(total)


class ExactMatrix:
    """A matrix (N, F), rounded once, whose products with other matrices are exact sums.

    An element is rounded by at most 2 ** -19 of the largest magnitude of the matrix.

    Attributes:
        shape: (N, F).
    """

    def __init__(self, values: NDArray[np.float32]) -> None:
        """Round a matrix (N, F); it is stored as float64."""
        self._grid = _to_grid(values, _MATRIX_BITS)
        self.shape = values.shape

    def multiply(self, right: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return the product with a matrix (F, K): (N, K) float64.

        An element of `right` is rounded by at most 2 ** -33 of the largest one, times 2 * F.
        """
        return self._multiply(self._grid.integers, right)

    def multiply_transposed(self, right: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return the product of the transposed matrix with a matrix (N, K): (F, K) float64."""
        return self._multiply(self._grid.integers.T, right)

    def _multiply(
        self, integers: NDArray[np.float64], right: NDArray[np.float64]
    ) -> NDArray[np.float64]:
        bits = _MANTISSA_BITS - _MATRIX_BITS - _log2_rounded_up(len(right))
        factors = _to_grid(right, bits)
        product: NDArray[np.float64] = integers @ factors.integers
        return product * (self._grid.step * factors.step)
