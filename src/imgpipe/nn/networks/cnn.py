"""`cnn`: a convolutional network."""

from typing import Literal

import keras
from keras import layers

from imgpipe.nn.networks.dropout import add_dropout
from imgpipe.settings.networks import Cnn


def build(x: keras.KerasTensor, settings: Cnn) -> keras.KerasTensor:
    """Add convolutions with ReLU and pooling, dropout, then dense layers, each with dropout.

    Max and min pooling come before batch normalization and ReLU: ReLU after the pooling gives the
    same result as before it, and both then process a quarter of the values. Average pooling has to
    come after ReLU.
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
            x = _pool_extremes(x, settings.pool, pool_px, f"pool_{number}")
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
    x = add_dropout(x, settings.conv_dropout_frac, "conv_dropout")
    for number, units in enumerate(settings.dense_units, start=1):
        x = layers.Dense(units, activation="relu", name=f"dense_{number}")(x)
        x = add_dropout(x, settings.dense_dropout_frac, f"dense_dropout_{number}")
    return x


def _pool_extremes(
    x: keras.KerasTensor, pool: Literal["max", "min"], pool_px: int, name: str
) -> keras.KerasTensor:
    """Add max pooling; or min pooling, which Keras lacks, as max pooling of the negated values."""
    if pool == "max":
        return layers.MaxPooling2D(pool_px, name=name)(x)
    x = layers.Rescaling(-1.0, name=f"{name}_negative")(x)
    x = layers.MaxPooling2D(pool_px, name=name)(x)
    return layers.Rescaling(-1.0, name=f"{name}_positive")(x)
