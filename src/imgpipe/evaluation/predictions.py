"""The table of predictions: the class and the probabilities of each example of a split."""

import csv
import io
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from imgpipe.core.elementary import log
from imgpipe.core.errors import PipelineError
from imgpipe.core.exact_sums import softmax
from imgpipe.core.files import write_csv

_COLUMNS = ["index", "identity", "actual", "predicted"]


@dataclass(frozen=True)
class Predictions:
    """The probabilities that a network, or several, give to N examples of K classes."""

    classes: list[str]
    identities: list[str]
    labels: NDArray[np.int64]
    """(N,) in [0, K)."""
    probabilities: NDArray[np.float32]
    """(N, K), rows sum to 1."""

    @cached_property
    def predicted(self) -> NDArray[np.int64]:
        """(N,): the most probable class of each example."""
        return np.asarray(self.probabilities.argmax(axis=1))

    @cached_property
    def mistakes(self) -> NDArray[np.int64]:
        """Indices of the examples whose most probable class is wrong, the most confident first."""
        wrong = np.flatnonzero(self.predicted != self.labels)
        confidence = self.probabilities[wrong].max(axis=1)
        return wrong[np.argsort(-confidence, kind="stable")]


def undo_temperature(predictions: Predictions, temperature: float) -> Predictions:
    """Return the predictions that a network would give that divides no logits by a temperature."""
    probabilities, _ = softmax(temperature * log(predictions.probabilities.astype(np.float64)))
    return replace(predictions, probabilities=probabilities.astype(np.float32))


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
    """Read the table that `write_predictions` wrote.

    Raises:
        PipelineError: the file is missing, or is not such a table.
    """
    try:
        return parse_predictions(path.read_bytes(), path.as_posix())
    except FileNotFoundError:
        raise PipelineError(f"{path.as_posix()}: not found; `dvc repro` writes it") from None


def parse_predictions(content: bytes, where: str) -> Predictions:
    """Read the content of the table of predictions; `where` names the file in an error.

    Raises:
        PipelineError: the content is not such a table.
    """
    try:
        rows = csv.reader(io.TextIOWrapper(io.BytesIO(content), encoding="utf-8", newline=""))
        header = next(rows, [])
        classes = [name[2:-1] for name in header[len(_COLUMNS) :]]
        position = {name: label for label, name in enumerate(classes)}
        identities: list[str] = []
        labels: list[int] = []
        probabilities: list[NDArray[np.float32]] = []
        for number, row in enumerate(
            rows
        ):  # not all at once: as text, they take twenty times the memory
            if row[0] != str(number):
                raise ValueError(f"row {number}: expected this index; found {row[0]!r}")
            identities.append(row[1])
            labels.append(position[row[2]])
            probabilities.append(np.array(row[len(_COLUMNS) :], dtype=np.float32))
            if row[3] != classes[probabilities[-1].argmax()]:
                raise ValueError(f"row {number}: {row[3]!r} is not the most probable class")
        if len(set(identities)) < len(identities):
            raise ValueError("an identity is in two rows")
        return Predictions(
            classes, identities, np.array(labels, dtype=np.int64), np.stack(probabilities)
        )
    except (ValueError, KeyError, IndexError) as error:
        raise PipelineError(
            f"{where}: not a table of predictions: {type(error).__name__}: {error}"
        ) from None
