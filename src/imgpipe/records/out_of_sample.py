"""Probabilities of images by networks that were not fitted to them, from `train` to `evaluate`."""

from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from imgpipe.records.npz_file import open_npz


class OutOfSample(NamedTuple):
    """Probabilities that are honest about labels, because the labels were not used to fit them."""

    training_numbers: NDArray[np.int64]
    """(M,), indices in the training split; none if no cross-validation was run."""
    training: NDArray[np.float32]
    """(M, K), probabilities of these images by the other folds of a cross-validation."""
    validation: NDArray[np.float32]
    """(N, K), probabilities of the validation split by the network."""


def read_out_of_sample(path: Path) -> OutOfSample:
    """Read the probabilities, which `write_npz` wrote by the names of their fields.

    Raises:
        PipelineError: the file is missing, or is not such an archive.
    """
    with open_npz(path, "out-of-sample probabilities", "train") as arrays:
        return OutOfSample(*(arrays[name] for name in OutOfSample._fields))
