"""The files that the stages before `plot` wrote."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from imgpipe.core import paths
from imgpipe.core.errors import PipelineError
from imgpipe.core.files import read_json
from imgpipe.datasets.catalog import Entry, load_entry
from imgpipe.evaluation.label_issues import LabelIssue, read_label_issues
from imgpipe.evaluation.predictions import Predictions, read_predictions, undo_temperature
from imgpipe.evaluation.views import Views, read_views
from imgpipe.records.folders import AugmentedRecords, Records
from imgpipe.records.info import RecordsInfo
from imgpipe.records.stored_images import StoredImages
from imgpipe.records.training_examples import TrainingExamples, read_training_examples
from imgpipe.settings.params import Params


@dataclass(frozen=True)
class StageOutputs:
    """What the stages before `plot` wrote, and the parameters that they used."""

    params: Params
    entry: Entry
    """The catalog's entry of the dataset."""
    records: Records
    augmented: AugmentedRecords
    data: Mapping[str, Any]
    """Counts of images, duplicates and unreadable files."""
    layers: str
    """The table of layers."""
    history: pd.DataFrame
    """A row for each epoch."""
    trained: Mapping[str, Any]
    """Epochs, parameters, validation metrics of the chosen epoch."""
    training_examples: TrainingExamples
    scores: Mapping[str, float]
    """The metrics of the test split."""
    per_class: pd.DataFrame
    """A row for each class."""
    reliability: pd.DataFrame
    """A row for each bin of confidence."""
    roc: pd.DataFrame
    """The corners of the receiver operating characteristic of each class."""
    label_issues: list[LabelIssue]
    """The images whose labels are probably wrong, the least probable label first."""
    predictions: Predictions
    """Of the test split."""
    views: Views

    @property
    def info(self) -> RecordsInfo:
        """The description of the records."""
        return self.records.info

    @cached_property
    def test_images(self) -> StoredImages:
        """The test images, in the order of the predictions.

        Raises:
            PipelineError: the predictions are about other images, or in another order.
        """
        index = self.records.index("test")
        if index.identities != self.predictions.identities:
            raise stale_file(paths.PREDICTIONS)
        return index.images

    @cached_property
    def uncalibrated(self) -> Predictions | None:
        """The predictions without temperature scaling; None if the network has no temperature."""
        temperature = self.trained["temperature"]
        return undo_temperature(self.predictions, temperature) if temperature != 1 else None


def read_outputs(params: Params) -> StageOutputs:
    """Read all outputs; images stay in their files.

    Raises:
        PipelineError: a file is missing, does not have the expected content, or is about other test
            images.
    """
    records = Records.open(paths.RECORDS)
    try:
        outputs = StageOutputs(
            params=params,
            entry=load_entry(params.dataset),
            records=records,
            augmented=AugmentedRecords.open(paths.AUGMENTED, records),
            data=read_json(paths.DATA_METRICS),
            layers=paths.LAYERS.read_text(encoding="utf-8"),
            history=_read_table(paths.HISTORY),
            trained=read_json(paths.TRAINING_METRICS),
            training_examples=read_training_examples(paths.TRAINING_EXAMPLES),
            scores=read_json(paths.TEST_METRICS),
            per_class=_read_table(paths.CLASS_SCORES),
            reliability=_read_table(paths.RELIABILITY),
            roc=_read_table(paths.ROC),
            label_issues=read_label_issues(paths.LABEL_ISSUES),
            predictions=read_predictions(paths.PREDICTIONS),
            views=read_views(paths.VIEWS),
        )
    except FileNotFoundError as error:
        path = Path(error.filename).as_posix()
        raise PipelineError(f"{path}: not found; `dvc repro` writes it") from None
    _check_evaluation(outputs)
    return outputs


def _check_evaluation(outputs: StageOutputs) -> None:
    """Check that each file of `evaluate` is about the test images of the records.

    Raises:
        PipelineError: a file is about other images, or other predictions.
    """
    per_class = outputs.info.splits["test"].per_class
    predictions, table = outputs.predictions, outputs.per_class
    labels, answers = predictions.labels, predictions.predicted
    counts = np.bincount(labels, minlength=len(predictions.classes)).tolist()
    measured = {"images": len(labels), "accuracy": float((answers == labels).mean())}
    with_curves = list(outputs.roc["class"].unique())
    fits = {
        paths.PREDICTIONS: dict(zip(predictions.classes, counts, strict=True)) == per_class,
        paths.TEST_METRICS: all(
            math.isclose(outputs.scores.get(name, -1), value) for name, value in measured.items()
        ),
        paths.CLASS_SCORES: dict(zip(table["class"], table["images"], strict=True)) == per_class,
        paths.RELIABILITY: outputs.reliability["images"].sum() == len(labels),
        paths.ROC: with_curves == outputs.info.classes[-len(with_curves) :],
        paths.VIEWS: (outputs.views.numbers < len(labels)).all(),
    }
    for path, fit in fits.items():
        if not fit:
            raise stale_file(path)


def stale_file(path: Path) -> PipelineError:
    """Return the error of a file that `evaluate` wrote for other records, or other predictions."""
    return PipelineError(
        f"{path.as_posix()}: not about the test images in {paths.RECORDS.as_posix()}; run"
        " `dvc repro evaluate`"
    )


def _read_table(path: Path) -> pd.DataFrame:
    """Read a CSV table; names of classes stay text, even if they look like numbers or NaN."""
    return pd.read_csv(path, dtype={"class": str}, keep_default_na=False)
