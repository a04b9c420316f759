"""Some training images as a training step sees them, for a picture."""

from collections.abc import Callable
from typing import Any

import numpy as np

from imgpipe.nn.fitting.training_set import TrainingSet
from imgpipe.records.training_examples import TrainingExamples

_IMAGES, _DRAWS = 6, 4


def draw_examples(
    training_set: TrainingSet, transform: Callable[..., Any] | None
) -> TrainingExamples:
    """Return the first training examples of epoch 1, and random transformations of each.

    `transform` transforms images (N, H, W, C) at random, as training does; None if training does
    not. It has random numbers of its own. So this function does not change the training, and the
    result does not depend on the number of epochs or on a resume.
    """
    images = training_set.take(np.arange(min(_IMAGES, training_set.examples)), epoch=0)
    draws = np.empty(
        (len(images), _DRAWS if transform else 0, *training_set.input_shape), dtype=np.uint8
    )
    if transform:
        for number, image in enumerate(images):  # one image at a time, because images may be large
            draws[number] = transform(np.stack([image] * _DRAWS), training=True)
    return TrainingExamples(images, draws)
