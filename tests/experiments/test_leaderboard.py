"""Runs ranked by validation accuracy; the tests make commits without DVC."""

import json
import statistics
from pathlib import Path

import pytest
from support import commit_run, git, keep_experiment, run, run_parameters

from imgpipe.core.files import write_json
from imgpipe.experiments.leaderboard import load_runs, rank_runs, render_json, render_text


def rank_names() -> list[list[list[str]]]:
    """Return the names of the runs in each line of each table."""
    runs, notes = load_runs()
    assert notes == []
    return [[[run.name for run in entry.runs] for entry in table] for table in rank_runs(runs)]


def keep_metrics(
    folder: Path, name: str, learning_rate: float, loss: float, weighted: float
) -> None:
    """Save an experiment with an accuracy of 0.95 and these losses of the validation split."""
    before = git(folder, "rev-parse", "HEAD").strip()
    commit_run(folder, parameters=run_parameters(training__learning_rate=learning_rate))
    losses = {"validation_loss": weighted, "validation_loss_unweighted": loss}
    write_json(folder / "metrics/train.json", {"validation_accuracy": 0.95, **losses})
    git(folder, "commit", "--quiet", "--all", "--message", "metrics")
    git(folder, "update-ref", f"refs/exps/{before[:2]}/{before[2:]}/{name}", "HEAD")
    git(folder, "reset", "--quiet", "--hard", before)


def test_runs_that_differ_by_seed_are_one_line(repository: Path) -> None:
    fast = {"training__learning_rate": 0.1}
    keep_experiment(repository, "fast-1", parameters=run_parameters(**fast), accuracy=0.94)
    second_seed = run_parameters(**fast, training__seed=2)
    keep_experiment(repository, "fast-2", parameters=second_seed, accuracy=0.98)
    keep_experiment(repository, "fast-again", parameters=second_seed, accuracy=0.98)
    slow = run_parameters(training__learning_rate=0.001, training__only_here=3)
    keep_experiment(repository, "slow", parameters=slow, accuracy=0.8)
    other_images = run_parameters(preprocess__seed=2)
    keep_experiment(repository, "elsewhere", parameters=other_images, accuracy=0.99)

    assert rank_names() == [[["fast-1", "fast-2"], ["HEAD"], ["slow"]], [["elsewhere"]]]
    lines = [line.split() for line in run(repository, "leaderboard").splitlines()]
    assert lines[0] == ["digits,", "preprocess.seed", "1"]
    assert ["digits,", "preprocess.seed", "2"] in lines
    sd = statistics.stdev([0.94, 0.98])
    assert lines[1:5] == [
        ["validation", "accuracy", "loss", "runs", "training.learning_rate", "names"],
        ["1", "0.9600", "±", f"{sd:.4f}", "0.0400", "2", "0.1", "fast-1,", "fast-2"],
        ["2", "0.9000", "0.1000", "1", "0.002", "HEAD"],
        ["3", "0.8000", "0.2000", "1", "0.001", "slow"],
    ]
    value = json.loads(run(repository, "leaderboard", "--json"))
    assert [len(table) for table in value["boards"]] == [3, 1]
    assert value["boards"][0][0]["validation_accuracy"] == pytest.approx(0.96)
    assert value["boards"][0][1]["validation_accuracy_sd"] is None
    assert value["boards"][0][1]["validation_loss_unweighted"] == pytest.approx(0.1)


def test_runs_with_different_validation_images_are_in_different_tables(repository: Path) -> None:
    fold = run_parameters(preprocess__test_fold="2/5")
    keep_experiment(repository, "fold", parameters=fold, accuracy=0.99)
    keep_experiment(repository, "other-data", raw="other")
    runs, notes = load_runs()
    lines = render_text(rank_runs(runs), notes).splitlines()
    assert lines[0] == "digits, preprocess.test_fold none"
    assert "digits, preprocess.test_fold 2/5" in lines
    assert lines[-1] == (
        "Do not compare lines of different tables: their validation images differ."
    )


def test_ties_are_broken_by_the_unweighted_loss(repository: Path) -> None:
    """Weighted losses of runs with different class weights are not comparable."""
    keep_metrics(repository, "weighted", learning_rate=0.1, loss=0.2, weighted=0.5)
    keep_metrics(repository, "plain", learning_rate=0.2, loss=0.3, weighted=0.3)
    assert rank_names() == [[["weighted"], ["plain"], ["HEAD"]]]
    table = json.loads(render_json(rank_runs(load_runs()[0]), []))["boards"][0]
    losses = [entry["validation_loss_unweighted"] for entry in table]
    assert losses == [0.2, 0.3, pytest.approx(0.1)]


def test_runs_of_different_code_are_different_lines(repository: Path) -> None:
    keep_experiment(repository, "recoded", sources={"src/train.py": "edited\n"}, accuracy=0.95)
    keep_experiment(repository, "repinned", pins=["keras==3.2"], accuracy=0.96)
    runs, notes = load_runs()
    header, *lines = render_text(rank_runs(runs), notes).splitlines()[1:]
    assert header.split()[-2:] == ["code", "names"]
    assert [line.split()[-1] for line in lines] == ["repinned", "recoded", "HEAD"]
    assert len({line.split()[-2] for line in lines}) == 3


def test_runs_without_metrics_are_skipped_with_a_note(repository: Path) -> None:
    before = git(repository, "rev-parse", "HEAD").strip()
    (repository / "metrics/train.json").unlink()
    git(repository, "commit", "--quiet", "--all", "--message", "no metrics")
    git(repository, "update-ref", f"refs/exps/{before[:2]}/{before[2:]}/broken", "HEAD")
    git(repository, "reset", "--quiet", "--hard", before)
    lines = run(repository, "leaderboard", PYTHONWARNINGS="error").splitlines()
    assert lines[2].split()[-1] == "HEAD"
    assert lines[-1] == "skipped: broken: metrics/train.json not found"
