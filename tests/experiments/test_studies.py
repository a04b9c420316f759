"""The last stages of the studies, on made-up scores; test_pipeline runs whole studies."""

import json
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml
from PIL import Image
from support import ROOT, attempt, run

from imgpipe.core.errors import PipelineError
from imgpipe.core.schema import check
from imgpipe.evaluation.predictions import Predictions, write_predictions
from imgpipe.experiments.studies import Bagging, CrossValidation, summarize_scores

CLASSES = ["cat", "dog", "owl"]
LABELS = np.arange(60) % 3


@pytest.fixture
def project(tmp_path: Path) -> Path:
    shutil.copy(ROOT / "params.yaml", tmp_path)
    for study in ("bagging", "cross_validation", "regularization"):
        (tmp_path / "studies" / study).mkdir(parents=True)
    return tmp_path


def set_study(project: Path, study: str, **values: object) -> None:
    (project / "studies" / study / "params.yaml").write_text(yaml.safe_dump(values))


def write_scores(folder: Path, accuracy: float, *, images: int = 60) -> None:
    folder.mkdir(parents=True)
    scores = {
        "accuracy": accuracy, "accuracy_low": accuracy - 0.1, "accuracy_high": accuracy + 0.1,
        "loss": 1 - accuracy, "macro_f1": accuracy, "images": images,
    }  # fmt: skip
    (folder / "test.json").write_text(json.dumps(scores))


def is_picture(path: Path) -> bool:
    with Image.open(path) as picture:
        return bool(np.asarray(picture.convert("L")).std() > 10)


def test_mean_and_standard_deviation_of_every_score() -> None:
    runs = [{"accuracy": value, "accuracy_low": 0.1, "images": 9} for value in (0.5, 0.7, 0.9)]
    assert summarize_scores(runs) == {
        "accuracy": {"mean": pytest.approx(0.7), "sd": pytest.approx(0.2)}
    }


@pytest.mark.parametrize(
    ("model", "value", "message"),
    [
        (Bagging, {"members": [1]}, "members: expected at least 2 values"),
        (Bagging, {"members": [1, 1]}, r"members.*expected each number once; found \[1, 1\]"),
        (CrossValidation, {"folds": 3, "run_folds": [0, 1]}, "run_folds.0: expected a number of"),
    ],
)
def test_what_is_wrong_with_a_study_is_said(
    model: type, value: dict[str, object], message: str
) -> None:
    with pytest.raises(PipelineError, match=message):
        check(model, value, "params.yaml")


def test_the_ensemble_averages_probabilities(project: Path) -> None:
    set_study(project, "bagging", members=[1, 2, 7])
    scores = project / "studies" / "bagging" / "work" / "scores"
    generator = np.random.default_rng(0)
    all_probabilities = []
    for member in (1, 2, 7):
        logits = generator.normal(size=(60, 3)) + 2.0 * np.eye(3)[LABELS]
        probabilities = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
        all_probabilities.append(probabilities)
        accuracy = float((probabilities.argmax(axis=1) == LABELS).mean())
        write_scores(scores / str(member), accuracy)
        write_predictions(
            scores / str(member) / "predictions.csv",
            Predictions(CLASSES, list(map(str, range(60))), LABELS, probabilities),
        )
    mean = np.mean(all_probabilities, axis=0)
    expected = (mean.argmax(axis=1) == LABELS).mean()
    members = [(each.argmax(axis=1) == LABELS).mean() for each in all_probabilities]
    assert expected not in members  # or the test would not tell

    assert f"accuracy of the ensemble {expected:.4f}; of its 3 members" in run(project, "bagging")
    study = project / "studies" / "bagging"
    metrics = json.loads((study / "metrics.json").read_text())
    assert metrics == {
        "ensemble_accuracy": pytest.approx(expected),
        "members_accuracy": pytest.approx(np.mean(members)),
        "members_accuracy_sd": pytest.approx(np.std(members, ddof=1)),
    }
    table = pd.read_csv(study / "members.csv")
    assert table["member"].tolist() == ["1", "2", "7", "ensemble"]
    assert table["accuracy"].tolist() == pytest.approx([*members, expected])
    assert table["loss"].iloc[-1] == pytest.approx(-np.log(mean[range(60), LABELS]).mean())
    assert is_picture(study / "members.png")


def test_members_scored_on_different_images_are_refused(project: Path) -> None:
    set_study(project, "bagging", members=[1, 2])
    scores = project / "studies" / "bagging" / "work" / "scores"
    for member in (1, 2):
        write_scores(scores / str(member), 0.5)
        identities = [f"{number + member}" for number in range(60)]
        write_predictions(
            scores / str(member) / "predictions.csv",
            Predictions(CLASSES, identities, LABELS, np.full((60, 3), 1 / 3)),
        )
    result = attempt(project, "bagging")
    assert result.returncode == 1
    assert "the members were scored on different images" in result.stderr


def test_the_folds_that_are_run_are_summed_up(project: Path) -> None:
    set_study(project, "cross_validation", folds=5, run_folds=[1, 3])
    scores = project / "studies" / "cross_validation" / "work" / "scores"
    for fold, accuracy in ((1, 0.8), (2, 0.1), (3, 0.9)):  # the second is left from before
        write_scores(scores / str(fold), accuracy, images=10 * fold)
    output = run(project, "cross_validation")
    assert output == (
        "cross_validation: accuracy 0.8500, sd 0.0707, over 2 folds with 40 test images\n"
    )
    study = project / "studies" / "cross_validation"
    metrics = json.loads((study / "metrics.json").read_text())
    assert metrics == {
        "folds_accuracy": pytest.approx(0.85),
        "folds_accuracy_sd": pytest.approx(np.std([0.8, 0.9], ddof=1)),
        "scores": [
            {"score": name, "mean": pytest.approx(mean), "sd": pytest.approx(0.1 / np.sqrt(2))}
            for name, mean in (("accuracy", 0.85), ("loss", 0.15), ("macro_f1", 0.85))
        ],
    }
    assert pd.read_csv(study / "folds.csv")["fold"].tolist() == [1, 3]
    assert is_picture(study / "folds.png")


def test_a_fold_without_scores_is_named(project: Path) -> None:
    set_study(project, "cross_validation", folds=5, run_folds=[1, 2])
    result = attempt(project, "cross_validation")
    assert result.returncode == 1
    assert "work/scores/1/test.json: not found" in result.stderr


def test_errors_are_those_of_the_best_epoch(project: Path) -> None:
    variants = [
        {"name": name, "training_images": "originals", "set": "train.epochs=3"}
        for name in ("none", "all")
    ]
    set_study(project, "regularization", validation_frac=0.4, seeds=[1, 2], variants=variants)
    for name, shift in (("none", 0.0), ("all", 0.1)):
        for seed in (1, 2):
            folder = project / "studies" / "regularization" / "work" / "trained" / f"{name}-{seed}"
            folder.mkdir(parents=True)
            pd.DataFrame(
                {
                    "epoch": [1, 2, 3],
                    "accuracy": [0.5, 0.8, 0.9],
                    "validation_loss": [1.0, 0.2, 0.4],
                    "validation_accuracy": [0.5, 0.7 + shift + 0.02 * seed, 0.6],
                }
            ).to_csv(folder / "history.csv", index=False)
    assert "none 0.2700, sd 0.0141; all 0.1700, sd 0.0141" in run(project, "regularization")
    study = project / "studies" / "regularization"
    table = pd.read_csv(study / "errors.csv").set_index("variant")
    assert table.loc["all", "validation_error"] == pytest.approx(0.17)
    assert table.loc["all", "validation_error_sd"] == pytest.approx(np.std([1, -1], ddof=1) * 0.01)
    assert table.loc["none", "training_error"] == pytest.approx(0.2)
    assert table["runs"].tolist() == [2, 2]
    assert is_picture(study / "errors.png")
