"""Elementary functions against numbers of 50 digits."""

import math
from collections.abc import Callable
from decimal import Context, Decimal, localcontext
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from imgpipe.core.elementary import LARGEST_ANGLE, cos, exp, log, sin

PI = Decimal("3.14159265358979323846264338327950288419716939937510582097494459230781640628620899")
LARGEST, SMALLEST = np.finfo(np.float64).max, math.ulp(0.0)
GENERATOR = np.random.default_rng(7)


def exact_sin(x: Decimal) -> Decimal:
    """The sine by its series, after whole turns are taken away."""
    x -= 2 * PI * (x / (2 * PI)).to_integral_value()
    term, total, power = x, x, 1
    while abs(term) > Decimal("1e-60"):
        term *= -x * x / ((power + 1) * (power + 2))
        total, power = total + term, power + 2
    return total


def exact_cos(x: Decimal) -> Decimal:
    return exact_sin(PI / 2 - x)


def magnitudes(lowest: int, highest: int, count: int) -> NDArray[np.float64]:
    """Numbers whose binary exponents are uniform."""
    return np.ldexp(GENERATOR.random(count) + 1, GENERATOR.integers(lowest, highest, count))


# The nearest numbers to multiples of pi / 4, where a function may be close to zero.
MULTIPLES = np.array([float(PI / 4 * number) for number in range(-1273, 1274, 3)])
ANGLES = [
    GENERATOR.uniform(-LARGEST_ANGLE, LARGEST_ANGLE, 1000),
    GENERATOR.uniform(-4, 4, 1000),
    magnitudes(-60, 0, 500),
    MULTIPLES,
    np.nextafter(MULTIPLES, np.inf),
]
CASES: list[tuple[Callable[..., Any], Callable[[Decimal], Decimal], list[NDArray[np.float64]]]] = [
    (
        exp,
        Decimal.exp,
        [
            GENERATOR.uniform(-745, 709, 1000),
            GENERATOR.uniform(-2, 2, 1000),
            -magnitudes(-60, 0, 500),
        ],
    ),
    (
        log,
        Decimal.ln,
        [
            magnitudes(-1022, 1023, 1000),
            GENERATOR.uniform(0.5, 2, 1000),
            1 + magnitudes(-50, -1, 500),
            1 - magnitudes(-50, -2, 500),
            np.array([SMALLEST, 3 * SMALLEST, 2.0**-1022, LARGEST]),
        ],
    ),
    (sin, exact_sin, ANGLES),
    (cos, exact_cos, ANGLES),
]


@pytest.mark.parametrize(("function", "reference", "samples"), CASES)
def test_the_error_is_at_most_one_unit_in_the_last_place(
    function: Callable[..., Any],
    reference: Callable[[Decimal], Decimal],
    samples: list[NDArray[np.float64]],
) -> None:
    numbers = np.concatenate(samples)
    with localcontext(Context(prec=75)):
        for x, result in zip(numbers.tolist(), function(numbers).tolist(), strict=True):
            expected = reference(Decimal(x))
            unit = Decimal(math.ulp(float(expected)))
            assert abs(Decimal(result) - expected) <= unit, x


@pytest.mark.parametrize("function", [exp, log, sin, cos])
def test_a_number_gives_the_number_that_an_array_gives(function: Callable[..., Any]) -> None:
    numbers = magnitudes(-8, 8, 50)
    results = [function(number) for number in numbers.tolist()]
    assert {type(result) for result in results} == {float}
    assert results == function(numbers).tolist() == function(numbers[:, None]).ravel().tolist()


def test_exact_results() -> None:
    assert (exp(0.0), log(1.0), sin(0.0), cos(0.0)) == (1.0, 0.0, 0.0, 1.0)


def test_exp_of_large_and_small_numbers() -> None:
    assert exp(np.array([709.8, LARGEST, np.inf])).tolist() == [np.inf] * 3
    assert exp(np.array([-745.2, -LARGEST, -np.inf])).tolist() == [0] * 3
    assert exp(-745.1) == SMALLEST
    assert np.isnan(exp(np.nan))


def test_log_outside_of_positive_numbers() -> None:
    assert log(np.array([0.0, -0.0, np.inf])).tolist() == [-np.inf, -np.inf, np.inf]
    assert np.isnan(log(np.array([-1.0, -SMALLEST, -np.inf, np.nan]))).all()


@pytest.mark.parametrize("function", [sin, cos])
@pytest.mark.parametrize("angle", [LARGEST_ANGLE + 1, -LARGEST_ANGLE - 1, np.inf, np.nan])
def test_an_angle_of_too_many_turns_is_refused(function: Callable[..., Any], angle: float) -> None:
    with pytest.raises(ValueError, match="expected angles from -1000 to 1000 radians"):
        function(np.array([0.0, angle]))
