"""Studies: their files, their runs, and the checks before the first run."""

import copy
import json
import re
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from support import ROOT, attempt, find_error, make_copy, set_leaf

from imgpipe.core.errors import PipelineError
from imgpipe.core.paths import HISTORY
from imgpipe.core.schema import check
from imgpipe.core.yaml_file import read_yaml
from imgpipe.experiments import studies
from imgpipe.experiments.provenance import Revision
from imgpipe.experiments.studies import (
    SUMMARIES,
    Summary,
    load_result,
    plan_runs,
    run_study,
)
from imgpipe.experiments.study import Overrides, Study, StudyRun, expand_study, study_path

STUDY_NAMES = sorted(path.stem for path in (ROOT / "studies").glob("*.yaml"))


def expand(value: dict[str, Any], params: dict[str, Any]) -> list[StudyRun]:
    return expand_study(check(Study, value, "studies/x.yaml"), "studies/x.yaml", params)


# The file


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ({"summary": "mean"}, "summary: expected 'folds', 'ensemble' or 'errors'; found 'mean'"),
        ({"summary": "ensemble", "grids": {}}, r"grids: unknown key \(did you mean 'grid'\?\)"),
        ({"summary": "ensemble"}, "summary: ensemble needs two or more runs"),
        (
            {"summary": "ensemble", "grid": {"training.seed": [1, 1]}},
            r"grid.training.seed: expected one or more values, each once; found \[1, 1\]",
        ),
        (
            {"summary": "folds", "grid": {"training.seed": [1, 2]}},
            "summary: folds needs a grid of preprocess.test_fold only",
        ),
        (
            {"summary": "errors", "grid": {"training.seed": [1, 2]}},
            "summary: errors needs variants, and a grid of training.seed only",
        ),
        (
            {"summary": "errors", "variants": {"a": {}}, "grid": {"training.seed": [1]}},
            "summary: errors needs variants, and a grid of training.seed only",
        ),
        (
            {"summary": "ensemble", "set": {"training.seed": 3}, "grid": {"training.seed": [1, 2]}},
            "training.seed: expected in one place; found in two",
        ),
        (
            {
                "summary": "errors", "set": {"training.epochs": 3},
                "variants": {"few": {"training.epochs": 1}}, "grid": {"training.seed": [1, 2]},
            },
            "variants.few: training.epochs: expected in one place; found in two",
        ),
    ],
)  # fmt: skip
def test_a_wrong_study_is_refused_in_one_line(value: dict[str, Any], message: str) -> None:
    with pytest.raises(PipelineError, match=rf"^studies/x.yaml: {message}[^\n]*$"):
        check(Study, value, "studies/x.yaml")


def test_an_unknown_study_is_refused_with_the_known_ones(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    assert study_path("bagging") == Path("studies/bagging.yaml")
    assert find_error(study_path, "baging") == (
        "studies/baging.yaml: not found (did you mean 'bagging'?); the studies are:"
        f" {', '.join(STUDY_NAMES)}"
    )


def test_the_script_reports_an_error_in_one_line(tmp_path: Path) -> None:
    (tmp_path / "studies").mkdir()
    (tmp_path / "studies" / "mine.yaml").write_text("summary: [\n")
    result = attempt(tmp_path, "study", "mine")
    assert result.returncode == 1
    assert result.stderr.startswith("error: studies/mine.yaml: line 2, column 1: not valid YAML")
    assert result.stderr.count("\n") == 1


@pytest.mark.parametrize("name", STUDY_NAMES)
def test_the_studies_of_the_project_are_valid(name: str, params_value: dict[str, Any]) -> None:
    path = ROOT / "studies" / f"{name}.yaml"
    study = check(Study, read_yaml(path), path.name)
    runs = expand_study(study, path.name, params_value)
    assert len({run.label for run in runs}) == len(runs) > 1
    text = path.read_text()
    assert f"#   command   python src/study.py {name}\n" in text
    assert f"#   cost      {len(runs)} runs, " in text
    assert "#   expected  " in text


# The runs


def test_each_variant_is_combined_with_each_value_of_the_grid(
    params_value: dict[str, Any],
) -> None:
    before = copy.deepcopy(params_value)
    runs = expand(
        {
            "summary": "errors",
            "set": {"training.epochs": 3},
            "variants": {
                "slow": {"training.learning_rate": 0.001},
                "L2": {"training.l2_penalty": 0.1},
            },
            "grid": {"training.seed": [4, 5]},
        },
        params_value,
    )
    assert [(run.variant, run.values, run.label) for run in runs] == [
        ("slow", (4,), "slow-seed-4"),
        ("slow", (5,), "slow-seed-5"),
        ("L2", (4,), "L2-seed-4"),
        ("L2", (5,), "L2-seed-5"),
    ]
    assert runs[2].overrides == {
        "training.epochs": 3,
        "training.l2_penalty": 0.1,
        "training.seed": 4,
    }
    assert runs[2].params["training"] == {
        **before["training"], "epochs": 3, "l2_penalty": 0.1, "seed": 4,
    }  # fmt: skip
    assert params_value == before


def test_a_label_is_valid_in_the_name_of_an_experiment(params_value: dict[str, Any]) -> None:
    value = {"summary": "folds", "grid": {"preprocess.test_fold": ["1/5", "2/5"]}}
    runs = expand(value, params_value)
    assert [run.label for run in runs] == ["test_fold-1-5", "test_fold-2-5"]


@pytest.mark.parametrize(
    ("key", "values", "message"),
    [
        ("training.sead", [1, 2], r"training.sead: unknown key \(did you mean 'training.seed'\?\)"),
        ("train", [1, 2], "train: unknown key"),
        ("training.seed", [1, -2], "run seed-2: training.seed: expected a number of at least 0"),
        (
            "training.bootstrap",
            [False, 1],
            "run bootstrap-1: training.bootstrap: expected true or false",
        ),
    ],
)
def test_invalid_overrides_are_refused(
    key: str, values: list[Any], message: str, params_value: dict[str, Any]
) -> None:
    with pytest.raises(PipelineError, match=rf"^studies/x.yaml: {message}[^\n]*$"):
        expand({"summary": "ensemble", "grid": {key: values}}, params_value)


def test_runs_that_are_equal_for_all_their_stages_are_refused(
    monkeypatch: pytest.MonkeyPatch, params_value: dict[str, Any]
) -> None:
    monkeypatch.chdir(ROOT)
    value = {"summary": "ensemble", "grid": {"networks.mlp.dropout_frac": [0.1, 0.2]}}
    study = check(Study, value, "x.yaml")
    with pytest.raises(PipelineError, match=r"dropout_frac-0.1 and dropout_frac-0.2 are the same"):
        plan_runs("bagging", study, expand_study(study, "x.yaml", params_value))


# The runs, without DVC


@pytest.fixture
def two_folds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of the project with the study `small`, as working directory."""
    make_copy(tmp_path)
    (tmp_path / "studies" / "small.yaml").write_text(
        "summary: folds\ngrid:\n  preprocess.test_fold: [1/2, 2/2]\n"
    )
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_the_result_of_each_run_is_used_for_its_fold(
    two_folds: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    accuracies = {"1/2": 0.6, "2/2": 0.9}

    def run_experiment(experiment: str, overrides: Overrides, target: tuple[()]) -> Revision:
        return Revision(overrides["preprocess.test_fold"], "1" * 40)

    def load_result(revision: Revision, summary: Summary) -> dict[Path, bytes]:
        accuracy = accuracies[revision.name]
        scores = {"accuracy": accuracy, "loss": 1 - accuracy, "images": 50}
        return dict.fromkeys(summary.outputs, json.dumps(scores).encode())

    monkeypatch.setattr(studies, "run_experiment", run_experiment)
    monkeypatch.setattr(studies, "load_result", load_result)
    assert run_study("small") == (
        "small: accuracy 0.7500, sd 0.2121, over 2 folds with 100 test images"
    )
    assert re.sub(r"in \d\.\d s", "in TIME", capsys.readouterr().out) == (
        "run 1 of 2: test_fold-1-2, running, finished in TIME\n"
        "run 2 of 2: test_fold-2-2, running, finished in TIME\n"
    )
    table = pd.read_csv(two_folds / "studies" / "small" / "folds.csv")
    assert table["accuracy"].tolist() == [0.6, 0.9]


@pytest.mark.parametrize("key", ["training.epochs", "preprocess.seed"])
def test_an_edit_during_a_run_stops_the_study(
    key: str, two_folds: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def run_experiment(experiment: str, overrides: Overrides, target: tuple[()]) -> Revision:
        set_leaf(two_folds, key, 7)
        return Revision(experiment, "1" * 40)

    monkeypatch.setattr(studies, "run_experiment", run_experiment)
    with pytest.raises(
        PipelineError, match=r"^small-test_fold-1-2-\w+: parameters, data or code changed while"
    ):
        run_study("small")
    assert capsys.readouterr().out == "run 1 of 2: test_fold-1-2, running, stopped\n"


def test_a_finished_run_without_its_outputs_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    def open_output(revision: Revision, provenance: None, path: str) -> bytes:
        if revision.name == "gone":
            raise PipelineError(f"gone: {path} is lost")
        return path.encode()

    monkeypatch.setattr(studies, "read_provenance", lambda revision, stages: None)
    monkeypatch.setattr(studies, "open_output", open_output)
    summary = SUMMARIES["errors"]
    assert load_result(Revision("whole", "1" * 40), summary) == {HISTORY: b"metrics/history.csv"}
    with pytest.raises(PipelineError, match=r"is lost; .* `dvc exp remove gone` and run the"):
        load_result(Revision("gone", "1" * 40), summary)
