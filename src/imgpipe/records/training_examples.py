"""Some training images as a training step sees them, stored for the pictures."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from imgpipe.records.npz_file import open_npz, write_npz


@dataclass(frozen=True)
class TrainingExamples:
    """The first N training examples, and D random transformations of each."""

    images: NDArray[np.uint8]
    """(N, H, W, C), each in the variant that epoch 1 shows."""
    draws: NDArray[np.uint8]
    """(N, D, H, W, C); D is 0 if nothing is transformed at random in training."""


def write_training_examples(path: Path, examples: TrainingExamples) -> None:
    """Write the examples as an npz archive; equal examples give equal bytes."""
    write_npz(path, {"images": examples.images, "draws": examples.draws})


def read_training_examples(path: Path) -> TrainingExamples:
    """Read the archive that `write_training_examples` wrote.

    Raises:
        PipelineError: the file is missing, or is not such an archive.
    """
    with open_npz(path, "training examples", "train") as arrays:
        return TrainingExamples(arrays["images"], arrays["draws"])
