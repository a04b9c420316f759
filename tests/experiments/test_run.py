"""Outputs and metrics of a run, read from git and DVC."""

from pathlib import Path

import pytest
from support import make_predictions

from imgpipe.core.errors import PipelineError
from imgpipe.core.files import write_json
from imgpipe.experiments.run import ValidationMetrics, load_run


def test_a_run_has_its_predictions_and_validation_metrics(repository: Path) -> None:
    first = load_run("HEAD")
    assert first.name == "HEAD"
    assert first.predictions.identities == make_predictions().identities
    assert (first.predictions.probabilities == make_predictions().probabilities).all()
    assert first.validation == ValidationMetrics(accuracy=0.9, loss=1 - 0.9)


@pytest.mark.parametrize(
    "text", ["{", "{}", '{"validation_accuracy": 0.9, "validation_loss": 0.1}']
)
def test_invalid_validation_metrics_are_refused(repository: Path, text: str) -> None:
    (repository / "metrics/train.json").write_text(text)
    with pytest.raises(PipelineError, match=r"^workspace: metrics/train\.json: expected validati"):
        _ = load_run("workspace").validation


def test_missing_test_images_are_reported(repository: Path) -> None:
    with pytest.raises(PipelineError, match=r"^HEAD: data/records/info\.json is neither in DVC's"):
        next(load_run("HEAD").read_test_images())


def test_an_error_in_records_names_the_run(repository: Path) -> None:
    """The error does not name the temporary folder to which the records are copied."""
    records = repository / "data/records"
    records.mkdir()
    write_json(records / "info.json", {"format_version": 99})
    with pytest.raises(PipelineError, match=r"^workspace: data/records/info\.json: format_version"):
        next(load_run("workspace").read_test_images())
