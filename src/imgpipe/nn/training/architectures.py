"""Networks by name, built from their section of `params.yaml`.

Every network takes images as they stand in the records, (N, H, W, C) uint8 in [0, 255]; its first
layer applies the normalisation that `preprocess` has fitted, so that training, evaluation,
prediction and whoever loads the model file do the same. It returns probabilities float32: (N, K)
from a softmax, or, where K = 2, those of the second class alone, (N, 1) from a sigmoid.
"""

from collections.abc import Sequence
from typing import Literal

import keras
from keras import layers

from imgpipe.core.errors import PipelineError
from imgpipe.records.normalization import Normalization
from imgpipe.settings.architectures import Architectures, Cnn, Mlp, Resnet
from imgpipe.settings.params import PARAMS_FILE


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
    try:
        match name:
            case "mlp":
                x = _mlp(x, architectures.mlp)
            case "cnn":
                x = _cnn(x, architectures.cnn)
            case "resnet":
                x = _resnet(x, architectures.resnet)
    except ValueError as error:  # Keras: a size would become negative
        height_px, width_px, _ = image_shape
        raise PipelineError(
            f"{PARAMS_FILE}: architectures.{name}: does not fit images of"
            f" {height_px} x {width_px}: {str(error).splitlines()[0]}"
        ) from None
    x = layers.Dense(1 if classes == 2 else classes, name="logits")(x)
    closing = "sigmoid" if classes == 2 else "softmax"
    # In float32 whatever the precision of the layers before it.
    x = layers.Activation(closing, dtype="float32", name="probabilities")(x)
    return keras.Model(images, x, name=name)


def _per_channel(values: list[float]) -> float | list[float]:
    return values[0] if len(set(values)) == 1 else values


# Every layer has a name of its own: Keras's default names count on through a process, which would
# show in the bytes of the model file.


def _mlp(x: keras.KerasTensor, settings: Mlp) -> keras.KerasTensor:
    """Dense layers with ReLU, dropout after each.

    They see the flattened image, or each row of pixels by itself with the same weights; then what
    they make of the rows is flattened.
    """
    if settings.sees == "row":
        height, width, channels = x.shape[1:]
        x = layers.Reshape((height, width * channels), name="rows")(x)
    else:
        x = layers.Flatten(name="flatten")(x)
    for number, units in enumerate(settings.units, start=1):
        x = layers.Dense(units, activation="relu", name=f"dense_{number}")(x)
        x = _dropout(x, settings.dropout_frac, f"dropout_{number}")
    return layers.Flatten(name="flatten")(x) if settings.sees == "row" else x


def _cnn(x: keras.KerasTensor, settings: Cnn) -> keras.KerasTensor:
    """Convolutions with ReLU and pooling, dropout, then dense layers with dropout after each.

    Maximum and minimum come before batch normalisation and ReLU: ReLU after them gives the same
    as before, and both then touch a quarter of the values. An average has to come after.
    """
    pooled = zip(settings.filters, settings.pool_px, strict=True)
    for number, (filters, pool_px) in enumerate(pooled, start=1):
        x = layers.Conv2D(
            filters,
            settings.kernel_px,
            padding=settings.padding,
            use_bias=not settings.batch_norm,
            name=f"conv_{number}",
        )(x)
        if pool_px > 1 and settings.pool != "average":
            x = _extreme(x, settings.pool, pool_px, f"pool_{number}")
        if settings.batch_norm:
            x = layers.BatchNormalization(name=f"norm_{number}")(x)
        x = layers.ReLU(name=f"relu_{number}")(x)
        if pool_px > 1 and settings.pool == "average":
            x = layers.AveragePooling2D(pool_px, name=f"pool_{number}")(x)
    match settings.global_pool:
        case "average":
            x = layers.GlobalAveragePooling2D(name="global_pool")(x)
        case "max":
            x = layers.GlobalMaxPooling2D(name="global_pool")(x)
        case "none":
            x = layers.Flatten(name="flatten")(x)
    x = _dropout(x, settings.conv_dropout_frac, "conv_dropout")
    for number, units in enumerate(settings.dense_units, start=1):
        x = layers.Dense(units, activation="relu", name=f"dense_{number}")(x)
        x = _dropout(x, settings.dense_dropout_frac, f"dense_dropout_{number}")
    return x


def _extreme(
    x: keras.KerasTensor, pool: Literal["max", "min"], pool_px: int, name: str
) -> keras.KerasTensor:
    """Max pooling; or min pooling, which Keras lacks: the maximum of the negative, negative."""
    if pool == "max":
        return layers.MaxPooling2D(pool_px, name=name)(x)
    x = layers.Rescaling(-1.0, name=f"{name}_negative")(x)
    x = layers.MaxPooling2D(pool_px, name=name)(x)
    return layers.Rescaling(-1.0, name=f"{name}_positive")(x)


def _resnet(x: keras.KerasTensor, settings: Resnet) -> keras.KerasTensor:
    """A small residual net: stages of two-convolution blocks, then global average pooling.

    Source: He, Zhang, Ren and Sun (2015), arXiv:1512.03385, section 4.2, with a 1 x 1 convolution
    on the shortcut where size or width changes (their option B).
    """
    x = _convolution(x, settings.filters[0], "stem")
    x = layers.ReLU(name="stem_relu")(x)
    for stage, filters in enumerate(settings.filters, start=1):
        for block in range(1, settings.blocks_per_stage + 1):
            name = f"stage_{stage}_block_{block}"
            stride = 2 if stage > 1 and block == 1 else 1
            shortcut = x
            if stride > 1 or shortcut.shape[-1] != filters:
                shortcut = _convolution(
                    shortcut, filters, f"{name}_shortcut", stride=stride, kernel_px=1
                )
            x = _convolution(x, filters, f"{name}_first", stride=stride)
            x = layers.ReLU(name=f"{name}_inner_relu")(x)
            x = _convolution(x, filters, f"{name}_second")
            x = layers.Add(name=f"{name}_add")([x, shortcut])
            x = layers.ReLU(name=f"{name}_relu")(x)
    x = layers.GlobalAveragePooling2D(name="average")(x)
    return _dropout(x, settings.dropout_frac, "dropout")


def _convolution(
    x: keras.KerasTensor, filters: int, name: str, *, stride: int = 1, kernel_px: int = 3
) -> keras.KerasTensor:
    x = layers.Conv2D(
        filters, kernel_px, strides=stride, padding="same", use_bias=False, name=f"{name}_conv"
    )(x)
    return layers.BatchNormalization(name=f"{name}_norm")(x)


def _dropout(x: keras.KerasTensor, frac: float, name: str) -> keras.KerasTensor:
    return layers.Dropout(frac, name=name)(x) if frac > 0 else x
