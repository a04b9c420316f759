"""The files that the stages wrote, each read once, at its first use."""

import math
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from imgpipe.core import paths
from imgpipe.core.errors import PipelineError
from imgpipe.core.files import read_json
from imgpipe.datasets.catalog import Entry, load_entry
from imgpipe.evaluation.predictions import Predictions, read_predictions
from imgpipe.evaluation.views import Views, read_views
from imgpipe.records.folders import AugmentedRecords, Records
from imgpipe.records.info import RecordsInfo
from imgpipe.records.training_examples import TrainingExamples, read_training_examples
from imgpipe.settings.params import Params


class StageOutputs:
    """What the stages before `plot` wrote, and the parameters that they used."""

    def __init__(self, params: Params) -> None:
        self.params = params

    @cached_property
    def entry(self) -> Entry:
        """The catalog's entry of the dataset."""
        return load_entry(self.params.dataset)

    @cached_property
    def records(self) -> Records:
        """The records."""
        return Records.open(paths.RECORDS)

    @property
    def info(self) -> RecordsInfo:
        """The description of the records."""
        return self.records.info

    @cached_property
    def augmented(self) -> AugmentedRecords:
        """The augmented records."""
        return AugmentedRecords.open(paths.AUGMENTED, self.records)

    @cached_property
    def data(self) -> Mapping[str, Any]:
        """metrics/data.json: counts of images, duplicates and unreadable files."""
        return _read_mapping(paths.DATA_METRICS)

    @cached_property
    def layers(self) -> str:
        """The table of layers."""
        try:
            return paths.LAYERS.read_text(encoding="utf-8")
        except FileNotFoundError:
            raise _missing(paths.LAYERS) from None

    @cached_property
    def history(self) -> pd.DataFrame:
        """metrics/history.csv: a row for each epoch."""
        return _read_table(paths.HISTORY)

    @cached_property
    def trained(self) -> Mapping[str, Any]:
        """metrics/train.json: epochs, parameters, validation metrics of the chosen epoch."""
        return _read_mapping(paths.TRAINING_METRICS)

    @cached_property
    def training_examples(self) -> TrainingExamples:
        """Some training images, and random transformations of them."""
        return read_training_examples(paths.TRAINING_EXAMPLES)

    @cached_property
    def scores(self) -> Mapping[str, float]:
        """metrics/test.json: the metrics of the test split."""
        scores: Mapping[str, float] = _read_mapping(paths.TEST_METRICS)
        labels, answers = self.predictions.labels, self.predictions.probabilities.argmax(axis=1)
        expected = {"images": len(labels), "accuracy": float((answers == labels).mean())}
        if any(not math.isclose(scores.get(name, -1), value) for name, value in expected.items()):
            raise stale_file(paths.TEST_METRICS)
        return scores

    @cached_property
    def per_class(self) -> pd.DataFrame:
        """metrics/per_class.csv: a row for each class."""
        table = _read_table(paths.CLASS_SCORES, names="class")
        if dict(zip(table["class"], table["images"], strict=True)) != self._test_images:
            raise stale_file(paths.CLASS_SCORES)
        return table

    @cached_property
    def reliability(self) -> pd.DataFrame:
        """metrics/reliability.csv: a row for each bin of confidence."""
        table = _read_table(paths.RELIABILITY)
        if table["images"].sum() != len(self.predictions.labels):
            raise stale_file(paths.RELIABILITY)
        return table

    @cached_property
    def roc(self) -> pd.DataFrame:
        """The corners of the receiver operating characteristic of each class."""
        table = _read_table(paths.ROC, names="class")
        if list(table["class"].unique()) != self.info.classes[-len(table["class"].unique()) :]:
            raise stale_file(paths.ROC)
        return table

    @cached_property
    def predictions(self) -> Predictions:
        """The class and the probabilities of each test image."""
        found = read_predictions(paths.PREDICTIONS)
        counts = np.bincount(found.labels, minlength=len(found.classes)).tolist()
        if dict(zip(found.classes, counts, strict=True)) != self._test_images:
            raise stale_file(paths.PREDICTIONS)
        return found

    @cached_property
    def views(self) -> Views:
        """What the network sees in some test images."""
        found = read_views(paths.VIEWS)
        if (found.numbers >= len(self.predictions.labels)).any():
            raise stale_file(paths.VIEWS)
        return found

    @property
    def _test_images(self) -> Mapping[str, int]:
        """The number of test images of each class."""
        return self.info.splits["test"].per_class


def _missing(path: Path) -> PipelineError:
    return PipelineError(f"{path.as_posix()}: not found; `dvc repro` writes it")


def stale_file(path: Path) -> PipelineError:
    """Return the error of a file that `evaluate` wrote for other records, or other predictions."""
    return PipelineError(
        f"{path.as_posix()}: not about the test images in {paths.RECORDS.as_posix()}; run"
        " `dvc repro evaluate`"
    )


def _read_mapping(path: Path) -> Mapping[str, Any]:
    value: Mapping[str, Any] = read_json(path)
    return value


def _read_table(path: Path, names: str | None = None) -> pd.DataFrame:
    """Read a CSV table; the column `names` stays text, even if it looks like numbers or NaN."""
    try:
        return pd.read_csv(path, dtype={names: str} if names else None, keep_default_na=False)
    except FileNotFoundError:
        raise _missing(path) from None
