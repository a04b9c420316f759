"""EfficientNet-Lite, whose weights were trained on ImageNet; none of these layers is trained.

Sources: Tan and Le (2019), arXiv:1905.11946; Sandler et al. (2018), MobileNetV2, arXiv:1801.04381,
for the inverted residual block. EfficientNet-Lite has ReLU6, and no squeeze-and-excitation.
"""

from collections.abc import Iterator
from typing import NamedTuple

import keras
from keras import layers

from imgpipe.settings.backbones import Backbone

_STEM_CHANNELS = 32
_FEATURES = 1280
_LARGEST_PIXEL = 255.0
# Of each stage: side of the kernel, stride of the first block, expansion.
_STAGES = ((3, 1, 1), (3, 2, 6), (5, 2, 6), (3, 2, 6), (5, 1, 6), (5, 2, 6), (3, 1, 6))


class Block(NamedTuple):
    """An inverted residual block: 1 x 1 expansion, depthwise convolution, 1 x 1 projection."""

    kernel_px: int
    stride: int
    expansion: int
    channels: int
    """Of the output."""


def build(x: keras.KerasTensor, backbone: Backbone) -> keras.KerasTensor:
    """Add the convolutions of a backbone and global average pooling; return (N, 1280) features.

    The images are rescaled to [0, 1]; a gray image becomes a color image of three equal channels.
    The convolutions include batch normalization, which has fixed statistics: one factor and one
    offset for each channel.
    """
    x = layers.Rescaling(
        _LARGEST_PIXEL / backbone.scale,
        offset=-backbone.mean / backbone.scale,
        name="backbone_input",
    )(x)
    if x.shape[-1] == 1:
        x = layers.Concatenate(name="color")([x, x, x])
    x = _add_convolution(x, _STEM_CHANNELS, "stem", kernel_px=3, stride=2)
    for number, block in enumerate(list_blocks(backbone), start=1):
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
    x = _add_convolution(x, _FEATURES, "top")
    return layers.GlobalAveragePooling2D(name="features")(x)


def name_weights(backbone: Backbone) -> Iterator[tuple[str, str, str]]:
    """Yield, for each convolution, its layer, and two names in the weight file.

    The names are of the kernel, and the prefix of the values of its batch normalization.
    """
    yield "stem", "_conv_stem.weight", "_bn0"
    for number, block in enumerate(list_blocks(backbone)):
        name, prefix = f"block_{number + 1:02d}", f"_blocks.{number}"
        if block.expansion > 1:
            yield f"{name}_expand", f"{prefix}._expand_conv.weight", f"{prefix}._bn0"
        yield f"{name}_depthwise", f"{prefix}._depthwise_conv.weight", f"{prefix}._bn1"
        yield f"{name}_project", f"{prefix}._project_conv.weight", f"{prefix}._bn2"
    yield "top", "_conv_head.weight", "_bn1"


def list_blocks(backbone: Backbone) -> Iterator[Block]:
    """Yield the blocks in their order; only the first block of a stage has a stride."""
    structure = backbone.structure
    stages = zip(structure["repeats"], structure["channels"], _STAGES, strict=True)
    for repeats, channels, (kernel_px, stride, expansion) in stages:
        for number in range(repeats):
            yield Block(kernel_px, stride if number == 0 else 1, expansion, channels)


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
