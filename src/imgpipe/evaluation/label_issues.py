"""Images whose labels are probably wrong, found by confident learning.

Confident learning estimates how many labels are wrong: a label is counted if a network that was not
fitted to the image is confident of another class, and the label is not the most probable class. The
network is confident of a class if its probability is at least the mean probability of this class
over the images with this label: of a class that the network is seldom sure of, a smaller
probability is enough. Of several such classes, the most probable one counts.

The estimate leaves out wrong labels of which the network is less sure. So twice as many images are
suspected, the least probable label first, as far as the label is not the most probable class. Of
2,000 photographs with 40 planted wrong labels, the count is 30; the first 60 images have all 40.

Source: Northcutt, Jiang and Chuang (2021), Confident Learning: Estimating Uncertainty in Dataset
Labels, arXiv:1911.00068: the examples off the diagonal of the confident joint. Own code: the
library cleanlab, which the tests compare, imports for 2 seconds and has no fixed order of sums.
"""

import csv
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from imgpipe.core.errors import PipelineError
from imgpipe.core.exact_sums import sum_exactly
from imgpipe.core.files import write_csv
from imgpipe.evaluation.predictions import Predictions
from imgpipe.records.folders import Records
from imgpipe.records.out_of_sample import OutOfSample

MOST_ISSUES = 1_000
"""Of metrics/label_issues.csv, which is in git."""
_SUSPECTS_FOR_EACH = 2  # label that confident learning counts


class LabelIssue(NamedTuple):
    """An image whose label is probably wrong."""

    file: str
    """The identity of the image, which leads back to its file."""
    split: str
    label: str
    likeliest: str
    label_probability: float
    likeliest_probability: float


def write_label_issues(
    path: Path, records: Records, out_of_sample: OutOfSample, test: Predictions
) -> None:
    """Write the suspected images of all splits as CSV, the least probable label first.

    The table has up to `MOST_ISSUES` rows; a probability has the digits of float32.
    """
    rows = list_label_issues(records, out_of_sample, test)
    write_csv(
        path, LabelIssue._fields, ([*row[:4], f"{row[4]:.9g}", f"{row[5]:.9g}"] for row in rows)
    )


def read_label_issues(path: Path) -> list[LabelIssue]:
    """Read the table that `write_label_issues` wrote.

    Raises:
        PipelineError: the file is missing, or is not such a table.
    """
    where = path.as_posix()
    try:
        with path.open(encoding="utf-8", newline="") as stream:
            rows = csv.reader(stream)
            if next(rows, []) != list(LabelIssue._fields):
                raise ValueError(f"expected the columns {', '.join(LabelIssue._fields)}")
            return [
                LabelIssue(file, split, label, likeliest, float(given), float(largest))
                for file, split, label, likeliest, given, largest in rows
            ]
    except FileNotFoundError:
        raise PipelineError(f"{where}: not found; `dvc repro` writes it") from None
    except ValueError as error:
        raise PipelineError(
            f"{where}: not a table of label issues: {error}; run `dvc repro evaluate`"
        ) from None


def list_label_issues(
    records: Records, out_of_sample: OutOfSample, test: Predictions
) -> Iterator[LabelIssue]:
    """Yield up to `MOST_ISSUES` suspected images, the least probable label first.

    Training images are among them only if a cross-validation gave their probabilities; `test` has
    the predictions of the test split.
    """
    classes, splits, identities = test.classes, [], []
    labels, probabilities = [], []
    for split, numbers, found in (
        ("train", out_of_sample.training_numbers, out_of_sample.training),
        ("validation", None, out_of_sample.validation),
    ):
        if len(found):
            index = records.index(split)
            numbers = np.arange(len(index.labels)) if numbers is None else numbers
            identities += [index.identities[number] for number in numbers.tolist()]
            labels.append(index.labels[numbers])
            probabilities.append(found)
            splits += [split] * len(numbers)
    everything = np.concatenate([*probabilities, test.probabilities])
    all_labels = np.concatenate([*labels, test.labels])
    identities += test.identities
    splits += ["test"] * len(test.labels)
    for number in find_label_issues(all_labels, everything)[:MOST_ISSUES].tolist():
        label, likely = all_labels[number], everything[number].argmax()
        yield LabelIssue(
            identities[number],
            splits[number],
            classes[label],
            classes[likely],
            float(everything[number, label]),
            float(everything[number, likely]),
        )


def find_label_issues(
    labels: NDArray[np.int64], probabilities: NDArray[np.float32]
) -> NDArray[np.int64]:
    """Return the indices of the suspected images, (M,), the least probable label first.

    Args:
        labels: (N,) in [0, K).
        probabilities: (N, K), by networks that were not fitted to these images.
    """
    given = probabilities[np.arange(len(labels)), labels]
    candidates = np.flatnonzero(given < probabilities.max(axis=1))
    count = _SUSPECTS_FOR_EACH * int(find_confident(labels, probabilities).sum())
    return candidates[np.argsort(given[candidates], kind="stable")][:count]


def find_confident(
    labels: NDArray[np.int64], probabilities: NDArray[np.float32]
) -> NDArray[np.bool_]:
    """Return the images that confident learning counts, (N,); the arguments are as above."""
    wide = probabilities.astype(np.float64)
    thresholds = np.array(
        [_mean(wide[labels == label, label]) for label in range(wide.shape[1])], dtype=np.float64
    )
    confident = np.where(wide >= thresholds, wide, -1.0)
    is_of_another = (confident.max(axis=1) >= 0) & (confident.argmax(axis=1) != labels)
    given = wide[np.arange(len(labels)), labels]
    return np.asarray(is_of_another & (given < wide.max(axis=1)))


def _mean(values: NDArray[np.float64]) -> float:
    """Return the mean; infinity without values: no image is confidently of a class without one."""
    return float(sum_exactly(values)) / len(values) if len(values) else np.inf
