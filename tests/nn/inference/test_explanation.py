"""Kernels, feature maps and activation maps of networks."""

from typing import Any

import numpy as np
import pytest
from support import (
    NETWORKS,
    build_network,
    change_params,
    make_easy_images,
    make_random_images,
    predict_probabilities,
    train_easily,
)

pytestmark = pytest.mark.tf


@pytest.fixture(params=["exact", "native"])
def forward(request: pytest.FixtureRequest) -> Any:
    """Computes a network."""
    from imgpipe.nn.common.arithmetic import find_forward

    return find_forward(request.param)


@pytest.mark.parametrize("name", NETWORKS)
def test_every_network_can_be_explained(name: str, forward: Any) -> None:
    from imgpipe.nn.inference.explanation import activation_maps, feature_maps, first_kernels

    model = build_network(name)
    images = make_random_images(4, 28, 28, 1)
    assert first_kernels(model).ndim == 4
    maps, _ = feature_maps(model, images[0], forward)
    for layer, values in maps:
        assert model.get_layer(layer).output.shape[1:] == values.shape
        assert values.min() >= 0
    activation = activation_maps(model, images, forward)
    assert activation.shape[0] == 4
    assert activation.ndim == 3
    assert activation.min() >= 0
    assert activation.max() <= 1


@pytest.mark.parametrize(
    ("name", "kernels", "layers"),
    [("cnn", (32, 3, 3, 1), 3), ("mlp", (512, 28, 28, 1), 0), ("resnet", (16, 3, 3, 1), 7)],
)
def test_kernels_and_feature_maps_equal_the_values_of_the_layers(
    name: str, kernels: tuple[int, ...], layers: int, forward: Any
) -> None:
    from imgpipe.nn.inference.explanation import feature_maps, first_kernels

    model = build_network(name)
    assert first_kernels(model).shape == kernels
    maps, layers_with_maps = feature_maps(model, make_random_images(1, 28, 28, 1)[0], forward)
    assert len(maps) == layers_with_maps == layers


def test_feature_maps_of_a_deep_network_come_from_evenly_spaced_layers(forward: Any) -> None:
    import keras

    from imgpipe.nn.inference.explanation import MOST_LAYERS, feature_maps

    flow = images = keras.Input((4, 4, 1))
    for number in range(22):
        flow = keras.layers.ReLU(name=f"relu_{number}")(flow)
    maps, layers_with_maps = feature_maps(
        keras.Model(images, flow), make_random_images(1, 4, 4, 1)[0], forward
    )
    assert layers_with_maps == 22
    assert [name for name, _ in maps] == [f"relu_{3 * number}" for number in range(MOST_LAYERS)]


def test_activation_maps_show_the_evidence_for_each_of_two_classes(forward: Any) -> None:
    from imgpipe.nn.inference.explanation import activation_maps

    model, _ = train_easily(classes=2)
    images, labels = make_easy_images(40, 2)
    assert set(predict_probabilities(model, images).argmax(axis=1)) == {0, 1}
    maps = activation_maps(model, images, forward)
    for label in (0, 1):
        assert (maps[labels == label].sum(axis=(1, 2)) > 0).mean() > 0.5
    # If the classes are exchanged, the evidence for the predicted class stays at the same places.
    logits = model.get_layer("logits")
    logits.set_weights([-values for values in logits.get_weights()])
    assert activation_maps(model, images, forward) == pytest.approx(maps, abs=1e-5)


def test_a_dense_kernel_has_the_shape_of_the_image() -> None:
    from imgpipe.nn.inference.explanation import first_kernels

    model = build_network("mlp", shape=(4, 5, 3))
    weights = np.asarray(model.get_layer("dense_1").kernel)
    assert first_kernels(model)[7, 2, 3, 1] == weights[(2 * 5 + 3) * 3 + 1, 7]


def test_a_dense_kernel_on_rows_has_the_shape_of_a_row(forward: Any) -> None:
    from imgpipe.nn.inference.explanation import activation_maps, first_kernels

    model = build_network("mlp", change_params(networks__mlp__sees="row"), shape=(4, 5, 3))
    weights = np.asarray(model.get_layer("dense_1").kernel)
    kernels = first_kernels(model)
    assert kernels.shape == (512, 1, 5, 3)
    assert kernels[7, 0, 3, 1] == weights[3 * 3 + 1, 7]
    assert activation_maps(model, make_random_images(4, 4, 5, 3), forward).shape == (4, 4, 5)


def test_activation_maps_show_the_places_of_the_evidence(forward: Any) -> None:
    from imgpipe.nn.inference.explanation import activation_maps

    model, history = train_easily()
    assert history[-1].validation_accuracy > 0.95
    images, labels = make_easy_images(50)
    maps = activation_maps(model, images, forward)
    upper = labels < 5  # these images have their block in the upper half
    middle = maps.shape[1] // 2
    total = maps.sum(axis=(1, 2))
    assert (total > 0).mean() > 0.5  # a map without evidence for the class is 0 everywhere
    weight_above = maps[:, :middle].sum(axis=(1, 2)) / np.maximum(total, 1e-9)
    assert weight_above[upper & (total > 0)].mean() > 0.7
    assert weight_above[~upper & (total > 0)].mean() < 0.3


def test_a_network_without_weights_has_no_kernels() -> None:
    from imgpipe.nn.common.runtime import keras
    from imgpipe.nn.inference.explanation import first_kernels

    image = keras.Input((4, 4, 1))
    with pytest.raises(ValueError, match="no layer with weights"):
        first_kernels(keras.Model(image, keras.layers.Flatten()(image)))


@pytest.mark.parametrize("precision", ["mixed_bfloat16", "mixed_float16"])
def test_a_network_of_mixed_precision_is_shown(precision: str) -> None:
    import keras

    from imgpipe.nn.common.arithmetic import find_forward
    from imgpipe.nn.inference.explanation import activation_maps, feature_maps

    keras.config.set_dtype_policy(precision)
    try:
        model = build_network("cnn")
    finally:
        keras.config.set_dtype_policy("float32")
    images, forward = make_random_images(3, 28, 28, 1), find_forward("native")
    maps = activation_maps(model, images, forward)
    assert maps.dtype == np.float32
    assert maps.max(axis=(1, 2)) == pytest.approx(np.ones(3))
    assert all(np.isfinite(found).all() for _, found in feature_maps(model, images[0], forward)[0])
