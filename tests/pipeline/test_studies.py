"""Studies with DVC: the runs that they start, their files, and the report of a failed run."""

import json
from pathlib import Path

import pandas as pd
import pytest
from support import attempt, copy_project, dvc, git, hash_files, run, set_leaf

pytestmark = pytest.mark.e2e
DIGITS = 1797  # the images of the dataset


@pytest.fixture(scope="module")
def project(finished: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small project that was run and committed."""
    return copy_project(finished, tmp_path_factory.mktemp("studies") / "project")


def progress(output: str) -> list[tuple[str, str]]:
    """Return the label and the state of each run."""
    lines = [line.split(": ")[1].split(", ") for line in output.splitlines()[:-1]]
    return [(label, rest[0]) for label, *rest in lines]


def status(project: Path) -> list[str]:
    return git(project, "status", "--porcelain", "--untracked-files=all").splitlines()


def test_a_study_starts_only_missing_runs_and_does_not_change_the_workspace(
    project: Path,
) -> None:
    file = project / "studies" / "small.yaml"
    file.write_text(
        "summary: folds\n"
        "set: {preprocess.max_per_class: 10, training.epochs: 1}\n"
        "grid:\n  preprocess.test_fold: [1/3, 2/3]\n"
    )
    git(project, "add", "--all")
    git(project, "commit", "--quiet", "--message", "study")
    output = run(project, "study", "small")
    assert progress(output) == [("test_fold-1-3", "running"), ("test_fold-2-3", "running")]
    results = ["folds.csv", "folds.png", "metrics.json"]
    assert status(project) == [f"?? studies/small/{name}" for name in results]
    assert dvc(project, "status").startswith("Data and pipelines are up to date.")

    before = hash_files(project / "studies" / "small")
    output = run(project, "study", "small")
    assert progress(output) == [("test_fold-1-3", "done before"), ("test_fold-2-3", "done before")]
    assert hash_files(project / "studies" / "small") == before

    # Neither another commit nor a value of `plot` makes a run missing.
    set_leaf(project, "plot.dpi", 60)
    file.write_text(file.read_text().replace("2/3]", "2/3, 3/3]"))
    git(project, "add", "--all")
    git(project, "commit", "--quiet", "--message", "results")
    output = run(project, "study", "small")
    assert [done for _, done in progress(output)] == ["done before", "done before", "running"]
    assert status(project) == [f" M studies/small/{name}" for name in results]

    table = pd.read_csv(project / "studies" / "small" / "folds.csv")
    assert table["fold"].tolist() == [1, 2, 3]
    assert table["images"].sum() == DIGITS
    metrics = json.loads((project / "studies" / "small" / "metrics.json").read_text())
    mean, sd = table["accuracy"].mean(), table["accuracy"].std()
    assert metrics["folds_accuracy"] == pytest.approx(mean)
    assert output.splitlines()[-1] == (
        f"small: accuracy {mean:.4f}, sd {sd:.4f}, over 3 folds with {DIGITS} test images"
    )

    names = dvc(project, "exp", "list", "--all-commits", "--name-only").split()
    folds = [name.rpartition("-")[0] for name in sorted(names)]
    assert folds == [f"small-test_fold-{fold}-3" for fold in (1, 2, 3)]
    board = run(project, "leaderboard")
    assert all(name in board for name in names)


def test_a_failed_run_stops_the_study_and_is_named(project: Path) -> None:
    (project / "studies" / "broken.yaml").write_text(
        "summary: ensemble\ngrid:\n  training.learning_rate: [0.002, 1.0e+30]\n"
    )
    result = attempt(project, "study", "broken")
    assert result.returncode == 1
    first, *others = result.stdout.splitlines()
    assert others == [
        "run 2 of 2: learning_rate-1e+30, running, stopped",
    ]
    # The run of the last commit: DVC restores its results, or uses the outputs in the workspace.
    assert first.startswith("run 1 of 2: learning_rate-0.002, running, finished in ")
    (log,) = (project / ".dvc" / "tmp" / "studies").glob("broken-learning_rate-0.002-*.log")
    assert "Running stage 'train'" not in log.read_text()
    (error,) = result.stderr.splitlines()
    assert error.startswith("error: broken-learning_rate-1e+30-")
    assert "the run failed: train: " in error
    log = project / error.split("its output is in ")[1].split(";")[0]
    assert "lower training.learning_rate" in log.read_text()
    names = dvc(project, "exp", "list", "--all-commits", "--name-only").split()
    assert [name[:27] for name in names if "broken" in name] == ["broken-learning_rate-0.002-"]
    assert not (project / "studies" / "broken").exists()
