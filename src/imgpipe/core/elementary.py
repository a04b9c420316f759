"""Exponential, logarithm, sine and cosine with the same bits on every processor.

NumPy and the C library choose variants of these functions by the processor. Here each step is an
operation of its own whose result IEEE 754 fixes: `+`, `-`, `*`, `/`, comparisons, rounding to whole
numbers, and scaling by powers of two. The results differ from the true values by at most one unit
in the last place (`math.ulp`).
"""

import math
from collections.abc import Callable, Sequence
from functools import wraps
from typing import Any, Protocol, overload

import numpy as np
from numpy.typing import NDArray

LARGEST_ANGLE = 1000.0
"""Sine and cosine take angles up to this size, in radians; their error is measured up to here."""

# ln 2 in two parts: the first ends with 11 zero bits, so its product with an exponent is exact.
LN_2_HIGH = float.fromhex("0x1.62e42fefa3800p-1")
LN_2_LOW = float.fromhex("0x1.ef35793c76730p-45")
ONE_BY_LN_2 = float.fromhex("0x1.71547652b82fep+0")
SQUARE_ROOT_2 = float.fromhex("0x1.6a09e667f3bcdp+0")
# Pi / 2 in three parts: the first two have 33 bits, so their products with a number of quarters of
# a turn are exact.
_QUARTER_HIGH = float.fromhex("0x1.921fb54400000p+0")
_QUARTER_MIDDLE = float.fromhex("0x1.0b4611a600000p-34")
_QUARTER_LOW = float.fromhex("0x1.3198a2e037073p-69")
_ONE_BY_QUARTER = float.fromhex("0x1.45f306dc9c883p-1")

# Of the power series: e ** x for |x| <= ln(2) / 2, and ln((1 + s) / (1 - s)) / (2 * s) as a series
# of s ** 2 for |s| <= 3 - 2 * sqrt(2); the terms left out are below 2 ** -54.
EXP_COEFFICIENTS = [1 / math.factorial(power) for power in range(14, -1, -1)]
LOG_COEFFICIENTS = [1 / power for power in range(25, 0, -2)]
# Sine from x ** 3, and cosine from x ** 4, as series of x ** 2 for |x| <= pi / 4.
_SIN_COEFFICIENTS, _COS_COEFFICIENTS = (
    [(1 if power % 4 < 2 else -1) / math.factorial(power) for power in range(highest, 2, -2)]
    for highest in (17, 18)
)
# The exponential is 0 below, and infinite above.
_EXP_LOWEST, _EXP_HIGHEST = -746.0, 710.0

_Array = NDArray[np.float64]


class _Function(Protocol):
    @overload
    def __call__(self, x: float, /) -> float: ...
    @overload
    def __call__(self, x: _Array, /) -> _Array: ...


def _of_numbers_too(function: Callable[[_Array], _Array]) -> _Function:
    """Let a function of arrays take a number, too, and return a number for it."""

    @wraps(function)
    def call(x: Any) -> Any:
        result = function(np.asarray(x, dtype=np.float64))
        return result if isinstance(x, np.ndarray) else float(result)

    return call


def evaluate_polynomial(x: Any, coefficients: Sequence[float]) -> Any:
    """Return the value of a polynomial, of a number, an array or a tensor.

    The coefficient of the highest power comes first. There are at least two coefficients.
    """
    value: Any = coefficients[0]
    for coefficient in coefficients[1:]:
        value = value * x + coefficient
    return value


@_of_numbers_too
def exp(x: _Array) -> _Array:
    """Return e ** x; 0 and infinity if the result is too small or too large for float64."""
    with np.errstate(invalid="ignore", over="ignore"):
        limited = np.clip(x, _EXP_LOWEST, _EXP_HIGHEST)
        exponent = np.rint(limited * ONE_BY_LN_2)
        rest = (limited - exponent * LN_2_HIGH) - exponent * LN_2_LOW
        # Separate additions of the first two terms of the series have a smaller error.
        power = 1.0 + (rest + rest * rest * evaluate_polynomial(rest, EXP_COEFFICIENTS[:-2]))
        result: _Array = np.ldexp(power, exponent.astype(np.int32))
    return result


@_of_numbers_too
def log(x: _Array) -> _Array:
    """Return the natural logarithm; minus infinity for 0, NaN for negative numbers."""
    mantissa, exponent = np.frexp(np.where((x > 0) & (x < np.inf), x, 1.0))
    doubled = 2.0 * mantissa  # in [1, 2)
    is_small = doubled <= SQUARE_ROOT_2
    excess = np.where(is_small, doubled, mantissa) - 1.0
    exponent = exponent - is_small
    ratio = excess / (2.0 + excess)
    square = ratio * ratio
    series = 2.0 * square * evaluate_polynomial(square, LOG_COEFFICIENTS[:-1])
    # Equal to ratio * (2 + series), but the excess is exact, and the ratio is rounded.
    half_square = 0.5 * excess * excess
    correction = ratio * (half_square + series) + exponent * LN_2_LOW
    result = exponent * LN_2_HIGH - ((half_square - correction) - excess)
    result = np.where(x == 0, -np.inf, np.where(x == np.inf, np.inf, result))
    return np.where(x >= 0, result, np.nan)


@_of_numbers_too
def sin(x: _Array) -> _Array:
    """Return the sine of angles in radians.

    Raises:
        ValueError: an angle is larger than `LARGEST_ANGLE`, or NaN.
    """
    return _sine_of_sum(x, 0)


@_of_numbers_too
def cos(x: _Array) -> _Array:
    """Return the cosine of angles in radians; errors as for `sin`."""
    return _sine_of_sum(x, 1)


def _sine_of_sum(x: _Array, quarters: int) -> _Array:
    """Return the sine of the sum of angles in radians and a number of quarters of a turn."""
    if not (np.abs(x) <= LARGEST_ANGLE).all():
        raise ValueError(f"expected angles from -{LARGEST_ANGLE:g} to {LARGEST_ANGLE:g} radians")
    turned = np.rint(x * _ONE_BY_QUARTER)
    # The rest of the angle is in [-pi / 4, pi / 4]: the sum of `rest` and a much smaller `tail`.
    high = x - turned * _QUARTER_HIGH
    middle = turned * _QUARTER_MIDDLE
    near = high - middle
    low = turned * _QUARTER_LOW - ((high - near) - middle)
    rest = near - low
    tail = (near - rest) - low

    square = rest * rest
    bend = square * rest * evaluate_polynomial(square, _SIN_COEFFICIENTS)
    sine = rest + (tail * (1.0 - 0.5 * square) + bend)
    rise = square * square * evaluate_polynomial(square, _COS_COEFFICIENTS)
    rough = 1.0 - 0.5 * square
    cosine = rough + (((1.0 - rough) - 0.5 * square) + (rise - rest * tail))

    quadrant = (turned.astype(np.int64) + quarters) % 4
    result: _Array = np.where(quadrant % 2 == 1, cosine, sine)
    return np.where(quadrant >= 2, -result, result)
