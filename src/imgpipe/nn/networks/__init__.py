"""Networks by name, built from their settings.

To add a network, write its settings in `imgpipe/settings/networks.py`, and a function `build` in a
module of this package that has the name of the network.

`build` takes the normalized images, (N, H, W, C) float, and returns features, (N, F): everything
between the normalization layer and the output layer, which all networks share. It gives every layer
a name: Keras's default names contain a counter of the whole process, which would change the bytes
of the model file.

The modules are imported by their names, when a network is built: so the features of a pretrained
network do not depend on the code of the other networks.
"""

from collections.abc import Sequence
from importlib import import_module
from typing import Any

import keras
from keras import layers

from imgpipe.core.errors import PipelineError
from imgpipe.records.normalization import Normalization
from imgpipe.settings.params import PARAMS_FILE

INPUT_NAME = "pixels_0_to_255"


def build_model(
    name: str,
    settings: Any,
    *,
    image_shape: Sequence[int],
    classes: int,
    normalization: Normalization,
    builder: str | None = None,
) -> keras.Model:
    """Build a network.

    The input is images as in the records, (N, H, W, C) in [0, 255]. Keras turns uint8 into the
    float32 of the input. An input of uint8 would cut values from 0 to 1, which other networks take,
    to black. The first layer applies a normalization, so a program that loads the model needs no
    other. The output is probabilities, (N, K) float32 from a softmax.

    Args:
        name: of the network.
        settings: what the builder takes: the section `networks.<name>` of params.yaml, or the
            description of a backbone.
        image_shape: (H, W, C).
        classes: the number of classes, K.
        normalization: scale and offset, which the first layer applies.
        builder: the module of this package that builds the network, if it has another name.

    Raises:
        PipelineError: the settings do not fit the size of the images.
    """
    images = keras.Input(tuple(image_shape), dtype="float32", name=INPUT_NAME)
    x = layers.Rescaling(
        scale=_per_channel(normalization.scale),
        offset=_per_channel(normalization.offset),
        name="normalization",
    )(images)
    try:
        x = find_builder(builder or name).build(x, settings)
    except ValueError as error:  # Keras: a size would become negative
        height_px, width_px, _ = image_shape
        raise PipelineError(
            f"{PARAMS_FILE}: networks.{name}: does not fit images of"
            f" {height_px} x {width_px}: {str(error).splitlines()[0]}"
        ) from None
    return keras.Model(images, _add_output(x, classes), name=name)


def find_builder(name: str) -> Any:
    """Return a module of this package: it has `build` and, for a backbone, `name_weights`."""
    return import_module(f"{__name__}.{name}")


def _add_output(features: keras.KerasTensor, classes: int) -> keras.KerasTensor:
    """Add a linear layer and a softmax; for two classes, the linear layer has one unit.

    The softmax of (-x/2, x/2) is (1 - sigmoid(x), sigmoid(x)): one unit with a sigmoid, as in the
    textbooks, and one probability for each class. Neither of them is a difference, so small ones
    have all their digits. The last layer is not a sigmoid of (-x, x), because Keras computes the
    cross-entropy of classes from the input of that layer, as if it were the input of a softmax.
    """
    x = layers.Dense(1 if classes == 2 else classes, name="logits")(features)
    if classes == 2:
        first = layers.Rescaling(-0.5, name="first_class")(x)
        second = layers.Rescaling(0.5, name="second_class")(x)
        x = layers.Concatenate(name="both_classes")([first, second])
    # Probabilities are float32, also if the layers before this one have half precision.
    return layers.Activation("softmax", dtype="float32", name="probabilities")(x)


def _per_channel(values: list[float]) -> float | list[float]:
    return values[0] if len(set(values)) == 1 else values
