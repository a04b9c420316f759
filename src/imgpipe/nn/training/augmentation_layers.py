"""Random transformations by layers of Keras, drawn again in every step of training."""

from typing import Any

import keras
from keras import layers, ops

from imgpipe.settings.training import Training


def add_random_layers(model: keras.Model, settings: Training) -> keras.Model:
    """Return a model that transforms images at random, then applies `model`.

    The transformations are active only in training. The returned model takes uint8 images like the
    images of the records, and shares the weights of `model`; the model file holds only `model`. If
    `settings` have no transformation, return `model`.
    """
    transformation = make_random_transformation(model.input_shape[1:], settings)
    if transformation is None:
        return model
    return keras.Model(transformation.input, model(transformation.output), name="training")


def make_random_transformation(
    image_shape: tuple[int, ...], settings: Training
) -> keras.Model | None:
    """Return a model from uint8 images to transformed images; None without any transformation.

    Each returned model has its own random numbers, which start from the seed.
    """
    random_layers = _make_random_layers(settings)
    if not random_layers:
        return None
    image = keras.Input(image_shape, dtype="uint8", name="untransformed")
    # float32 for every `training.precision`: half precision would round interpolated values.
    x = layers.Rescaling(1.0, dtype="float32", name="pixels")(image)
    for layer in random_layers:
        x = layer(x)
    return keras.Model(image, ops.cast(ops.round(ops.clip(x, 0, 255)), "uint8"))


def _make_random_layers(settings: Training) -> list[keras.layers.Layer]:
    made: list[keras.layers.Layer] = []

    def add(kind: type[keras.layers.Layer], **arguments: Any) -> None:
        # Each layer has its own seed: with one seed, all layers would draw the same numbers.
        made.append(kind(**arguments, dtype="float32", seed=10 * settings.seed + len(made)))

    # Keras's mode "horizontal_and_vertical" always does both, or neither.
    for mode in ("horizontal", "vertical"):
        if settings.random_flip in (mode, "both"):
            add(layers.RandomFlip, mode=mode)
    # The nearest pixel fills points outside the image; Keras's default, a reflection, would show
    # parts of the image twice.
    edge = {"fill_mode": "nearest", "interpolation": "bilinear"}
    if turn_deg := settings.random_rotation_deg:
        add(layers.RandomRotation, factor=turn_deg / 360, **edge)
    if shift := settings.random_translation_frac:
        add(layers.RandomTranslation, height_factor=shift, width_factor=shift, **edge)
    if zoom := settings.random_zoom_frac:
        add(layers.RandomZoom, height_factor=(-zoom, zoom), width_factor=(-zoom, zoom), **edge)
    if contrast := settings.random_contrast_frac:
        # For a single number, Keras draws factors from 1 to 1 + contrast.
        add(layers.RandomContrast, factor=(contrast, contrast), value_range=(0, 255))
    return made
