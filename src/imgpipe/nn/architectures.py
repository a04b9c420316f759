"""Networks by name, built from their section of `params.yaml`.

Every network takes images as they stand in the records, (N, H, W, C) uint8 in [0, 255]; its first
layer applies the normalisation that `preprocess` has fitted, so that training, evaluation,
prediction and whoever loads the model file do the same. It returns probabilities (N, K) float32.
"""

from collections.abc import Sequence

import keras
from keras import layers

from imgpipe.normalization import Normalization
from imgpipe.params import Architectures, Cnn, Mlp, Resnet


def build_model(
    name: str,
    architectures: Architectures,
    *,
    image_shape: Sequence[int],
    classes: int,
    normalization: Normalization,
) -> keras.Model:
    """Build the network `name`.

    Raises:
        PipelineError: its settings do not fit the size of the images.
    """
    images = keras.Input(tuple(image_shape), dtype="uint8", name="images")
    x = layers.Rescaling(
        scale=_per_channel(normalization.scale),
        offset=_per_channel(normalization.offset),
        name="normalization",
    )(images)
    match name:
        case "mlp":
            x = _mlp(x, architectures.mlp)
        case "cnn":
            x = _cnn(x, architectures.cnn)
        case "resnet":
            x = _resnet(x, architectures.resnet)
        case _:
            raise ValueError(f"unknown architecture {name!r}")
    x = layers.Dense(classes, name="logits")(x)
    # In float32 whatever the precision of the layers before it.
    x = layers.Activation("softmax", dtype="float32", name="probabilities")(x)
    return keras.Model(images, x, name=name)


def _per_channel(values: list[float]) -> float | list[float]:
    return values[0] if len(set(values)) == 1 else values


def _mlp(x: keras.KerasTensor, settings: Mlp) -> keras.KerasTensor:
    """Dense layers with ReLU on the flattened image, dropout after each."""
    x = layers.Flatten()(x)
    for units in settings.units:
        x = layers.Dense(units, activation="relu")(x)
        x = _dropout(x, settings.dropout_frac)
    return x


def _cnn(x: keras.KerasTensor, settings: Cnn) -> keras.KerasTensor:
    """Convolutions with ReLU and max pooling, then dense layers with dropout before each.

    Pooling comes before batch normalisation and ReLU: ReLU after a maximum gives the same as
    before it, and both then touch a quarter of the values.
    """
    for filters, pool_px in zip(settings.filters, settings.pool_px, strict=True):
        x = layers.Conv2D(
            filters,
            settings.kernel_px,
            padding=settings.padding,
            use_bias=not settings.batch_norm,
        )(x)
        if pool_px > 1:
            x = layers.MaxPooling2D(pool_px)(x)
        if settings.batch_norm:
            x = layers.BatchNormalization()(x)
        x = layers.ReLU()(x)
    x = layers.Flatten()(x)
    for units in settings.dense_units:
        x = _dropout(x, settings.dropout_frac)
        x = layers.Dense(units, activation="relu")(x)
    return _dropout(x, settings.dropout_frac)


def _resnet(x: keras.KerasTensor, settings: Resnet) -> keras.KerasTensor:
    """A small residual net: stages of two-convolution blocks, then global average pooling.

    Source: He, Zhang, Ren and Sun (2015), arXiv:1512.03385, section 4.2, with a 1 x 1 convolution
    on the shortcut where size or width changes (their option B).
    """
    x = _convolution(x, settings.filters[0], stride=1)
    x = layers.ReLU()(x)
    for stage, filters in enumerate(settings.filters):
        for block in range(settings.blocks_per_stage):
            stride = 2 if stage > 0 and block == 0 else 1
            shortcut = x
            if stride > 1 or shortcut.shape[-1] != filters:
                shortcut = _convolution(shortcut, filters, stride=stride, kernel_px=1)
            x = _convolution(x, filters, stride=stride)
            x = layers.ReLU()(x)
            x = _convolution(x, filters, stride=1)
            x = layers.Add()([x, shortcut])
            x = layers.ReLU()(x)
    x = layers.GlobalAveragePooling2D()(x)
    return _dropout(x, settings.dropout_frac)


def _convolution(
    x: keras.KerasTensor, filters: int, *, stride: int, kernel_px: int = 3
) -> keras.KerasTensor:
    x = layers.Conv2D(filters, kernel_px, strides=stride, padding="same", use_bias=False)(x)
    return layers.BatchNormalization()(x)


def _dropout(x: keras.KerasTensor, frac: float) -> keras.KerasTensor:
    return layers.Dropout(frac)(x) if frac > 0 else x
