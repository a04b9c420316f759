"""Some training images as a training step sees them, stored for the pictures."""

from dataclasses import dataclass
from pathlib import Path
from zipfile import BadZipFile

import numpy as np
from numpy.typing import NDArray

from imgpipe.core.errors import PipelineError
from imgpipe.core.files import replace_file


@dataclass(frozen=True)
class TrainingExamples:
    """The first N training examples, and D random transformations of each."""

    images: NDArray[np.uint8]
    """(N, H, W, C), each in the variant that epoch 1 shows."""
    draws: NDArray[np.uint8]
    """(N, D, H, W, C); D is 0 if nothing is transformed at random in training."""


def write_training_examples(path: Path, examples: TrainingExamples) -> None:
    """Write the examples as an npz archive; equal examples give equal bytes."""
    with replace_file(path) as partial, partial.open("wb") as stream:
        np.savez_compressed(stream, images=examples.images, draws=examples.draws)


def read_training_examples(path: Path) -> TrainingExamples:
    """Read the archive that `write_training_examples` wrote.

    Raises:
        PipelineError: the file is missing, or is not such an archive.
    """
    try:
        with path.open("rb") as stream, np.load(stream) as arrays:  # closed on an error, too
            return TrainingExamples(arrays["images"], arrays["draws"])
    except FileNotFoundError:
        raise PipelineError(f"{path.as_posix()}: not found; `dvc repro` writes it") from None
    except (ValueError, KeyError, OSError, EOFError, BadZipFile):
        raise PipelineError(
            f"{path.as_posix()}: expected an npz archive of training examples; found another file,"
            " or a part; run `dvc repro train`"
        ) from None
