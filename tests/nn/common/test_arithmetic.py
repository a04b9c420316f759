"""A network computed with exact operations: close to Keras, and from allowed operations only."""

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
from support import build_network, change_params, find_error, make_random_images

pytestmark = pytest.mark.tf

NETWORKS: dict[str, dict[str, Any]] = {
    "mlp": {},
    "cnn": {},
    "cnn, average pooling": {"pool": "average", "global_pool": "average", "batch_norm": True},
    "cnn, min pooling": {"pool": "min", "global_pool": "max"},
    "resnet": {},
}
# Their results depend on the processor, on the order of a sum, or on the length of a tensor.
FORBIDDEN = {
    "AvgPool", "BiasAddGrad", "Cos", "Cumsum", "Einsum", "Exp", "Expm1", "FusedBatchNormV3", "Log",
    "Log1p", "LogSoftmax", "Mean", "Pow", "Prod", "Reciprocal", "ReciprocalGrad", "Rsqrt",
    "RsqrtGrad", "Sigmoid", "Sin", "Softmax", "SparseSoftmaxCrossEntropyWithLogits", "Tanh",
}  # fmt: skip
# Exact if the terms are integers in float64.
FLOAT64_ONLY = {
    "Conv2D", "Conv2DBackpropFilter", "Conv2DBackpropInput", "DepthwiseConv2dNative", "MatMul",
    "Sum",
}  # fmt: skip


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


@pytest.mark.parametrize("name", NETWORKS)
def test_a_training_step_has_allowed_operations_only(name: str) -> None:
    import tensorflow as tf

    from imgpipe.nn.common import arithmetic

    model = build(name)

    def step(images: Any, upstream: Any) -> Any:
        with tf.GradientTape() as tape:
            probabilities = arithmetic.apply(model, images, training=True)
        return tape.gradient(probabilities, model.trainable_variables, upstream)

    # With an unknown batch size, TensorFlow would add sums along no axis.
    shapes = [tf.TensorSpec([6, *shape]) for shape in (model.input_shape[1:], (10,))]
    operations = (
        tf.function(step, autograph=False).get_concrete_function(*shapes).graph.get_operations()
    )
    of_floats = [
        operation
        for operation in operations
        if any(output.dtype.is_floating for output in operation.outputs)
    ]
    assert any(operation.type == "MatMul" for operation in of_floats)
    assert not {operation.type for operation in of_floats} & FORBIDDEN
    for operation in of_floats:
        if operation.type in FLOAT64_ONLY and operation.outputs[0].dtype != tf.float64:
            # The gradient of a maximum counts the elements that are equal to it.
            assert operation.inputs[0].op.type == "Cast", operation.name


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
