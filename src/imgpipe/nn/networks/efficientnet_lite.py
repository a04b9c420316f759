"""`pretrained`: a network whose weights were trained on ImageNet; only its last layer is trained.

Sources: Tan and Le (2019), arXiv:1905.11946; Sandler et al. (2018), MobileNetV2, arXiv:1801.04381,
for the inverted residual block. EfficientNet-Lite has ReLU6, and no squeeze-and-excitation.
"""

import hashlib
from collections.abc import Iterator, Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import keras
import numpy as np
from keras import layers
from numpy.typing import NDArray

from imgpipe.core.errors import PipelineError
from imgpipe.nn.transfer.torch_file import read_weights
from imgpipe.settings.architectures import Pretrained
from imgpipe.settings.backbones import (
    BACKBONES,
    FEATURES,
    INPUT_MEAN,
    INPUT_SCALE,
    STEM_CHANNELS,
    Backbone,
)

FEATURES_LAYER = "features"
_NORM_EPSILON = 1e-3
_LARGEST_PIXEL = 255.0


def build_pretrained(x: keras.KerasTensor, settings: Pretrained) -> keras.KerasTensor:
    """Add the convolutions of a backbone and global average pooling; return (N, 1280) features.

    The images are color images, rescaled to [0, 1]. The convolutions include batch normalization,
    which has fixed statistics: one factor and one offset for each channel. All these layers are
    frozen; `load_backbone_weights` sets their weights.
    """
    x = layers.Rescaling(
        _LARGEST_PIXEL / INPUT_SCALE, offset=-INPUT_MEAN / INPUT_SCALE, name="backbone_input"
    )(x)
    x = _add_convolution(x, STEM_CHANNELS, "stem", kernel_px=3, stride=2)
    for number, block in enumerate(BACKBONES[settings.backbone].blocks(), start=1):
        name, shortcut = f"block_{number:02d}", x
        if block.expansion > 1:
            x = _add_convolution(x, x.shape[-1] * block.expansion, f"{name}_expand")
        x = layers.DepthwiseConv2D(
            block.kernel_px,
            strides=block.stride,
            padding="same",
            depthwise_initializer="zeros",
            trainable=False,
            name=f"{name}_depthwise",
        )(x)
        x = layers.ReLU(6.0, name=f"{name}_depthwise_relu")(x)
        x = _add_convolution(x, block.channels, f"{name}_project", relu=False)
        if block.stride == 1 and shortcut.shape[-1] == block.channels:
            x = layers.Add(name=f"{name}_add")([shortcut, x])
    x = _add_convolution(x, FEATURES, "top")
    return layers.GlobalAveragePooling2D(name=FEATURES_LAYER)(x)


def _add_convolution(
    x: keras.KerasTensor,
    filters: int,
    name: str,
    *,
    kernel_px: int = 1,
    stride: int = 1,
    relu: bool = True,
) -> keras.KerasTensor:
    """Add a convolution with bias and, unless `relu` is false, ReLU6."""
    x = layers.Conv2D(
        filters,
        kernel_px,
        strides=stride,
        padding="same",
        kernel_initializer="zeros",
        trainable=False,
        name=name,
    )(x)
    return layers.ReLU(6.0, name=f"{name}_relu")(x) if relu else x


def load_backbone_weights(model: keras.Model, name: str) -> None:
    """Give the layers of `build_pretrained` their weights from ImageNet.

    Args:
        model: a network that `build_pretrained` built.
        name: a key of `BACKBONES`.

    Raises:
        PipelineError: the package with the weights is not installed, or the weight file differs
            from its hash in `BACKBONES`, or does not fit the network.
    """
    backbone = BACKBONES[name]
    path = find_weight_file(backbone)
    weights = read_weights(path)
    for layer, kernel, norm in _weight_names(backbone):
        try:
            folded = _fold_normalization(weights, kernel, norm)
            model.get_layer(layer).set_weights(folded)
        except (KeyError, ValueError) as error:
            shapes = [tuple(value.shape) for value in model.get_layer(layer).weights]
            raise PipelineError(
                f"{path.as_posix()}: {kernel}: expected the weights of layer {layer}, {shapes};"
                f" found others ({str(error).splitlines()[0]}); run `make setup`"
            ) from None


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


def _weight_names(backbone: Backbone) -> Iterator[tuple[str, str, str]]:
    """Yield layer name, kernel name and prefix of the batch normalization of each convolution."""
    yield "stem", "_conv_stem.weight", "_bn0"
    for number, block in enumerate(backbone.blocks()):
        name, prefix = f"block_{number + 1:02d}", f"_blocks.{number}"
        if block.expansion > 1:
            yield f"{name}_expand", f"{prefix}._expand_conv.weight", f"{prefix}._bn0"
        yield f"{name}_depthwise", f"{prefix}._depthwise_conv.weight", f"{prefix}._bn1"
        yield f"{name}_project", f"{prefix}._project_conv.weight", f"{prefix}._bn2"
    yield "top", "_conv_head.weight", "_bn1"


def _fold_normalization(
    weights: Mapping[str, NDArray[Any]], kernel: str, norm: str
) -> list[NDArray[np.float32]]:
    """Return kernel and bias of a convolution that includes its batch normalization.

    The kernel in the file is (out, in, h, w); Keras takes (h, w, in, out), for a depthwise
    convolution (h, w, channels, 1), which has `in` = 1 in the file.
    """
    gain = weights[f"{norm}.weight"].astype(np.float64) / np.sqrt(
        weights[f"{norm}.running_var"].astype(np.float64) + _NORM_EPSILON
    )
    bias = weights[f"{norm}.bias"] - weights[f"{norm}.running_mean"] * gain
    scaled = weights[kernel] * gain[:, None, None, None]
    depthwise = kernel.endswith("_depthwise_conv.weight")
    order = (2, 3, 0, 1) if depthwise else (2, 3, 1, 0)
    return [scaled.transpose(order).astype(np.float32), bias.astype(np.float32)]
