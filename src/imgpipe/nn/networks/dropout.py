"""Dropout, which every network has."""

import keras
from keras import layers


def add_dropout(x: keras.KerasTensor, frac: float, name: str) -> keras.KerasTensor:
    """Add a dropout layer; add no layer if the fraction to drop is 0."""
    return layers.Dropout(frac, name=name)(x) if frac > 0 else x
