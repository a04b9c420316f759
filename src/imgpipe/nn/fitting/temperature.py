"""Temperature scaling: a network's probabilities become as large as its validation accuracy.

A network that was trained until its loss on validation images stopped falling is often too sure.
All logits are divided by one number, the temperature, which is fitted on validation images. The
predicted classes stay the same. Source: Guo, Pleiss, Sun and Weinberger (2017), On Calibration of
Modern Neural Networks, arXiv:1706.04599.
"""

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from imgpipe.core.exact_sums import softmax, sum_exactly

_FOLDS = 5  # of the cross-validation that decides whether a temperature is used
_LOWEST, _HIGHEST = 100, 10_000  # temperatures in thousandths
_STANDARD_ERRORS = 2.0  # that the log loss must fall


class TemperatureScaling(NamedTuple):
    """A temperature, and its effect on validation images that it was not fitted to."""

    temperature: float
    """1 if no temperature lowers the log loss clearly."""
    loss_before: float
    """Mean cross-entropy in nats, without a temperature."""
    loss_after: float
    """The same with a temperature from the other folds of a cross-validation."""
    images: int
    is_at_limit: bool = False
    """Whether the best temperature is the lowest or highest one, so that none is used."""

    def __str__(self) -> str:
        effect = (
            f"cross-validated on {self.images:,} validation images, the log loss changes from"
            f" {self.loss_before:.4f} to {self.loss_after:.4f}"
        )
        if self.temperature == 1:
            reason = "at a limit of the search" if self.is_at_limit else "not a clear gain"
            return f"no temperature scaling: {effect}, {reason}"
        return f"temperature {self.temperature:g}: {effect}"


def fit_temperature(logits: NDArray[np.floating], labels: NDArray[np.int64]) -> TemperatureScaling:
    """Choose the temperature of lowest log loss, if it lowers the log loss clearly.

    Clearly: in a cross-validation, by more than two standard errors of the mean over the images.
    So a small validation split leaves the network as it is. Without a mistake among the images, the
    best temperature would be 0. So at the limits of the search the network stays as it is, too.

    Args:
        logits: (N, K) of validation images; a number may be added to all logits of an image.
        labels: (N,).
    """
    wide = logits.astype(np.float64)
    before = _cross_entropies(wide, labels, 1.0)
    after = before.copy()
    for fold in range(_FOLDS):
        inside = np.arange(len(labels)) % _FOLDS == fold
        if inside.any() and not inside.all():
            temperature = _find_best(wide[~inside], labels[~inside])
            after[inside] = _cross_entropies(wide[inside], labels[inside], temperature)
    gains = before - after
    gain = _mean(gains)
    standard_error = math.sqrt(_mean(np.square(gains - gain)) / len(gains))
    best = _find_best(wide, labels)
    is_clear = gain > _STANDARD_ERRORS * standard_error
    is_at_limit = not _LOWEST < 1000 * best < _HIGHEST
    return TemperatureScaling(
        best if is_clear and not is_at_limit else 1.0,
        _mean(before),
        _mean(after),
        len(labels),
        is_at_limit,
    )


def to_probabilities(logits: NDArray[np.floating]) -> NDArray[np.float32]:
    """Return the softmax of logits (N, K)."""
    return softmax(logits.astype(np.float64))[0].astype(np.float32)


def _find_best(logits: NDArray[np.float64], labels: NDArray[np.int64]) -> float:
    """Return the temperature of lowest log loss, a multiple of 0.001.

    The log loss is a convex function of 1 / temperature. Its derivative is the mean difference of
    the expected logit and the logit of the true class, and is positive below the best temperature.
    """
    low, high = _LOWEST, _HIGHEST
    while low < high:
        middle = (low + high) // 2
        temperature = middle / 1000
        probabilities, _ = softmax(logits / temperature)
        excess = sum_exactly(probabilities * logits, axis=1) - _of_labels(logits, labels)
        if float(sum_exactly(excess)) > 0:
            low = middle + 1
        else:
            high = middle
    return low / 1000


def _cross_entropies(
    logits: NDArray[np.float64], labels: NDArray[np.int64], temperature: float
) -> NDArray[np.float64]:
    return -_of_labels(softmax(logits / temperature)[1], labels)


def _of_labels(values: NDArray[np.float64], labels: NDArray[np.int64]) -> NDArray[np.float64]:
    chosen: NDArray[np.float64] = values[np.arange(len(labels)), labels]
    return chosen


def _mean(values: NDArray[np.float64]) -> float:
    return float(sum_exactly(values)) / len(values)
