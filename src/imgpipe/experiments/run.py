"""One run of the pipeline: its revision, its provenance and its outputs."""

import json
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from imgpipe.core.errors import PipelineError
from imgpipe.core.paths import PREDICTIONS, RECORDS, TRAINING_METRICS
from imgpipe.evaluation.predictions import Predictions, parse_predictions
from imgpipe.experiments.provenance import (
    STAGES_TO_EVALUATE,
    Provenance,
    Revision,
    find_revision,
    open_output,
    read_provenance,
    read_text,
)
from imgpipe.records.folders import Records
from imgpipe.records.info import read_info

_PREDICTIONS, _RECORDS, _TRAIN_METRICS = (
    path.as_posix() for path in (PREDICTIONS, RECORDS, TRAINING_METRICS)
)


@dataclass(frozen=True)
class ValidationMetrics:
    """The metrics of the best epoch on the validation split."""

    accuracy: float
    loss: float
    """Loss without class weights."""


@dataclass(frozen=True)
class Run:
    """A run of the pipeline at a revision.

    Its outputs and metrics are read from git and DVC when they are first used; each may raise
    `PipelineError`.
    """

    revision: Revision
    provenance: Provenance

    @property
    def name(self) -> str:
        """The name of the revision."""
        return self.revision.name

    @cached_property
    def predictions(self) -> Predictions:
        """The predictions of the test split."""
        content = open_output(self.revision, self.provenance, _PREDICTIONS)
        return parse_predictions(content, f"{self.name}: {_PREDICTIONS}")

    @cached_property
    def validation(self) -> ValidationMetrics:
        """The metrics of the validation split."""
        text = read_text(self.revision, _TRAIN_METRICS)
        try:
            metrics = json.loads(text)
            return ValidationMetrics(
                metrics["validation_accuracy"], metrics["validation_loss_unweighted"]
            )
        except (ValueError, KeyError) as error:
            raise PipelineError(
                f"{self.name}: {_TRAIN_METRICS}: expected validation_accuracy and"
                f" validation_loss_unweighted; {type(error).__name__}: {error}; run `dvc repro`"
            ) from None

    def read_test_images(self) -> Iterator[tuple[str, NDArray[np.uint8]]]:
        """Yield the identity of each test image, and the image, (H, W, C)."""
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)

            def copy(file: str) -> None:
                content = open_output(self.revision, self.provenance, f"{_RECORDS}/{file}")
                (folder / file).write_bytes(content)

            try:
                copy("info.json")
                info = read_info(folder)
                for shard in info.splits["test"].shards:
                    copy(shard.file)
                for batch in Records(folder, info).read("test"):
                    yield from zip(batch.identities, batch.images, strict=True)
            except PipelineError as error:
                # The message names the temporary copy of a file.
                message = str(error).replace(folder.as_posix(), f"{self.name}: {_RECORDS}")
                raise PipelineError(message) from None


def load_run(name: str) -> Run:
    """Return the run, to `evaluate`, of the revision that `name` means.

    Raises:
        PipelineError: there is no such revision, or the stages have not run there.
    """
    revision = find_revision(name)
    return Run(revision, read_provenance(revision, STAGES_TO_EVALUATE))
