"""A network computed with exact operations: close to Keras, and from allowed operations only."""

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
from exact_graphs import find_forbidden_operations
from support import build_network, change_params, find_error, make_random_images

pytestmark = pytest.mark.tf

NETWORKS: dict[str, dict[str, Any]] = {
    "mlp": {},
    "cnn": {},
    "cnn, average pooling": {"pool": "average", "global_pool": "average", "batch_norm": True},
    "cnn, min pooling": {"pool": "min", "global_pool": "max"},
    "resnet": {},
}


@pytest.fixture(autouse=True)
def no_graph_optimizer() -> Iterator[None]:
    """Switch off TensorFlow's graph optimizer, which replaces exact operations."""
    from imgpipe.nn.common.runtime import tf

    tf.config.optimizer.set_experimental_options({"disable_meta_optimizer": True})
    yield
    tf.config.optimizer.set_experimental_options({"disable_meta_optimizer": False})


def build(name: str) -> Any:
    """Return a network without dropout, whose normalization layers have random values."""
    from imgpipe.nn.common.runtime import keras

    network = name.split(",")[0]
    params = change_params(
        networks__mlp__dropout_frac=0.0,
        networks__resnet__dropout_frac=0.0,
        networks__cnn__conv_dropout_frac=0.0,
        networks__cnn__dense_dropout_frac=0.0,
        **{f"networks__{network}__{key}": value for key, value in NETWORKS[name].items()},
    )
    keras.utils.set_random_seed(2)
    model = build_network(network, params)
    generator = np.random.default_rng(1)
    for variable in model.variables:
        if variable.name in ("gamma", "beta", "moving_mean", "moving_variance"):
            variable.assign(generator.uniform(0.5, 1.5, variable.shape))
    return model


@pytest.mark.parametrize("name", NETWORKS)
def test_training_and_inference_are_close_to_keras_in_float64(
    name: str, set_precision: Callable[[str], None]
) -> None:
    import tensorflow as tf

    from imgpipe.nn.common import arithmetic

    model = build(name)
    arithmetic.check_layers(model)
    set_precision("float64")
    reference = build(name)
    start = model.get_weights()
    reference.set_weights(start)
    images = make_random_images(6, *model.input_shape[1:])
    upstream = np.random.default_rng(2).normal(size=(6, 10))

    def call(model: Any, dtype: str, *, training: bool) -> Any:
        inputs = images.astype(dtype)
        if dtype == "float64":
            return model(inputs, training=training)
        return arithmetic.apply(model, inputs, training=training)

    results: list[list[Any]] = []
    for network, dtype in ((model, "float32"), (reference, "float64")):
        inferred = call(network, dtype, training=False)
        with tf.GradientTape() as tape:
            total = tf.reduce_sum(call(network, dtype, training=True) * upstream.astype(dtype))
        gradients = tape.gradient(total, network.trainable_variables)
        results.append([inferred, *gradients, *network.get_weights()])
    for exact, expected in zip(*results, strict=True):
        # About ten times what was seen; the error of native float32 is a third of it.
        assert np.abs(exact - np.asarray(expected)).max() <= 1e-4 * np.abs(expected).max() + 1e-7


def list_operations(function: Callable[..., Any], *shapes: Any) -> list[str]:
    """Return the forbidden operations in the graph of a function of images and other tensors."""
    import tensorflow as tf

    specs = [tf.TensorSpec([6, *shape]) for shape in shapes]
    traced = tf.function(function, autograph=False).get_concrete_function(*specs)
    return find_forbidden_operations(traced)


@pytest.mark.parametrize("name", NETWORKS)
def test_a_network_and_its_gradients_have_allowed_operations_only(name: str) -> None:
    import tensorflow as tf

    from imgpipe.nn.common import arithmetic

    model = build(name)
    shape = model.input_shape[1:]

    def find_gradients(images: Any, upstream: Any) -> Any:
        with tf.GradientTape() as tape:
            probabilities = arithmetic.apply(model, images, training=True)
        return tape.gradient(probabilities, model.trainable_variables, upstream)

    def find_evidence(images: Any, upstream: Any) -> Any:
        with tf.GradientTape() as tape:
            tape.watch(images)
            probabilities = arithmetic.apply(model, images, training=False)
        return probabilities, tape.gradient(probabilities, images, upstream)

    assert not list_operations(find_gradients, shape, (10,))
    assert not list_operations(find_evidence, shape, (10,))


def test_forbidden_operations_are_found() -> None:
    import tensorflow as tf

    native = list_operations(build("cnn, average pooling"), (28, 28, 1))
    assert {"AvgPool", "BiasAdd", "Conv2D", "MatMul", "Mean", "Rsqrt", "Softmax"} == {
        operation.split()[0] for operation in native
    }

    def multiply(number: Any, x: Any) -> Any:
        wide = tf.cast(x, tf.float64)
        return number + 1, tf.cast(tf.matmul(wide, tf.ones([3, 3], tf.float64)), tf.float32)

    def multiply_unrounded(x: Any) -> Any:
        return tf.while_loop(lambda number, _: number < 2, multiply, (0, x))[1]

    assert [name.split()[0] for name in list_operations(multiply_unrounded, (3,))] == ["MatMul"]


def test_a_layer_without_exact_operations_is_refused() -> None:
    import keras

    from imgpipe.nn.common.arithmetic import check_layers

    image = keras.Input((8, 8, 1))
    model = keras.Model(image, keras.layers.UpSampling2D(name="larger")(image))
    assert find_error(check_layers, keras.Model(image, model(image))) == (
        "params.yaml: arithmetic: `exact` cannot compute the layer `larger`, a UpSampling2D;"
        " choose `native`"
    )


def test_an_option_without_exact_operations_is_refused() -> None:
    import keras

    from imgpipe.nn.common.arithmetic import check_layers

    layers = keras.layers
    refused = [
        (layers.Conv2D(4, 3, activation="gelu"), "with the activation `gelu`"),
        (layers.Conv2D(4, 3, dilation_rate=2), "whose `dilation_rate` is not (1, 1)"),
        (layers.Conv2D(4, 3, groups=2), "whose `groups` is not 1"),
        (layers.BatchNormalization(scale=False), "whose `scale` is not True"),
        (layers.MaxPooling2D(3, strides=2), "whose `strides` is not (3, 3)"),
        (layers.AveragePooling2D(3, strides=2), "whose `strides` is not (3, 3)"),
        (layers.AveragePooling2D(3, padding="same"), "whose `padding` is not valid"),
        (layers.GlobalAveragePooling2D(keepdims=True), "whose `keepdims` is not False"),
    ]
    for layer, reason in refused:
        image = keras.Input((8, 8, 2))
        assert find_error(check_layers, keras.Model(image, layer(image))) == (
            f"params.yaml: arithmetic: `exact` cannot compute the layer `{layer.name}`, {reason};"
            " choose `native`"
        )
    image = keras.Input((8, 8, 2))
    accepted = layers.MaxPooling2D(2, padding="same")(layers.Conv2D(4, 3)(image))
    check_layers(keras.Model(image, accepted))
