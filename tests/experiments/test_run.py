"""Outputs, metrics and source files of a run, read from git and DVC."""

import hashlib
from pathlib import Path

import pytest
from support import RUN_SOURCES, commit_run, make_predictions

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


def test_source_files_are_read_from_the_revision(repository: Path) -> None:
    core = repository / "src/imgpipe/core"
    (core / "__pycache__").mkdir()
    (core / "__pycache__/files.pyc").touch()
    (core / "files.py").write_text("edited\n")

    def expect(files: str) -> dict[str, dict[str, str]]:
        hashes = {
            path: hashlib.md5(text.encode()).hexdigest()
            for path, text in {**RUN_SOURCES, "src/imgpipe/core/files.py": files}.items()
        }
        folder = "src/imgpipe/core"
        in_folder = {path: digest for path, digest in hashes.items() if path.startswith(folder)}
        others = {path: {path: hashes[path]} for path in hashes if path not in in_folder}
        return {**others, folder: in_folder}

    assert load_run("HEAD").source_files == expect("files\n")
    assert load_run("workspace").source_files == expect("edited\n")
    head = commit_run(repository)
    assert load_run(head).source_files == expect("files\n")


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
