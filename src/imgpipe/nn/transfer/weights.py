"""Build a pretrained network: its layers, and its weights from the package that carries them."""

import hashlib
from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import keras
import numpy as np
from numpy.typing import NDArray

from imgpipe.core.errors import PipelineError
from imgpipe.nn.networks import build_model, find_builder
from imgpipe.nn.transfer.torch_file import read_weights
from imgpipe.records.normalization import Normalization
from imgpipe.settings.backbones import BACKBONES, Backbone

# A backbone has its own mean and scale, for any images. Its builder takes pixels from 0 to 1.
_RESCALE = Normalization(method="rescale", scale=[1 / 255], offset=[0.0])


def build_pretrained(name: str, *, image_shape: Sequence[int], classes: int) -> keras.Model:
    """Build a network with its weights from ImageNet; its output layer has random weights.

    Args:
        name: a key of `BACKBONES`.
        image_shape: (H, W, C); gray images are images with three equal channels.
        classes: the number of classes.

    Raises:
        PipelineError: the package with the weights is not installed, or the weight file differs
            from its hash in `BACKBONES`, or does not fit the network.
    """
    backbone = BACKBONES[name]
    model = build_model(
        name,
        backbone,
        builder=backbone.builder,
        image_shape=image_shape,
        classes=classes,
        normalization=_RESCALE,
    )
    _load_weights(model, backbone)
    return model


def find_weight_file(backbone: Backbone) -> Path:
    """Return the path of the weight file of a backbone, after a check of its size and SHA-256.

    Raises:
        PipelineError: the package is not installed, or its file is not the declared one.
    """
    found = find_spec(backbone.package)  # without importing the package
    if found is None or found.origin is None:
        raise PipelineError(
            f"{backbone.package}: the package with the pretrained weights is not installed; run"
            " `make setup`"
        )
    path = Path(found.origin).parent / backbone.file
    try:
        content = path.read_bytes()
    except OSError as error:
        raise PipelineError(
            f"{path.as_posix()}: cannot be read: {error.strerror}; run `make setup`"
        ) from None
    digest = hashlib.sha256(content).hexdigest()
    if digest != backbone.sha256:
        raise PipelineError(
            f"{path.as_posix()}: expected {backbone.bytes:,} bytes with SHA-256 {backbone.sha256};"
            f" found {len(content):,} bytes with {digest}; run `make setup`"
        )
    return path


def _load_weights(model: keras.Model, backbone: Backbone) -> None:
    """Give the layers of a backbone their weights from ImageNet."""
    path = find_weight_file(backbone)
    weights = read_weights(path)
    builder = find_builder(backbone.builder)
    for name, kernel, norm in builder.name_weights(backbone):
        layer = model.get_layer(name)
        try:
            layer.set_weights(
                _fold_normalization(layer, weights, kernel, norm, backbone.norm_epsilon)
            )
        except (KeyError, ValueError) as error:
            shapes = [tuple(value.shape) for value in layer.weights]
            raise PipelineError(
                f"{path.as_posix()}: {kernel}: expected the weights of layer {name}, {shapes};"
                f" found others ({str(error).splitlines()[0]}); run `make setup`"
            ) from None


def _fold_normalization(
    layer: keras.layers.Layer,
    weights: Mapping[str, NDArray[Any]],
    kernel: str,
    norm: str,
    epsilon: float,
) -> list[NDArray[np.float32]]:
    """Return kernel and bias of a convolution that includes its batch normalization.

    The kernel in the file is (out, in, h, w); Keras takes (h, w, in, out), for a depthwise
    convolution (h, w, channels, 1), which has `in` = 1 in the file.
    """
    gain = weights[f"{norm}.weight"].astype(np.float64) / np.sqrt(
        weights[f"{norm}.running_var"].astype(np.float64) + epsilon
    )
    bias = weights[f"{norm}.bias"] - weights[f"{norm}.running_mean"] * gain
    scaled = weights[kernel] * gain[:, None, None, None]
    depthwise = isinstance(layer, keras.layers.DepthwiseConv2D)
    order = (2, 3, 0, 1) if depthwise else (2, 3, 1, 0)
    return [scaled.transpose(order).astype(np.float32), bias.astype(np.float32)]
