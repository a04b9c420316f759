"""`mlp`: a multilayer perceptron."""

import keras
from keras import layers

from imgpipe.nn.networks.dropout import add_dropout
from imgpipe.settings.networks import Mlp


def build(x: keras.KerasTensor, settings: Mlp) -> keras.KerasTensor:
    """Add dense layers with ReLU, each followed by dropout.

    With `sees: image`, the input of the first layer is the flattened image. With `sees: row`, all
    layers process each row of pixels with the same weights, and the last step flattens the features
    of all rows.
    """
    if settings.sees == "row":
        height, width, channels = x.shape[1:]
        x = layers.Reshape((height, width * channels), name="rows")(x)
    else:
        x = layers.Flatten(name="flatten")(x)
    for number, units in enumerate(settings.units, start=1):
        x = layers.Dense(units, activation="relu", name=f"dense_{number}")(x)
        x = add_dropout(x, settings.dropout_frac, f"dropout_{number}")
    return layers.Flatten(name="flatten")(x) if settings.sees == "row" else x
