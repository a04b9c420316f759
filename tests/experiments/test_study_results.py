"""The results of studies, computed from made-up scores."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from numpy.typing import NDArray
from PIL import Image
from support import make_predictions

from imgpipe.core.errors import PipelineError
from imgpipe.core.paths import HISTORY, PREDICTIONS, TEST_METRICS
from imgpipe.evaluation.predictions import Predictions, write_predictions
from imgpipe.experiments.studies import SUMMARIES
from imgpipe.experiments.study import StudyRun
from imgpipe.experiments.study_results import (
    WRITERS,
    Results,
    summarize_scores,
    write_ensemble,
    write_errors,
    write_folds,
)

PARAMS = {"plot": {"dpi": 50}, "evaluate": {"top_k": 2, "calibration_bins": 5}}


def make_run(variant: str | None, *values: Any) -> StudyRun:
    return StudyRun(variant, values, {}, PARAMS, "label")


def make_scores(accuracy: float, images: int = 60) -> dict[str, float]:
    return {
        "accuracy": accuracy, "accuracy_low": accuracy - 0.1, "accuracy_high": accuracy + 0.1,
        "loss": 1 - accuracy, "macro_f1": accuracy, "images": images,
    }  # fmt: skip


def is_picture(path: Path) -> bool:
    with Image.open(path) as picture:
        return bool(np.asarray(picture.convert("L")).std() > 10)


def test_mean_and_standard_deviation_of_every_score() -> None:
    runs = [{"accuracy": value, "accuracy_low": 0.1, "images": 9} for value in (0.5, 0.7, 0.9)]
    assert summarize_scores(runs) == {
        "accuracy": {"mean": pytest.approx(0.7), "sd": pytest.approx(0.2)}
    }


def test_each_kind_of_summary_has_its_writer() -> None:
    assert WRITERS.keys() == SUMMARIES.keys()


def accuracy_of(labels: NDArray[Any], probabilities: NDArray[Any]) -> float:
    return float((probabilities.argmax(axis=1) == labels).mean())


def make_members(folder: Path, members: dict[int, Predictions]) -> Results:
    """The results of runs with these predictions, by their seeds."""
    results = []
    for seed, predictions in members.items():
        write_predictions(folder / "predictions.csv", predictions)
        scores = make_scores(accuracy_of(predictions.labels, predictions.probabilities))
        outputs = {
            TEST_METRICS: json.dumps(scores).encode(),
            PREDICTIONS: (folder / "predictions.csv").read_bytes(),
        }
        results.append((make_run(None, seed), outputs))
    return results


def test_the_ensemble_averages_probabilities(tmp_path: Path) -> None:
    members = {seed: make_predictions(skill=1, seed=seed, images=60) for seed in (1, 2, 7)}
    labels = members[1].labels
    mean = np.mean([member.probabilities for member in members.values()], axis=0)
    expected = accuracy_of(labels, mean)
    accuracies = [accuracy_of(labels, member.probabilities) for member in members.values()]
    assert expected not in accuracies  # if it were, the test could not fail

    line = write_ensemble(tmp_path, make_members(tmp_path, members))
    assert line.startswith(f"accuracy of the ensemble {expected:.4f}; of its 3 members ")
    assert json.loads((tmp_path / "metrics.json").read_text()) == {
        "ensemble_accuracy": pytest.approx(expected),
        "members_accuracy": pytest.approx(np.mean(accuracies)),
        "members_accuracy_sd": pytest.approx(np.std(accuracies, ddof=1)),
    }
    table = pd.read_csv(tmp_path / "members.csv")
    assert table["member"].tolist() == ["1", "2", "7", "ensemble"]
    assert table["accuracy"].tolist() == pytest.approx([*accuracies, expected])
    assert table["loss"].iloc[-1] == pytest.approx(-np.log(mean[range(60), labels]).mean())
    assert is_picture(tmp_path / "members.png")


def test_members_scored_on_different_images_are_refused(tmp_path: Path) -> None:
    members = {1: make_predictions(images=60), 2: make_predictions(images=59)}
    with pytest.raises(PipelineError, match=r"scored on different images or classes: 1 and 2"):
        write_ensemble(tmp_path, make_members(tmp_path, members))


def test_scores_of_the_folds_are_averaged(tmp_path: Path) -> None:
    folds = {"1/3": make_scores(0.8, 10), "3/3": make_scores(0.9, 30)}
    results = [
        (make_run(None, fold), {TEST_METRICS: json.dumps(scores).encode()})
        for fold, scores in folds.items()
    ]
    line = write_folds(tmp_path, results)
    assert line == "accuracy 0.8500, sd 0.0707, over 2 folds with 40 test images"
    assert json.loads((tmp_path / "metrics.json").read_text()) == {
        "folds_accuracy": pytest.approx(0.85),
        "folds_accuracy_sd": pytest.approx(np.std([0.8, 0.9], ddof=1)),
        "scores": [
            {"score": name, "mean": pytest.approx(mean), "sd": pytest.approx(0.1 / np.sqrt(2))}
            for name, mean in (("accuracy", 0.85), ("loss", 0.15), ("macro_f1", 0.85))
        ],
    }
    assert pd.read_csv(tmp_path / "folds.csv")["fold"].tolist() == [1, 3]
    assert is_picture(tmp_path / "folds.png")


def test_errors_are_read_at_the_epoch_of_lowest_validation_loss(tmp_path: Path) -> None:
    def make_history(shift: float, seed: int) -> bytes:
        table = pd.DataFrame(
            {
                "epoch": [1, 2, 3],
                "accuracy": [0.5, 0.8, 0.9],
                "validation_loss": [1.0, 0.2, 0.4],
                "validation_accuracy": [0.5, 0.7 + shift + 0.02 * seed, 0.6],
            }
        )
        return table.to_csv(index=False).encode()

    results = [
        (make_run(name, seed), {HISTORY: make_history(shift, seed)})
        for name, shift in (("none", 0.0), ("all", 0.1))
        for seed in (1, 2)
    ]
    line = write_errors(tmp_path, results)
    assert line.endswith("over 2 seeds: none 0.2700, sd 0.0141; all 0.1700, sd 0.0141")
    table = pd.read_csv(tmp_path / "errors.csv").set_index("variant")
    assert table.loc["all", "validation_error"] == pytest.approx(0.17)
    assert table.loc["all", "validation_error_sd"] == pytest.approx(np.std([1, -1], ddof=1) * 0.01)
    assert table.loc["none", "training_error"] == pytest.approx(0.2)
    assert table["runs"].tolist() == [2, 2]
    assert is_picture(tmp_path / "errors.png")
