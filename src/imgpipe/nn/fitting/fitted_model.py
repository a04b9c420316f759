"""What each method of `train` returns, and its calibration."""

from collections.abc import Callable
from dataclasses import dataclass, replace

import keras
import numpy as np
from numpy.typing import NDArray

from imgpipe.console.messages import report
from imgpipe.nn.common.logits import add_temperature
from imgpipe.nn.fitting.history import History
from imgpipe.nn.fitting.temperature import fit_temperature, to_probabilities
from imgpipe.records.out_of_sample import OutOfSample


@dataclass(frozen=True)
class FittedModel:
    """A network with its final weights."""

    model: keras.Model
    history: History
    validation_logits: NDArray[np.floating]
    """(N, K), of the validation images; a number may be added to all logits of an image."""
    out_of_fold: NDArray[np.float32] | None = None
    """(M, K), probabilities of the training examples, by networks that were fitted to others."""
    temperature: float = 1.0
    """The network divides its logits by this number."""
    random_transformation: keras.Model | None = None
    """Transforms images at random, as the training did; None if it did not."""
    is_chief: bool = True
    """Whether this process writes files; another worker of TF_CONFIG does not."""
    finish: Callable[[], None] | None = None
    """To call after the outputs are written and checked."""


def calibrate(fitted: FittedModel, labels: NDArray[np.int64]) -> FittedModel:
    """Fit a temperature to the validation images, and give it to the network if it helps.

    The labels (N,) are the ones of the validation images.
    """
    scaling = fit_temperature(fitted.validation_logits, labels)
    report(f"train: {scaling}")
    if scaling.temperature == 1:
        return fitted
    model = add_temperature(fitted.model, scaling.temperature)
    return replace(fitted, model=model, temperature=scaling.temperature)


def collect_out_of_sample(fitted: FittedModel, sample: NDArray[np.int64]) -> OutOfSample:
    """Return what networks that were not fitted to an image say about it.

    The sample (M,) has the index of the image of each training example.
    """
    numbers, first = np.unique(sample, return_index=True)
    validation = to_probabilities(fitted.validation_logits / fitted.temperature)
    if fitted.out_of_fold is None:
        numbers, training = numbers[:0], validation[:0]
    else:
        training = fitted.out_of_fold[first]
    return OutOfSample(numbers, training, validation)
