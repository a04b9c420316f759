"""What a training that was stopped has reached, so that a later run of the same one goes on.

It is kept outside the outputs of the stage, because DVC removes those before it runs a stage, and
in the repository itself also where DVC runs in a temporary copy of it, because that copy is deleted
with the run.
"""

import hashlib
import json
import os
import shutil
import time
import zipfile
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from imgpipe.core.files import PARTIAL_SUFFIX

_FOLDER = Path(".dvc/tmp/imgpipe")
_KEPT_DAYS = 30
_STATE_FILE = "state.npz"


@dataclass(frozen=True)
class TrainingState:
    """All that the epochs still to come depend on.

    The order of the images is a function of seed and epoch alone, and the learning rate one of the
    optimiser's steps, so neither is part of it.
    """

    history: list[list[float]]
    """A row for each epoch that was finished."""
    variables: list[NDArray[Any]]
    """Of the model (weights, moving means, states of random generators) and of its optimiser."""
    best_weights: list[NDArray[Any]]


def collect_variables(model: keras.Model) -> list[Any]:
    """Return every variable of a compiled model that an epoch leaves changed.

    Builds its optimiser, as the first step would.
    """
    model.optimizer.build(model.trainable_variables)
    return [*model.variables, *model.optimizer.variables]


class Checkpoint:
    """The place of one training, which is known by everything that its result depends on.

    Two runs of the same training may use it at once: they write the same, and whole files.
    """

    def __init__(self, description: Any) -> None:
        """Find the place.

        Args:
            description: parameters, code and data, in a form that JSON can express; versions of
                the libraries are added.
        """
        versions = [keras.__version__, tf.__version__, np.__version__]
        known_by = json.dumps([description, versions], sort_keys=True)
        digest = hashlib.sha256(known_by.encode())
        top = Path(os.environ.get("DVC_ROOT", "."))
        self._kept = (top / ".dvc").is_dir()  # outside a repository nothing is left behind
        self._folder = top / _FOLDER / digest.hexdigest()[:32]

    def load(self) -> TrainingState | None:
        """Return what was reached, or None where there is nothing, or nothing whole."""
        try:
            with (self._folder / _STATE_FILE).open("rb") as stream, np.load(stream) as arrays:
                columns: dict[str, list[NDArray[Any]]] = {"variables": [], "best_weights": []}
                for name in arrays.files[1:]:
                    columns[name.split("-")[0]].append(arrays[name])
                return TrainingState(history=json.loads(str(arrays["history"])), **columns)
        except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):
            return None

    def keep(self, reached: TrainingState) -> None:
        """Keep what was reached, in the place of what was kept before."""
        if not self._kept:
            return
        arrays: dict[str, NDArray[Any]] = {"history": np.array(json.dumps(reached.history))}
        for name in ("variables", "best_weights"):
            values = getattr(reached, name)
            arrays |= {f"{name}-{number}": value for number, value in enumerate(values)}
        try:
            self._write(arrays)
        except FileNotFoundError:
            # Another run of the same training has ended at this moment and removed the folder.
            self._write(arrays)

    def _write(self, arrays: dict[str, NDArray[Any]]) -> None:
        self._folder.mkdir(parents=True, exist_ok=True)
        # The number of the process keeps two runs from writing the same file.
        partial = self._folder / f"{os.getpid()}{PARTIAL_SUFFIX}"
        with partial.open("wb") as stream:
            np.savez(stream, allow_pickle=False, **arrays)
        os.replace(partial, self._folder / _STATE_FILE)

    def forget(self) -> None:
        """Remove what was kept, and what trainings have left that nobody has gone on with."""
        shutil.rmtree(self._folder, ignore_errors=True)
        oldest_s = time.time() - _KEPT_DAYS * 24 * 3600
        for state in self._folder.parent.glob(f"*/{_STATE_FILE}"):
            with suppress(FileNotFoundError):
                if state.stat().st_mtime < oldest_s:
                    shutil.rmtree(state.parent, ignore_errors=True)
