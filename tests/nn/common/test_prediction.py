"""Class probabilities."""

import numpy as np
import pytest
from support import build_network, make_random_images, predict_probabilities

pytestmark = pytest.mark.tf


@pytest.mark.parametrize("classes", [2, 3])
def test_each_class_has_a_probability(classes: int) -> None:

    model = build_network("mlp", classes=classes)
    images = make_random_images(7, 28, 28, 1)
    probabilities = predict_probabilities(model, images)
    assert probabilities.shape == (7, classes)
    assert probabilities.dtype == np.float32
    assert probabilities.sum(axis=1) == pytest.approx(np.ones(7))
    assert probabilities == pytest.approx(np.asarray(model(images)), abs=1e-6)


def test_each_batch_reports_its_number_of_images() -> None:

    model = build_network("mlp", shape=(12, 12, 1))
    images = make_random_images(1000, 12, 12, 1)
    reported: list[int] = []
    probabilities = predict_probabilities(model, images, reported.append)
    assert reported == [512, 488]
    assert probabilities == pytest.approx(np.asarray(model(images)), abs=1e-6)
