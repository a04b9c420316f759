"""Random transformations by Keras's layers, drawn anew in every step of training."""

from typing import Any

import keras
from keras import layers, ops

from imgpipe.settings.train import Train


def transform_while_training(model: keras.Model, settings: Train) -> keras.Model:
    """Return the model behind the random transformations that `settings` asks for.

    They work in training alone, share the model's weights, and are no part of the model's file.
    The model is given uint8 images, as from the records. Without any, the model itself.
    """
    random_layers = _random_layers(settings)
    if not random_layers:
        return model
    image = keras.Input(model.input_shape[1:], dtype="uint8", name="untransformed")
    # In float32 whatever the precision of the model: half precision cannot hold 0 to 255.
    x = layers.Rescaling(1.0, dtype="float32", name="pixels")(image)
    for layer in random_layers:
        x = layer(x)
    x = ops.cast(ops.round(ops.clip(x, 0, 255)), "uint8")
    return keras.Model(image, model(x), name="training")


def _random_layers(settings: Train) -> list[keras.layers.Layer]:
    turn, shift = settings.random_rotation_deg / 360, settings.random_translation_frac
    zoom, contrast = settings.random_zoom_frac, settings.random_contrast_frac
    chosen: list[tuple[type[keras.layers.Layer], dict[str, Any]]] = []
    # Outside the image its nearest pixel; Keras's default, a reflection, would show parts twice.
    edge = {"fill_mode": "nearest", "interpolation": "bilinear"}
    # Keras's mode "horizontal_and_vertical" always does both at once, or neither.
    chosen += [
        (layers.RandomFlip, {"mode": mode})
        for mode in ("horizontal", "vertical")
        if settings.random_flip in (mode, "both")
    ]
    if turn:
        chosen.append((layers.RandomRotation, {"factor": turn, **edge}))
    if shift:
        chosen.append(
            (layers.RandomTranslation, {"height_factor": shift, "width_factor": shift, **edge})
        )
    if zoom:
        both = (-zoom, zoom)
        chosen.append((layers.RandomZoom, {"height_factor": both, "width_factor": both, **edge}))
    if contrast:
        # A single number would mean from 1 to 1 + contrast.
        factor = (contrast, contrast)
        chosen.append((layers.RandomContrast, {"factor": factor, "value_range": (0, 255)}))
    # A seed of its own for each layer: with a common one, all would draw the same numbers.
    return [
        kind(**arguments, dtype="float32", seed=10 * settings.seed + number)
        for number, (kind, arguments) in enumerate(chosen)
    ]
