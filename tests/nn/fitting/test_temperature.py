"""The temperature that makes probabilities honest."""

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.optimize import minimize_scalar
from scipy.special import log_softmax, softmax

from imgpipe.nn.fitting.temperature import fit_temperature


def draw(
    temperature: float, *, images: int = 4000, classes: int = 5, seed: int = 0
) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Return logits, and labels drawn from the softmax of logits / temperature."""
    generator = np.random.default_rng(seed)
    logits = generator.normal(0, 3, (images, classes)).astype(np.float32)
    cumulated = softmax(logits / temperature, axis=1).cumsum(axis=1)
    labels = (generator.random((images, 1)) > cumulated[:, :-1]).sum(axis=1)
    return logits, labels


def log_loss(logits: NDArray[np.float32], labels: NDArray[np.int64], temperature: float) -> float:
    wide = logits.astype(np.float64) / temperature
    return float(-log_softmax(wide, axis=1)[np.arange(len(labels)), labels].mean())


@pytest.mark.parametrize("temperature", [0.5, 1.7, 3.0])
@pytest.mark.parametrize("classes", [2, 5])
def test_the_temperature_is_the_one_of_lowest_log_loss(temperature: float, classes: int) -> None:
    logits, labels = draw(temperature, classes=classes)
    found = fit_temperature(logits, labels)
    best = minimize_scalar(
        lambda value: log_loss(logits, labels, value),
        bounds=(0.1, 10),
        method="bounded",
        options={"xatol": 1e-7},
    ).x
    assert found.temperature == pytest.approx(best, abs=0.001)
    assert found.temperature == pytest.approx(temperature, rel=0.1)


def test_the_losses_are_without_and_with_the_temperature() -> None:
    logits, labels = draw(2.0)
    found = fit_temperature(logits, labels)
    assert found.loss_before == pytest.approx(log_loss(logits, labels, 1.0), rel=1e-12)
    # Cross-validated: a little higher than the loss of the temperature that all images choose.
    lowest = log_loss(logits, labels, found.temperature)
    assert lowest < found.loss_after < lowest + 1e-3
    assert f"temperature {found.temperature:g}" in str(found)


def test_honest_probabilities_stay_as_they_are() -> None:
    found = fit_temperature(*draw(1.0))
    assert found.temperature == 1
    assert "no temperature scaling" in str(found)


@pytest.mark.parametrize("images", [1, 2, 4, 12])
def test_few_images_change_nothing(images: int) -> None:
    assert fit_temperature(*draw(3.0, images=images)).temperature == 1


def test_images_without_a_mistake_do_not_make_the_network_surer() -> None:
    logits = np.tile(np.array([[1.0, 0.0]], dtype=np.float32), (600, 1))
    labels = np.zeros(600, dtype=np.int64)
    found = fit_temperature(logits, labels)
    assert found.temperature == 1
    assert str(found).endswith(", at a limit of the search")
    labels[:60] = 1  # the logits of 90 % differ by log(9)
    assert fit_temperature(logits, labels).temperature == pytest.approx(1 / np.log(9), abs=0.001)


def test_a_number_added_to_all_logits_of_an_image_has_no_effect() -> None:
    logits, labels = draw(2.0)
    shifted = logits + np.random.default_rng(1).integers(-50, 50, (len(logits), 1))
    assert fit_temperature(shifted, labels).temperature == fit_temperature(logits, labels)[0]
