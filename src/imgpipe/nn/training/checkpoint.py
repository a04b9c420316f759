"""The state of a training after each epoch, so that a later run can resume a stopped training."""

import shutil
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from imgpipe.core.dvc_tmp import delete_unused, entry_path, hash_values
from imgpipe.core.files import replace_file

_KIND = "checkpoints"
_STATE_FILE = "state.npz"


@dataclass(frozen=True)
class TrainingState:
    """Everything that the remaining epochs depend on.

    The state contains no order of the images, which is a function of seed and epoch, and no
    learning rate, which is a function of the optimizer's steps.
    """

    history: list[list[float]]
    """A row for each finished epoch."""
    variables: list[NDArray[Any]]
    """Variables of the model (weights, moving means, random states) and of its optimizer."""
    best_weights: list[NDArray[Any]]
    """Weights of the model after the best epoch."""


class Checkpoint:
    """The file with the state of one training, named by a hash of everything the result depends on.

    Two runs of the same training may use this file at once: both write the same states, and each
    replaces the file as a whole.
    """

    def __init__(
        self, *, sources: Mapping[str, str], parameters: Mapping[str, Any], data: str
    ) -> None:
        """Name the file after the hashes of source files and training set, and the parameters."""
        description = [
            dict(sources),
            parameters,
            data,
            [keras.__version__, tf.__version__, np.__version__],
        ]
        self.digest = hash_values(description)
        self._folder = entry_path(_KIND, description)

    def load(self) -> TrainingState | None:
        """Return the saved state; None if there is none, or if the file is damaged."""
        if self._folder is None:
            return None
        try:
            with (self._folder / _STATE_FILE).open("rb") as stream, np.load(stream) as arrays:
                columns: dict[str, list[NDArray[Any]]] = {"variables": [], "best_weights": []}
                for name in arrays.files[1:]:
                    columns[name.split("-")[0]].append(arrays[name])
                return TrainingState(history=arrays["history"].tolist(), **columns)
        except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):
            return None

    def save(self, state: TrainingState) -> None:
        """Replace the saved state; outside a repository of DVC, save nothing."""
        if self._folder is None:
            return
        arrays: dict[str, NDArray[Any]] = {"history": np.array(state.history)}
        for name in ("variables", "best_weights"):
            values = getattr(state, name)
            arrays |= {f"{name}-{number}": value for number, value in enumerate(values)}
        try:
            _write(self._folder / _STATE_FILE, arrays)
        except FileNotFoundError:
            # Another run of the same training has just ended and deleted the folder.
            _write(self._folder / _STATE_FILE, arrays)

    def delete(self) -> None:
        """Delete this checkpoint, and all checkpoints older than 30 days."""
        if self._folder is not None:
            shutil.rmtree(self._folder, ignore_errors=True)
        delete_unused(_KIND)


def _write(path: Path, arrays: dict[str, NDArray[Any]]) -> None:
    with replace_file(path, shared=True) as partial, partial.open("wb") as stream:
        np.savez(stream, allow_pickle=False, **arrays)
