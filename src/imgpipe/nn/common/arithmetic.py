"""How a network computes: natively, or with the exact operations of `imgpipe.nn.common.exact`.

Exact: the same bytes on every processor, with any number of threads. Native: the operations of
Keras, which are faster, and repeat on one kind of processor with one number of threads.
"""

from collections.abc import Callable
from typing import Any, Protocol

import keras
import tensorflow as tf
from keras import layers

from imgpipe.core.errors import PipelineError
from imgpipe.nn.common import exact


class Forward(Protocol):
    """Computes what a model returns."""

    def __call__(self, model: keras.Model, inputs: tf.Tensor, *, training: bool) -> tf.Tensor:
        """Return the outputs for inputs (N, ...).

        With `training`, dropout acts, and batch normalization normalizes by the batch.
        """


def find_forward(arithmetic: str) -> Forward:
    """Return the function for a value of `arithmetic` in params.yaml."""
    return {"exact": apply, "native": _apply_natively}[arithmetic]


def _apply_natively(model: keras.Model, inputs: tf.Tensor, *, training: bool) -> tf.Tensor:
    return model(inputs, training=training)


def apply(model: keras.Model, inputs: tf.Tensor, *, training: bool) -> tf.Tensor:
    """Return what a model returns, computed with exact operations; call it in a `tf.function`.

    Args:
        model: a functional model of layers that `check_layers` accepts.
        inputs: (N, ...), as the model takes them.
        training: whether dropout acts, and batch normalization normalizes by the batch.

    Raises:
        PipelineError: a layer has no exact operations.
    """
    check_layers(model)
    # Keras has no public function that walks the graph of a model with other operations.
    return model._run_through_graph(inputs, operation_fn=lambda layer: _exact_call(layer, training))


def check_layers(model: keras.Model) -> None:
    """Check that each layer of a model has exact operations.

    Raises:
        PipelineError: a layer has none.
    """
    for layer in model.operations:
        if isinstance(layer, keras.Model):
            check_layers(layer)
        elif obstacle := _find_obstacle(layer):
            raise PipelineError(
                f"params.yaml: arithmetic: `exact` cannot compute the layer `{layer.name}`,"
                f" {obstacle}; choose `native`"
            )


def _find_obstacle(layer: Any) -> str | None:
    """Return why a layer has no exact operations, or None if it has."""
    kind = type(layer)
    if not isinstance(layer, keras.Layer):
        return None if kind.__name__ in _EXACT_FUNCTIONS else f"a {kind.__name__}"
    if kind not in _EXACT and kind not in _ALREADY_EXACT:
        return f"a {kind.__name__}"
    if (
        kind in _EXACT
        and getattr(layer, "activation", keras.activations.linear) not in _ACTIVATIONS
    ):
        return f"with the activation `{layer.activation.__name__}`"
    required = _REQUIRED if kind in _EXACT else {}
    if kind in (layers.AveragePooling2D, layers.MaxPooling2D):
        # The gradient of an element in several windows is a sum in any order.
        required = required | {"strides": layer.pool_size}
    if kind is layers.AveragePooling2D:
        required = required | {"padding": "valid"}
    for option, value in required.items():
        if getattr(layer, option, value) != value:
            return f"whose `{option}` is not {value}"
    return None


def _exact_call(layer: Any, training: bool) -> Callable[..., Any]:
    """Return the function that computes a layer; the graph may pass the layer's own arguments."""
    if isinstance(layer, keras.Model):
        return lambda inputs, **_: apply(layer, inputs, training=training)
    if function := _EXACT.get(type(layer)):
        return lambda inputs, **_: function(layer, inputs, training)
    if isinstance(layer, keras.Layer) and layer._call_has_training_arg:
        return lambda inputs, **_: layer(inputs, training=training)
    return layer  # type: ignore[no-any-return]


def _call_convolution(layer: layers.Conv2D, x: tf.Tensor, training: bool) -> tf.Tensor:
    return _call_with_kernel(
        layer, exact.conv2d, x, strides=layer.strides, padding=layer.padding, training=training
    )


def _call_depthwise(layer: layers.DepthwiseConv2D, x: tf.Tensor, training: bool) -> tf.Tensor:
    return _call_with_kernel(
        layer,
        exact.depthwise_conv2d,
        x,
        strides=layer.strides,
        padding=layer.padding,
        training=training,
    )


def _call_dense(layer: layers.Dense, x: tf.Tensor, training: bool) -> tf.Tensor:
    return _call_with_kernel(layer, exact.matmul, x, training=training)


def _call_with_kernel(
    layer: Any, function: Callable[..., Any], x: tf.Tensor, **options: Any
) -> tf.Tensor:
    """Return the product with the kernel plus the bias, activated."""
    bias = _value(layer.bias) if layer.use_bias else None
    return _ACTIVATIONS[layer.activation](function(x, _value(layer.kernel), bias, **options))


def _call_activation(layer: layers.Activation, x: tf.Tensor, training: bool) -> tf.Tensor:
    return _ACTIVATIONS[layer.activation](x)


def _call_batch_norm(layer: layers.BatchNormalization, x: tf.Tensor, training: bool) -> tf.Tensor:
    gamma, beta = _value(layer.gamma), _value(layer.beta)
    moving = [_value(layer.moving_mean), _value(layer.moving_variance)]
    if not training:
        mean, variance = moving
        scale = gamma / tf.sqrt(variance + layer.epsilon)
        return exact.normalize(x, mean, scale, beta)
    result, *of_batch = exact.normalize_batch(x, gamma, beta, epsilon=layer.epsilon)
    for variable, average, value in zip(
        (layer.moving_mean, layer.moving_variance), moving, of_batch, strict=True
    ):
        variable.assign(average * layer.momentum + value * (1.0 - layer.momentum))
    return result


def _call_global_average(
    layer: layers.GlobalAveragePooling2D, x: tf.Tensor, training: bool
) -> tf.Tensor:
    return exact.mean_along(x, (1, 2))


def _call_average(layer: layers.AveragePooling2D, x: tf.Tensor, training: bool) -> tf.Tensor:
    """Return the means of windows beside each other; rows and columns left over have no effect."""
    height, width = layer.pool_size
    rows, columns, channels = x.shape[1] // height, x.shape[2] // width, x.shape[3]
    windows = tf.reshape(
        x[:, : rows * height, : columns * width], (-1, rows, height, columns, width, channels)
    )
    return exact.mean_along(windows, (2, 4))


def _value(variable: keras.Variable) -> tf.Tensor:
    return tf.convert_to_tensor(variable)


_ACTIVATIONS: dict[Callable[..., Any], Callable[[tf.Tensor], tf.Tensor]] = {
    keras.activations.linear: lambda x: x,
    keras.activations.relu: tf.nn.relu,
    keras.activations.softmax: exact.softmax,
    keras.activations.sigmoid: exact.sigmoid,
}

_EXACT: dict[type[layers.Layer], Callable[[Any, tf.Tensor, bool], tf.Tensor]] = {
    layers.Activation: _call_activation,
    layers.AveragePooling2D: _call_average,
    layers.BatchNormalization: _call_batch_norm,
    layers.Conv2D: _call_convolution,
    layers.Dense: _call_dense,
    layers.DepthwiseConv2D: _call_depthwise,
    layers.GlobalAveragePooling2D: _call_global_average,
}
# Options that the exact operations do not have, with the only value that they compute.
_REQUIRED: dict[str, Any] = {
    "axis": -1,
    "center": True,
    "data_format": "channels_last",
    "dilation_rate": (1, 1),
    "groups": 1,
    "keepdims": False,
    "scale": True,
}
# These only move, choose or compare elements, or compute with single elements.
_ALREADY_EXACT = (
    layers.Add,
    layers.Concatenate,
    layers.Dropout,
    layers.Flatten,
    layers.GlobalMaxPooling2D,
    layers.InputLayer,
    layers.MaxPooling2D,
    layers.RandomFlip,
    layers.ReLU,
    layers.Rescaling,
    layers.Reshape,
)
# Of `keras.ops`, in the graph of a model.
_EXACT_FUNCTIONS = ("Cast", "Clip", "Round")
