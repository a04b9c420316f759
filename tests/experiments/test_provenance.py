"""What git knows of runs, and the tools that tell it: on commits that a test makes, without DVC."""

import hashlib
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from support import ROOT

from imgpipe.core.errors import PipelineError
from imgpipe.evaluation.predictions import Predictions, write_predictions
from imgpipe.experiments.provenance import (
    compare_provenance,
    find_edits,
    find_revision,
    list_experiments,
    open_output,
    read_provenance,
    read_text,
)
from imgpipe.records.info import RecordsInfo, Shard, SplitInfo, write_info
from imgpipe.records.normalization import Normalization
from imgpipe.records.shards import write_shard
from imgpipe.settings.image_spec import ImageSpec

IDENTITY = ["-c", "user.name=test", "-c", "user.email=test@localhost"]
PREDICTIONS = "data/evaluation/predictions.csv"
PARAMETERS: dict[str, Any] = {
    "dataset": "digits",
    "preprocess": {"validation_frac": 0.1, "seed": 1},
    "augment": {"copies": 2, "seed": 1},
    "train": {"learning_rate": 0.002, "seed": 1},
    "evaluate": {"top_k": 2, "calibration_bins": 5},
}


def git(*arguments: str) -> str:
    return subprocess.run(
        ["git", *IDENTITY, *arguments], check=True, capture_output=True, text=True
    ).stdout.strip()


def commit_run(
    *,
    parameters: dict[str, Any] = PARAMETERS,
    accuracy: float = 0.9,
    skill: float = 2.0,
    raw: str = "raw",
    source: str = "one",
    images: int = 200,
) -> str:
    """Commit what a run leaves; return the commit's hash."""
    generator = np.random.default_rng([round(100 * skill), parameters["train"]["seed"]])
    labels = np.arange(images) % 3
    powers = np.exp(generator.normal(size=(images, 3)) + skill * np.eye(3)[labels])
    probabilities = (powers / powers.sum(axis=1, keepdims=True)).astype(np.float32)
    identities = [f"image-{number}" for number in range(images)]
    write_predictions(
        Path(PREDICTIONS), Predictions(["a", "b", "c"], identities, labels, probabilities)
    )
    digest = hashlib.md5(Path(PREDICTIONS).read_bytes()).hexdigest()
    outputs = {
        "fetch": ("data/raw", raw), "preprocess": ("data/records", raw),
        "augment": ("data/augmented", raw), "train": ("models/model.keras", str(accuracy)),
        "evaluate": (PREDICTIONS, digest),
    }  # fmt: skip
    stages = {
        stage: {
            "deps": [{"path": f"src/{stage}.py", "md5": source}],
            "params": {
                "params.yaml": {
                    key: parameters[key] for key in ("dataset", stage) if key in parameters
                },
                "pyproject.toml": {"project.optional-dependencies.nn": ["keras==3.1", "numpy==2"]},
            },
            "outs": [{"path": path, "md5": digest}],
        }
        for stage, (path, digest) in outputs.items()
    }
    Path("dvc.lock").write_text(yaml.safe_dump({"schema": "2.0", "stages": stages}))
    Path("params.yaml").write_text(yaml.safe_dump(parameters))
    Path("metrics").mkdir(exist_ok=True)
    scores = {"validation_accuracy": accuracy, "validation_loss": 1 - accuracy}
    Path("metrics/train.json").write_text(json.dumps(scores))
    git("add", "--all", "--force")
    git("commit", "--quiet", "--allow-empty", "--message", "run")
    return git("rev-parse", "HEAD")


def keep_experiment(name: str, **values: Any) -> str:
    """Keep a run as `dvc exp run` does: out of sight of the branch."""
    before = git("rev-parse", "HEAD")
    commit = commit_run(**values)
    git("update-ref", f"refs/exps/{before[:2]}/{before[2:]}/{name}", commit)
    git("reset", "--quiet", "--hard", before)
    return commit


def with_values(**changes: Any) -> dict[str, Any]:
    changed: dict[str, Any] = json.loads(json.dumps(PARAMETERS))
    for key, value in changes.items():
        section, _, name = key.partition("__")
        changed[section][name] = value
    return changed


def tool(script: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, ROOT / "src" / f"{script}.py", *arguments],
        env={**os.environ, "PYTHONWARNINGS": "error"},
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.fixture
def repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    git("init", "--quiet", "--initial-branch=main")
    Path(".dvc").mkdir()
    Path(".dvc/config").touch()
    commit_run()
    return tmp_path


def test_revisions_are_found_by_every_name(repository: Path) -> None:
    head = git("rev-parse", "HEAD")
    kept = keep_experiment("brave-cat", accuracy=0.95)
    git("update-ref", "refs/exps/stash", head)
    git("update-ref", "refs/exps/celery/stash", head)
    assert [revision.name for revision in list_experiments()] == ["brave-cat"]
    assert find_revision("brave-cat").commit == kept
    for name in ("HEAD", "main", head[:8]):
        assert find_revision(name).commit == head
    assert find_revision("workspace").commit is None


def test_what_is_no_revision_is_refused_with_those_there_are(repository: Path) -> None:
    keep_experiment("brave-cat")
    with pytest.raises(PipelineError, match=r"brave-dog: neither .* \(there are: brave-cat\)"):
        find_revision("brave-dog")
    git("commit", "--quiet", "--allow-empty", "--message", "next")
    keep_experiment("brave-cat", accuracy=0.99)
    with pytest.raises(PipelineError, match="brave-cat: there are several experiments of that"):
        find_revision("brave-cat")


def test_a_record_holds_what_has_made_a_run(repository: Path) -> None:
    record = read_provenance(find_revision("HEAD"), to_evaluate=True)
    assert record.parameters["train.learning_rate"] == 0.002
    assert record.parameters["evaluate.top_k"] == 2
    assert record.libraries == {"keras": "3.1", "numpy": "2"}
    assert record.sources["src/train.py"] == "one"
    assert record.outputs["data/raw"] == "raw"
    before_evaluate = read_provenance(find_revision("HEAD"), to_evaluate=False)
    assert "evaluate.top_k" not in before_evaluate.parameters
    assert "src/evaluate.py" not in before_evaluate.sources


def test_a_commit_without_a_run_is_refused(repository: Path) -> None:
    Path("dvc.lock").write_text("stages: {fetch: {}}\n")
    with pytest.raises(PipelineError, match=r"workspace: dvc\.lock: the stage preprocess has not"):
        read_provenance(find_revision("workspace"), to_evaluate=True)
    git("rm", "--quiet", "--cached", "dvc.lock")
    git("commit", "--quiet", "--message", "no lock")
    with pytest.raises(PipelineError, match=r"HEAD: there is no dvc\.lock"):
        read_provenance(find_revision("HEAD"), to_evaluate=True)
    Path("dvc.lock").unlink()
    with pytest.raises(PipelineError, match=r"workspace: there is no dvc\.lock"):
        read_text(find_revision("workspace"), "dvc.lock")


def test_edits_since_the_run_are_found(repository: Path) -> None:
    record = read_provenance(find_revision("workspace"), to_evaluate=True)
    assert find_edits(find_revision("workspace"), record) == []
    Path("params.yaml").write_text(yaml.safe_dump(with_values(train__learning_rate=0.1)))
    assert find_edits(find_revision("workspace"), record) == ["train.learning_rate: 0.1"]
    assert find_edits(find_revision("HEAD"), record) == []


def test_records_are_compared(repository: Path) -> None:
    first = read_provenance(find_revision("HEAD"), to_evaluate=True)
    commit_run(parameters=with_values(train__learning_rate=0.1), raw="other", source="two")
    second = read_provenance(find_revision("HEAD"), to_evaluate=True)
    found = compare_provenance(first, second)
    assert found.parameters == {"train.learning_rate": (0.002, 0.1)}
    assert found.data == ["data/raw", "data/records", "data/augmented"]
    assert len(found.sources) == 5
    assert found.libraries == {}
    assert compare_provenance(first, first).sources == []


def test_an_output_is_what_the_lock_says_or_refused(repository: Path) -> None:
    revision = find_revision("workspace")
    record = read_provenance(revision, to_evaluate=True)
    assert open_output(revision, record, PREDICTIONS) == Path(PREDICTIONS).read_bytes()
    with Path(PREDICTIONS).open("a") as stream:
        stream.write("200,image-200,a,a,1,0,0\n")
    with pytest.raises(PipelineError, match=r"predictions\.csv is not what dvc\.lock says"):
        open_output(revision, record, PREDICTIONS)
    Path(PREDICTIONS).unlink()
    with pytest.raises(PipelineError, match=r"workspace: .* is neither in DVC's cache nor in a"):
        open_output(revision, record, PREDICTIONS)


@pytest.mark.e2e
def test_compare_tells_a_better_run(repository: Path) -> None:
    commit_run(parameters=with_values(train__learning_rate=0.1), skill=4.0)
    result = tool("compare", "HEAD~1", "HEAD", "--html", "page.html")
    assert result.stderr == ""
    assert result.returncode == 0
    lines = result.stdout.splitlines()
    assert lines[-1].startswith("HEAD against HEAD~1, by accuracy: better. It changes by +0.")
    assert "train.learning_rate  0.002   0.1" in lines
    assert any(line.startswith("accuracy ") and line.endswith("better") for line in lines)
    assert any(line.startswith("Won: image-") for line in lines)
    page = Path("page.html").read_text()
    assert "HEAD against HEAD~1, by accuracy: better." in page
    assert "Without pictures: HEAD: data/records/info.json is neither in DVC" in page

    told = json.loads(tool("compare", "HEAD", "HEAD~1", "--json").stdout)
    assert told["verdict"] == "worse"
    assert told["first"] == {"name": "HEAD", "commit": git("rev-parse", "HEAD")}
    assert told["images"] == 200
    assert told["scores"]["accuracy"]["change"] < 0
    assert told["mcnemar_p_value"] < 0.05
    assert told["made_by"]["parameters"] == {"train.learning_rate": [0.1, 0.002]}
    assert len(told["lost"]) > len(told["won"])


@pytest.mark.e2e
def test_compare_by_itself_looks_at_the_last_run_beside_the_commit(repository: Path) -> None:
    result = tool("compare")
    assert result.returncode == 0
    assert "Parameters, data, code and libraries are the same." in result.stdout
    assert "workspace against HEAD, by accuracy: no evidence either way." in result.stdout
    Path("params.yaml").write_text(yaml.safe_dump(with_values(train__learning_rate=0.1)))
    edited = "note: workspace: params.yaml has been edited since the run: train.learning_rate: 0.1"
    assert tool("compare").stdout.startswith(edited)


@pytest.mark.e2e
def test_compare_refuses_other_test_images_in_one_line(repository: Path) -> None:
    commit_run(images=150)
    result = tool("compare", "HEAD~1", "HEAD")
    assert result.returncode == 1
    assert result.stdout == ""
    assert result.stderr == (
        "error: HEAD~1 and HEAD cannot be compared: their test sets differ: 200 and 150 images,"
        " 150 of them in both\n"
    )


@pytest.mark.e2e
def test_compare_says_what_it_cannot_know(repository: Path) -> None:
    """The raw data are not the same, and the size of the images neither."""
    image_spec = {
        "width_px": 8, "height_px": 8, "channels": 1, "fit": "pad", "interpolation": "nearest"
    }  # fmt: skip
    for width_px in (8, 9):
        parameters = with_values()
        parameters["preprocess"] |= image_spec | {"width_px": width_px}
        commit_run(parameters=parameters, raw=f"raw {width_px}")
    result = tool("compare", "HEAD~1", "HEAD")
    assert result.returncode == 0
    assert "the test images are taken for the same because their names are" in result.stdout
    assert "Data that differ: data/raw, data/records, data/augmented." in result.stdout


@pytest.mark.e2e
def test_compare_looks_at_the_pixels_where_the_raw_data_differ(repository: Path) -> None:
    """As after images were added for training: the test images may be the same or not."""
    image_spec = ImageSpec(height_px=8, width_px=8, channels=1, fit="pad", interpolation="nearest")
    parameters = with_values()
    parameters["preprocess"] |= image_spec.model_dump()
    images = np.random.default_rng(0).integers(0, 256, (200, 8, 8, 1), dtype=np.uint8)
    records = Path("data/records")
    records.mkdir(parents=True)
    shard = Shard(file="test-00000-of-00001.tfrecord", examples=200)
    info = RecordsInfo(
        dataset="digits",
        classes=["a", "b", "c"],
        image_spec=image_spec,
        normalization=Normalization(method="rescale", scale=[1 / 255], offset=[0.0]),
        record_encoding="raw",
        record_fields={},
        splits={"test": SplitInfo(examples=200, per_class={}, shards=[shard])},
    )
    write_info(records, info)
    for raw in ("before", "added", "changed"):
        if raw == "changed":
            images[7, 0, 0] ^= 1
        examples = ((image, n % 3, f"image-{n}") for n, image in enumerate(images))
        write_shard(records / shard.file, examples, "raw")
        commit_run(parameters=parameters, raw=raw, skill=4.0 if raw == "added" else 2.0)
    result = tool("compare", "HEAD~2", "HEAD~1", "--html", "page.html")
    assert result.returncode == 0, result.stderr
    assert "note:" not in result.stdout
    assert "Data that differ: data/raw" in result.stdout
    assert "data:image/png;base64," in Path("page.html").read_text()
    result = tool("compare", "HEAD~1", "HEAD")
    assert result.stderr == (
        "error: HEAD~1 and HEAD cannot be compared: 1 test images have other pixels under the same"
        " name, such as image-7\n"
    )


def test_the_leaderboard_puts_seeds_together_and_sorts_by_validation(repository: Path) -> None:
    fast = {"train__learning_rate": 0.1}
    keep_experiment("fast-1", parameters=with_values(**fast), accuracy=0.94)
    keep_experiment("fast-2", parameters=with_values(**fast, train__seed=2), accuracy=0.98)
    again = with_values(**fast, train__seed=2)
    keep_experiment("fast-again", parameters=again, accuracy=0.98)  # no third run of it
    slow = with_values(train__learning_rate=0.001, train__only_here=3)
    keep_experiment("slow", parameters=slow, accuracy=0.8)
    keep_experiment("elsewhere", parameters=with_values(preprocess__seed=2), accuracy=0.99)
    result = tool("leaderboard")
    assert result.stderr == ""
    lines = [line.split() for line in result.stdout.splitlines()]
    assert lines[0] == ["digits,", "preprocess.seed", "1"]
    assert ["digits,", "preprocess.seed", "2"] in lines
    sd = np.std([0.94, 0.98], ddof=1)
    assert lines[1:5] == [
        ["validation", "accuracy", "loss", "runs", "train.learning_rate", "names"],
        ["1", "0.9600", "±", f"{sd:.4f}", "0.0400", "2", "0.1", "fast-1,", "fast-2"],
        ["2", "0.9000", "0.1000", "1", "0.002", "HEAD"],
        ["3", "0.8000", "0.2000", "1", "0.001", "slow"],
    ]
    assert "Lines of different tables do not compare" in result.stdout
    told = json.loads(tool("leaderboard", "--json").stdout)
    assert [len(board) for board in told["boards"]] == [3, 1]
    assert told["boards"][0][0]["validation_accuracy"] == pytest.approx(0.96)
    assert told["boards"][0][1]["validation_accuracy_sd"] is None


def test_the_leaderboard_keeps_code_apart_and_says_what_it_leaves_out(repository: Path) -> None:
    keep_experiment("recoded", source="two", accuracy=0.95)
    before = git("rev-parse", "HEAD")
    Path("metrics/train.json").unlink()
    git("commit", "--quiet", "--all", "--message", "no scores")
    git("update-ref", f"refs/exps/{before[:2]}/{before[2:]}/broken", "HEAD")
    git("reset", "--quiet", "--hard", before)
    lines = tool("leaderboard").stdout.splitlines()
    assert lines[1].split()[-2:] == ["code", "names"]
    assert lines[2].split()[-1] == "recoded"
    assert lines[2].split()[-2] != lines[3].split()[-2]
    assert lines[-1] == "left out: broken: there is no metrics/train.json"
