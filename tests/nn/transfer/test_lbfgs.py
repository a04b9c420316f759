"""L-BFGS: the minimum that SciPy finds, in about as many iterations."""

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from imgpipe.nn.transfer.lbfgs import minimize

Vector = NDArray[np.float64]
TOLERANCE = 1e-7


def bowl(x: Vector) -> tuple[float, Vector]:
    """A quadratic function of badly scaled variables, whose minimum is at (1, 2, 3, ...)."""
    factors = 10.0 ** np.linspace(-1, 2, len(x))
    offsets = x - np.arange(1, len(x) + 1)
    return float((factors * offsets**2).sum() / 2), factors * offsets


def valley(x: Vector) -> tuple[float, Vector]:
    """The function of Rosenbrock, which is not convex; its minimum is at (1, 1, ...)."""
    from scipy.optimize import rosen, rosen_der

    return float(rosen(x)), rosen_der(x)


def logistic(x: Vector) -> tuple[float, Vector]:
    """Log losses of an example with each label, for each variable; its minimum is at 1."""
    loss = np.logaddexp(0, -x) + np.e**-1 * np.logaddexp(0, x)
    return float(loss.sum()), -1 / (1 + np.exp(x)) + np.e**-1 / (1 + np.exp(-x))


@pytest.mark.parametrize(
    ("function", "start"),
    [
        (bowl, np.zeros(30)),
        (bowl, np.full(1, 1e6)),
        (valley, np.array([-1.2, 1.0])),
        (valley, np.full(10, 3.0)),
        (logistic, np.full(5, 20.0)),
    ],
)
def test_the_minimum_is_the_one_that_scipy_finds(function: Any, start: Vector) -> None:
    from scipy.optimize import minimize as minimize_with_scipy

    options = {"gtol": TOLERANCE, "ftol": 0, "maxiter": 1000, "maxcor": 10}
    theirs = minimize_with_scipy(function, start, jac=True, method="L-BFGS-B", options=options)
    places: list[Vector] = []
    found = minimize(
        function,
        start,
        gradient_tolerance=TOLERANCE,
        most_iterations=1000,
        on_iteration=places.append,
    )
    assert np.abs(function(found)[1]).max() <= TOLERANCE
    # The least curvature of these functions at their minimum is 0.1.
    assert found == pytest.approx(theirs.x, abs=2 * np.sqrt(len(start)) * TOLERANCE / 0.1)
    assert len(places) <= 1.5 * theirs.nit + 5
    values = [function(place)[0] for place in [start, *places]]
    assert values == sorted(values, reverse=True)
    assert places[-1] is found


def test_it_stops_after_the_most_iterations_and_repeats_to_the_byte() -> None:
    places: list[Vector] = []
    options: dict[str, Any] = {"gradient_tolerance": 0.0, "most_iterations": 7}
    first = minimize(valley, np.zeros(4), **options, on_iteration=places.append)
    assert len(places) == 7
    assert minimize(valley, np.zeros(4), **options).tobytes() == first.tobytes()


def test_at_the_minimum_there_is_no_iteration() -> None:
    start = np.arange(1.0, 4.0)
    assert minimize(bowl, start, gradient_tolerance=0.0, most_iterations=5) is start


def test_it_ends_where_no_step_gives_a_smaller_value() -> None:
    """The gradient is wrong: no step in its direction gives a smaller value."""
    start = np.ones(3)
    found = minimize(
        lambda x: (float((x**2).sum()), -2 * x), start, gradient_tolerance=0.0, most_iterations=9
    )
    assert found is start


def test_functions_that_are_not_finite_far_away_are_searched_nearer() -> None:
    def barrier(x: Vector) -> tuple[float, Vector]:
        if (x <= 0).any():
            return np.nan, np.full_like(x, np.nan)
        return float((x - np.log(x)).sum()), 1 - 1 / x

    found = minimize(barrier, np.full(3, 0.01), gradient_tolerance=1e-9, most_iterations=99)
    assert found == pytest.approx(1, abs=2e-9)
