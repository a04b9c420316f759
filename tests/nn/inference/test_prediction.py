"""Class probabilities."""

import numpy as np
import pytest
from support import build_network, make_random_images

pytestmark = pytest.mark.tf


def test_the_output_unit_is_the_probability_of_the_second_class() -> None:
    from imgpipe.nn.inference.prediction import predict_probabilities

    model = build_network("mlp", classes=2)
    images = make_random_images(7, 28, 28, 1)
    probabilities = predict_probabilities(model, images)
    assert probabilities.shape == (7, 2)
    assert probabilities.dtype == np.float32
    assert probabilities.sum(axis=1) == pytest.approx(np.ones(7))
    assert probabilities[:, 1] == pytest.approx(np.asarray(model(images))[:, 0], abs=1e-6)


def test_each_batch_reports_its_number_of_images() -> None:
    from imgpipe.nn.inference.prediction import predict_probabilities

    model = build_network("mlp", shape=(12, 12, 1))
    images = make_random_images(1000, 12, 12, 1)
    reported: list[int] = []
    probabilities = predict_probabilities(model, images, reported.append)
    assert reported == [512, 488]
    assert probabilities == pytest.approx(np.asarray(model(images)), abs=1e-6)
