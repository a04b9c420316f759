"""The end of a network: its logits, and a temperature."""

from pathlib import Path

import numpy as np
import pytest
from support import build_network, make_random_images

pytestmark = pytest.mark.tf


@pytest.mark.parametrize("classes", [2, 3])
def test_a_temperature_divides_the_logits_and_is_part_of_the_model_file(
    classes: int, tmp_path: Path
) -> None:
    import keras

    from imgpipe.nn.common.logits import add_temperature, make_logits_model

    model = build_network("mlp", shape=(4, 5, 1), classes=classes)
    images = make_random_images(6, 4, 5, 1)
    scaled = add_temperature(model, 2.5)
    expected = keras.ops.softmax(make_logits_model(model)(images) / 2.5)
    np.testing.assert_allclose(scaled(images), expected, rtol=1e-5)
    assert not np.allclose(scaled(images), model(images), rtol=1e-3)
    assert scaled.count_params() == model.count_params()

    scaled.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    np.testing.assert_array_equal(loaded(images), scaled(images))
    assert loaded.layers[-1].name == model.layers[-1].name
