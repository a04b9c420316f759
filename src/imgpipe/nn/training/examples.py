"""Some training images as a training step sees them, for a picture."""

from pathlib import Path

import numpy as np

from imgpipe.nn.training.augmentation_layers import make_random_transformation
from imgpipe.nn.training.training_set import TrainingSet
from imgpipe.records.training_examples import TrainingExamples, write_training_examples
from imgpipe.settings.train import Train

_IMAGES, _DRAWS = 6, 4


def write_examples(path: Path, training_set: TrainingSet, settings: Train) -> None:
    """Write the first training examples of epoch 1, and random transformations of each.

    This function makes new random layers from the seed of the training. So it does not change the
    training, and the file does not depend on the number of epochs or on a resume.

    Args:
        path: the file.
        training_set: the examples to train on.
        settings: the section `train` of params.yaml.
    """
    images = training_set.take(np.arange(min(_IMAGES, training_set.examples)), epoch=0)
    transform = make_random_transformation(training_set.input_shape, settings)
    draws = np.empty(
        (len(images), _DRAWS if transform else 0, *training_set.input_shape), dtype=np.uint8
    )
    if transform:
        for number, image in enumerate(images):  # one image at a time, because images may be large
            draws[number] = transform(np.stack([image] * _DRAWS), training=True)
    write_training_examples(path, TrainingExamples(images, draws))
