"""`resnet`: a small residual network."""

import keras
from keras import layers

from imgpipe.nn.networks.dropout import add_dropout
from imgpipe.settings.networks import Resnet


def build(x: keras.KerasTensor, settings: Resnet) -> keras.KerasTensor:
    """Add stages of residual blocks of two convolutions, global average pooling, and dropout.

    Source: He, Zhang, Ren and Sun (2015), arXiv:1512.03385, section 4.2, with a 1 x 1 convolution
    on the shortcut if the size or the number of channels changes (their option B).
    """
    x = _add_convolution(x, settings.filters[0], "stem")
    x = layers.ReLU(name="stem_relu")(x)
    for stage, filters in enumerate(settings.filters, start=1):
        for block in range(1, settings.blocks_per_stage + 1):
            stride = 2 if stage > 1 and block == 1 else 1
            x = _add_block(x, filters, stride, f"stage_{stage}_block_{block}")
    x = layers.GlobalAveragePooling2D(name="average")(x)
    return add_dropout(x, settings.dropout_frac, "dropout")


def _add_block(x: keras.KerasTensor, filters: int, stride: int, name: str) -> keras.KerasTensor:
    shortcut = x
    if stride > 1 or shortcut.shape[-1] != filters:
        shortcut = _add_convolution(
            shortcut, filters, f"{name}_shortcut", stride=stride, kernel_px=1
        )
    x = _add_convolution(x, filters, f"{name}_first", stride=stride)
    x = layers.ReLU(name=f"{name}_inner_relu")(x)
    x = _add_convolution(x, filters, f"{name}_second")
    x = layers.Add(name=f"{name}_add")([x, shortcut])
    return layers.ReLU(name=f"{name}_relu")(x)


def _add_convolution(
    x: keras.KerasTensor, filters: int, name: str, *, stride: int = 1, kernel_px: int = 3
) -> keras.KerasTensor:
    """Add a convolution without bias, and batch normalization."""
    x = layers.Conv2D(
        filters, kernel_px, strides=stride, padding="same", use_bias=False, name=f"{name}_conv"
    )(x)
    return layers.BatchNormalization(name=f"{name}_norm")(x)
