"""The table of predictions: each example of a split with its class and its probabilities."""

import csv
import io
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from imgpipe.core.errors import PipelineError
from imgpipe.core.files import write_csv

_COLUMNS = ["index", "identity", "actual", "predicted"]


@dataclass(frozen=True)
class Predictions:
    """What a network, or several, say of N examples of K classes."""

    classes: list[str]
    identities: list[str]
    labels: NDArray[np.int64]
    """(N,) in [0, K)."""
    probabilities: NDArray[np.float32]
    """(N, K), rows sum to 1."""


def write_predictions(path: Path, predictions: Predictions) -> None:
    """Write the table as CSV: index, identity, actual, predicted, and each class's probability."""
    classes = predictions.classes
    rows = zip(predictions.identities, predictions.labels, predictions.probabilities, strict=True)
    write_csv(
        path,
        [*_COLUMNS, *(f"p({name})" for name in classes)],
        (
            [index, identity, classes[label], classes[row.argmax()]]
            # Nine digits give back the float32 exactly.
            + [f"{probability:.9g}" for probability in row]
            for index, (identity, label, row) in enumerate(rows)
        ),
    )


def read_predictions(path: Path) -> Predictions:
    """Read a table that `write_predictions` has written.

    Raises:
        PipelineError: the file is missing, or is no such table.
    """
    try:
        return parse_predictions(path.read_bytes(), path.as_posix())
    except FileNotFoundError:
        raise PipelineError(f"{path.as_posix()}: not found; `dvc repro` writes it") from None


def parse_predictions(content: bytes, where: str) -> Predictions:
    """Read the content of such a table; `where` names it in an error.

    Raises:
        PipelineError: it is no such table.
    """
    try:
        header, *rows = csv.reader(io.StringIO(content.decode("utf-8"), newline=""))
        classes = [name[2:-1] for name in header[len(_COLUMNS) :]]
        position = {name: label for label, name in enumerate(classes)}
        return Predictions(
            classes=classes,
            identities=[row[1] for row in rows],
            labels=np.array([position[row[2]] for row in rows], dtype=np.int64),
            probabilities=np.array([row[len(_COLUMNS) :] for row in rows], dtype=np.float32),
        )
    except (ValueError, KeyError, IndexError) as error:
        raise PipelineError(
            f"{where}: not a table of predictions: {type(error).__name__}: {error}"
        ) from None
