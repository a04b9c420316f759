"""Some training images as a training step sees them, stored for the pictures."""

from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from imgpipe.records.npz_file import open_npz


class TrainingExamples(NamedTuple):
    """The first N training examples, and D random transformations of each."""

    images: NDArray[np.uint8]
    """(N, H, W, C), each in the variant that epoch 1 shows."""
    draws: NDArray[np.uint8]
    """(N, D, H, W, C); D is 0 if nothing is transformed at random in training."""


def read_training_examples(path: Path) -> TrainingExamples:
    """Read the examples, which `write_npz` wrote by the names of their fields.

    Raises:
        PipelineError: the file is missing, or is not such an archive.
    """
    with open_npz(path, "training examples", "train") as arrays:
        return TrainingExamples(arrays["images"], arrays["draws"])
