"""Properties of all networks, and properties of single networks."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support import (
    NETWORKS,
    PARAMS,
    ROOT,
    build_network,
    change_params,
    make_random_images,
    predict_probabilities,
    save_network,
    train_network,
)

from imgpipe.core.errors import PipelineError
from imgpipe.core.yaml_file import read_yaml
from imgpipe.records.normalization import Normalization
from imgpipe.settings.backbones import BACKBONES
from imgpipe.settings.networks import Networks
from imgpipe.settings.params import Params

pytestmark = pytest.mark.tf

# Number of parameters of the published networks, by recipe.
PUBLISHED = {
    "fashion_mnist_dense": 29_898,
    "fashion_mnist_cnn": 402_442,
    "mnist_mlp": 407_050,
    "mnist_cnn": 1_199_882,
    "mnist_tutorial_cnn": 93_322,
    "cats_vs_dogs": 130_241,
    "photographs": 3_351_281,
    "flowers": 246_773,
}
CLASSES = {"cats_vs_dogs": 2, "photographs": 2, "flowers": 5}


def read_recipe(name: str) -> Params:
    """Return the parameters of a recipe; other values come from params.yaml."""

    def merge(base: dict[str, Any], changes: dict[str, Any]) -> dict[str, Any]:
        merged = {
            key: merge(base[key], value) if isinstance(value, dict) else value
            for key, value in changes.items()
        }
        return {**base, **merged}

    recipe = dict(read_yaml(ROOT / "recipes" / f"{name}.yaml"))
    return Params.model_validate(merge(dict(read_yaml(ROOT / "params.yaml")), recipe))


def build_recipe(name: str) -> Any:
    params = read_recipe(name)
    return build_network(
        params.network,
        params,
        shape=params.preprocess.image_shape,
        classes=CLASSES.get(name, 10),
    )


def test_every_network_has_a_builder_and_every_builder_is_tested() -> None:
    from imgpipe.nn.networks import find_builder

    def name_builder(network: str) -> str:
        return BACKBONES[network].builder if network in BACKBONES else network

    builders = {name_builder(network) for network in Networks.model_fields}
    assert all(callable(find_builder(builder).build) for builder in builders)
    assert {name_builder(network) for network in NETWORKS} == builders


@pytest.mark.parametrize("shape", [(28, 28, 1), (40, 33, 3)])
@pytest.mark.parametrize("name", NETWORKS)
def test_a_network_takes_pixels_and_returns_probabilities(
    name: str, shape: tuple[int, int, int]
) -> None:
    normalization = Normalization(
        method="standardize", scale=[0.1] * shape[2], offset=[-1.0] * shape[2]
    )
    model = build_network(name, shape=shape, normalization=normalization)
    assert model.name == name
    assert (model.input.name, model.input.dtype) == ("pixels_0_to_255", "float32")
    assert model.input_shape == (None, *shape)
    assert model.output_shape == (None, 10)
    images = make_random_images(7, *shape)
    probabilities = np.asarray(model(images))
    assert probabilities.dtype == np.float32
    assert (probabilities == np.asarray(model(images.astype(np.float32)))).all()
    # The sum in the softmax, and this sum, have 10 terms, with rounding errors of at most eps / 2.
    bound = 10 * float(np.finfo(np.float32).eps)
    assert probabilities.sum(axis=1) == pytest.approx(np.ones(7), abs=bound)


@pytest.mark.parametrize("name", NETWORKS)
def test_two_classes_have_one_unit_and_two_probabilities(name: str) -> None:
    """The unit is the logit of the second class; both probabilities have all their digits."""
    from imgpipe.nn.common.runtime import keras

    model = build_network(name, classes=2)
    assert model.output_shape == (None, 2)
    assert [layer.count_params() > 0 for layer in model.layers[-5:]] == [True] + 4 * [False]
    unit = model.get_layer("logits")
    kernel, _ = unit.get_weights()
    assert kernel.shape[1] == 1
    images = make_random_images(5, 28, 28, 1)
    for bias in (-80.0, -20.0, 0.0, 20.0, 80.0):
        unit.set_weights([kernel, np.array([bias])])
        logits = np.asarray(keras.Model(model.input, unit.output)(images), dtype=np.float64)
        expected = 1 / (1 + np.exp(np.concatenate([logits, -logits], axis=1)))
        # Half of the logit is exact. Its exponential, the sum and the quotient are rounded.
        bound = 4 * np.finfo(np.float32).eps
        assert np.asarray(model(images)) == pytest.approx(expected, rel=float(bound), abs=1e-37)


def test_more_classes_have_a_unit_each() -> None:
    names = [layer.name for layer in build_network("mlp", classes=3).layers]
    assert names[-2:] == ["logits", "probabilities"]


@pytest.mark.parametrize("name", NETWORKS)
def test_layers_have_the_same_unique_names_in_every_network_of_a_process(name: str) -> None:
    """Keras's default names contain a counter, which would change the bytes of the model file."""
    first, second = ([layer.name for layer in build_network(name).layers] for _ in range(2))
    assert first == second
    assert len(set(first)) == len(first)


@pytest.mark.parametrize("name", NETWORKS)
def test_a_network_trains_and_its_file_gives_the_same_probabilities(
    name: str, tmp_path: Path
) -> None:
    from imgpipe.nn.inference.loading import load_model

    model = build_network(name)
    images, labels = make_random_images(20, 28, 28, 1), np.arange(20) // 3
    before = predict_probabilities(model, images)
    train_network(model, change_params(training__epochs=1), images, labels)
    trained = predict_probabilities(model, images)
    assert (trained != before).any()
    save_network(model, tmp_path / "model.keras")
    assert (predict_probabilities(load_model(tmp_path / "model.keras"), images) == trained).all()


def test_the_first_layer_normalizes_each_channel() -> None:
    from imgpipe.nn.common.runtime import keras

    normalization = Normalization(
        method="standardize", scale=[0.1, 0.2, 0.3], offset=[-1.0, 0.0, 2.0]
    )
    model = build_network("mlp", shape=(4, 4, 3), normalization=normalization)
    pixels = make_random_images(2, 4, 4, 3)
    inner = keras.Model(model.input, model.get_layer("normalization").output)
    for images in (pixels, pixels / np.float32(255)):  # fractions are not cut off
        expected = images * np.array(normalization.scale) + np.array(normalization.offset)
        # Scale, offset, product and sum are rounded, by at most eps / 2 of the largest value.
        bound = 2 * np.finfo(np.float32).eps * np.abs(expected).max()
        assert np.asarray(inner(images)) == pytest.approx(expected, abs=float(bound))


def test_images_too_small_for_a_network_are_an_error() -> None:
    with pytest.raises(PipelineError, match=r"networks\.cnn: does not fit images of 6 x 6"):
        build_network("cnn", shape=(6, 6, 1))


@pytest.mark.parametrize("recipe", PUBLISHED)
def test_the_network_of_a_recipe_has_the_published_number_of_parameters(recipe: str) -> None:
    assert build_recipe(recipe).count_params() == PUBLISHED[recipe]


def test_the_convolutions_of_the_tutorial_network_have_the_published_size() -> None:
    model = build_recipe("mnist_tutorial_cnn")
    convolutions = [layer for layer in model.layers if layer.name.startswith("conv_")]
    assert sum(layer.count_params() for layer in convolutions) == 55_744


def test_the_dense_network_on_rows_has_the_expected_layers() -> None:
    """28 x 28 -> 128 for each row -> 64 for each row -> flat -> 10."""
    model = build_recipe("fashion_mnist_dense")
    assert [tuple(layer.output.shape[1:]) for layer in model.layers[2:]] == [
        (28, 28), (28, 128), (28, 64), (28 * 64,), (10,), (10,)
    ]  # fmt: skip


def test_the_convolutional_network_with_dropout_has_the_expected_layers() -> None:
    """Two convolutions, pooling, dropout 0.25, 128 dense units, dropout 0.5, the output."""
    model = build_recipe("mnist_cnn")
    assert [(layer.name, getattr(layer, "rate", None)) for layer in model.layers[2:]] == [
        ("conv_1", None), ("relu_1", None), ("conv_2", None), ("pool_2", None), ("relu_2", None),
        ("flatten", None), ("conv_dropout", 0.25), ("dense_1", None), ("dense_dropout_1", 0.5),
        ("logits", None), ("probabilities", None),
    ]  # fmt: skip


def test_a_residual_network_has_the_expected_number_of_parameters() -> None:
    params = change_params(networks__resnet__filters=[4, 8])
    # A convolution has no bias; a normalized channel has four values.
    stem = 9 * 4 + 16
    stage_1 = 2 * (9 * 4 * 4 + 16)
    stage_2 = (9 * 4 * 8 + 32) + (9 * 8 * 8 + 32) + (4 * 8 + 32)  # the last one is on the shortcut
    expected = stem + stage_1 + stage_2 + 8 * 10 + 10
    assert build_network("resnet", params).count_params() == expected


def test_a_residual_network_has_the_dropout_and_the_blocks_of_its_settings() -> None:
    params = change_params(networks__resnet__dropout_frac=0.4, networks__resnet__blocks_per_stage=3)
    model = build_network("resnet", params)
    assert model.get_layer("dropout").rate == 0.4
    assert sum(layer.name.endswith("_add") for layer in model.layers) == 3 * 3
    without = build_network("resnet", change_params(networks__resnet__dropout_frac=0.0))
    assert "dropout" not in [layer.name for layer in without.layers]


def test_a_dense_network_has_the_dropout_of_its_settings() -> None:
    model = build_network("mlp", change_params(networks__mlp__dropout_frac=0.4))
    assert [model.get_layer(f"dropout_{number}").rate for number in (1, 2)] == [0.4, 0.4]


@pytest.mark.parametrize("batch_norm", [False, True])
@pytest.mark.parametrize("pool", ["max", "average", "min"])
def test_pooling_computes_the_maximum_the_mean_or_the_minimum(pool: str, batch_norm: bool) -> None:
    """NumPy pools the output of the convolution after ReLU, in the order of the textbooks."""
    from imgpipe.nn.common.runtime import keras

    params = change_params(
        networks__cnn__filters=[5],
        networks__cnn__pool_px=[2],
        networks__cnn__pool=pool,
        networks__cnn__batch_norm=batch_norm,
    )
    keras.utils.set_random_seed(1)
    model = build_network("cnn", params, shape=(10, 8, 3))
    images = make_random_images(6, 10, 8, 3)

    def values(layer: str) -> np.ndarray:
        return np.asarray(keras.Model(model.input, model.get_layer(layer).output)(images))

    rectified = np.maximum(values("conv_1"), 0)
    if batch_norm:  # an untrained layer divides by the square root of 1 + epsilon
        rectified = rectified / np.sqrt(1 + model.get_layer("norm_1").epsilon)
    windows = rectified.reshape(6, 4, 2, 3, 2, 5)
    expected = {
        "max": windows.max(axis=(2, 4)),
        "average": windows.mean(axis=(2, 4)),
        "min": windows.min(axis=(2, 4)),
    }[pool]
    found = values("pool_1" if pool == "average" else "relu_1")
    assert found == pytest.approx(expected, abs=1e-5)
    assert found.max() > 0


@pytest.mark.parametrize("kind", ["average", "max"])
def test_global_pooling_reduces_each_map_to_one_value(kind: str) -> None:
    from imgpipe.nn.common.runtime import keras

    model = build_network("cnn", change_params(networks__cnn__global_pool=kind))
    images = make_random_images(6, 28, 28, 1)
    maps, pooled = (
        np.asarray(keras.Model(model.input, model.get_layer(name).output)(images))
        for name in ("relu_3", "global_pool")
    )
    assert pooled.shape == (6, 64)
    expected = {"average": maps.mean(axis=(1, 2)), "max": maps.max(axis=(1, 2))}[kind]
    assert pooled == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize("pool", ["average", "min"])
@pytest.mark.parametrize("kind", ["none", "average", "max"])
def test_every_pooling_can_be_saved_and_explained(pool: str, kind: str, tmp_path: Path) -> None:
    from imgpipe.nn.common.arithmetic import find_forward
    from imgpipe.nn.inference.explanation import activation_maps, feature_maps
    from imgpipe.nn.inference.loading import load_model

    params = change_params(networks__cnn__pool=pool, networks__cnn__global_pool=kind)
    model = build_network("cnn", params)
    save_network(model, tmp_path / "model.keras")
    loaded = load_model(tmp_path / "model.keras")
    images = make_random_images(4, 28, 28, 1)
    assert (predict_probabilities(loaded, images) == predict_probabilities(model, images)).all()
    assert len(feature_maps(loaded, images[0], find_forward("exact"))[0]) == 3
    assert activation_maps(loaded, images, find_forward("exact")).shape[0] == 4


def test_batch_normalization_and_dropout_are_optional() -> None:
    from imgpipe.nn.common.runtime import keras

    def kinds(**changes: Any) -> list[type]:
        return [type(layer) for layer in build_network("cnn", change_params(**changes)).layers]

    plain = kinds(networks__cnn__conv_dropout_frac=0.0, networks__cnn__dense_dropout_frac=0.0)
    assert keras.layers.Dropout not in plain
    assert keras.layers.BatchNormalization not in plain
    normed = kinds(networks__cnn__batch_norm=True)
    assert normed.count(keras.layers.BatchNormalization) == 3
    assert normed.count(keras.layers.Dropout) == 2


@pytest.mark.parametrize("padding", ["same", "valid"])
@pytest.mark.parametrize("kernel_px", [3, 5])
def test_convolutions_have_the_kernel_size_and_padding_of_the_settings(
    padding: str, kernel_px: int
) -> None:
    params = change_params(
        PARAMS,
        networks__cnn__filters=[4],
        networks__cnn__pool_px=[1],
        networks__cnn__padding=padding,
        networks__cnn__kernel_px=kernel_px,
    )
    layer = build_network("cnn", params).get_layer("conv_1")
    side_px = 28 if padding == "same" else 28 - kernel_px + 1
    assert layer.output.shape[1:] == (side_px, side_px, 4)
    assert layer.kernel.shape == (kernel_px, kernel_px, 1, 4)
