"""What each method of `train` returns."""

from collections.abc import Callable
from dataclasses import dataclass

import keras

from imgpipe.nn.fitting.history import History


@dataclass(frozen=True)
class FittedModel:
    """A network with its final weights."""

    model: keras.Model
    history: History
    random_transformation: keras.Model | None = None
    """Transforms images at random, as the training did; None if it did not."""
    is_chief: bool = True
    """Whether this process writes files; another worker of TF_CONFIG does not."""
    finish: Callable[[], None] | None = None
    """To call after the outputs are written and checked."""
