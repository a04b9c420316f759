"""The method of Broyden, Fletcher, Goldfarb and Shanno with limited memory, L-BFGS.

Own code, because SciPy's L-BFGS computes sums whose order depends on the processor. Here every sum
is exact, so a minimum has the same bytes on every processor.

Sources: Nocedal and Wright (2006), Numerical Optimization, 2nd edition: algorithm 7.4 for the
direction, 7.5 for the loop. Lewis and Overton (2013), Nonsmooth optimization via quasi-Newton
methods, Mathematical Programming 141, algorithm 2.6, for the step: it satisfies the conditions of
Wolfe, so the curvature of each pair is positive.
"""

from collections import deque
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from imgpipe.core.exact_sums import dot

_PAIRS = 10
# The conditions of Wolfe: the value decreases by at least this share of what the slope promises,
# and the slope becomes less steep than this share of the slope at the start.
_DECREASE_FRAC = 1e-4
_SLOPE_FRAC = 0.9
_MOST_STEPS = 40  # a step of 2 ** -40 changes nothing

Vector = NDArray[np.float64]
Objective = Callable[[Vector], tuple[float, Vector]]
"""Returns the value and the gradient at a point."""


class _Point(NamedTuple):
    place: Vector
    value: float
    gradient: Vector


class _Pair(NamedTuple):
    """A step and the change of the gradient, which approximate the curvature."""

    step: Vector
    change: Vector
    curvature: float
    """Their scalar product."""


def minimize(
    objective: Objective,
    start: Vector,
    *,
    gradient_tolerance: float,
    most_iterations: int,
    on_iteration: Callable[[Vector], object] | None = None,
) -> Vector:
    """Return the place of the minimum of a smooth function.

    Args:
        objective: the function, with its gradient.
        start: where to begin, (D,).
        gradient_tolerance: stop if no element of the gradient is larger.
        most_iterations: stop after this number of iterations.
        on_iteration: called with the place after each iteration.
    """
    point = _Point(start, *objective(start))
    pairs: deque[_Pair] = deque(maxlen=_PAIRS)
    for _ in range(most_iterations):
        if np.abs(point.gradient).max() <= gradient_tolerance:
            break
        found = _search(objective, point, _find_direction(point.gradient, pairs))
        if found is None:  # the value has no smaller float64
            break
        step, change = found.place - point.place, found.gradient - point.gradient
        pairs.append(_Pair(step, change, dot(step, change)))
        point = found
        if on_iteration is not None:
            on_iteration(point.place)
    return point.place


def _find_direction(gradient: Vector, pairs: deque[_Pair]) -> Vector:
    """Return the direction of Newton's method with the curvature of the pairs."""
    if not pairs:
        return -gradient / max(1.0, float(np.sqrt(dot(gradient, gradient))))
    direction, shares = -gradient, []
    for pair in reversed(pairs):
        shares.append(dot(pair.step, direction) / pair.curvature)
        direction = direction - shares[-1] * pair.change
    newest = pairs[-1]
    direction *= newest.curvature / dot(newest.change, newest.change)
    for pair, share in zip(pairs, reversed(shares), strict=True):
        direction += (share - dot(pair.change, direction) / pair.curvature) * pair.step
    return direction


def _search(objective: Objective, start: _Point, direction: Vector) -> _Point | None:
    """Return a point in a direction that satisfies the conditions of Wolfe; None if none does."""
    slope = dot(start.gradient, direction)
    shortest, longest, step = 0.0, np.inf, 1.0
    for _ in range(_MOST_STEPS):
        place = start.place + step * direction
        point = _Point(place, *objective(place))
        if not point.value <= start.value + _DECREASE_FRAC * step * slope:
            longest = step
        elif dot(point.gradient, direction) < _SLOPE_FRAC * slope:
            shortest = step
        else:
            return point
        step = 2 * shortest if longest == np.inf else (shortest + longest) / 2
    return None
