"""All stages run by DVC, in a clone of the project, on small real data."""

import base64
import json
import os
import re
import subprocess
import sys
from io import BytesIO, StringIO
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from forks import fork_commands, run_process
from PIL import Image
from support import (
    STAGES,
    copy_project,
    dvc,
    find_long_lines,
    git,
    hash_file,
    set_leaf,
    stages_run,
    tool,
    wait_until,
)

from imgpipe.records.folders import Records
from imgpipe.reporting.pictures import PICTURES

pytestmark = pytest.mark.e2e


@pytest.fixture(scope="module")
def project(finished: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the project in which the pipeline has run, quickly, on some of the digits."""
    return copy_project(finished, tmp_path_factory.mktemp("pipeline") / "project")


def test_every_stage_writes_its_outputs(project: Path) -> None:
    scores = json.loads((project / "metrics" / "test.json").read_text())
    assert scores["images"] == 120
    assert 0.5 < scores["accuracy_low"] < scores["accuracy"] < scores["accuracy_high"] <= 1
    predictions = pd.read_csv(project / "data" / "evaluation" / "predictions.csv")
    assert predictions["index"].tolist() == list(range(120))
    assert predictions["identity"].is_unique
    probabilities = predictions[[f"p({digit})" for digit in range(10)]]
    assert probabilities.sum(axis=1).between(1 - 1e-5, 1 + 1e-5).all()
    assert (probabilities.to_numpy().argmax(axis=1) == predictions["predicted"]).all()
    accuracy = (predictions["actual"] == predictions["predicted"]).mean()
    assert scores["accuracy"] == pytest.approx(accuracy)

    history = pd.read_csv(project / "metrics" / "history.csv")
    trained = json.loads((project / "metrics" / "train.json").read_text())
    assert len(history) == trained["epochs"] == 12
    best = history.sort_values("validation_loss").iloc[0]
    assert trained["best_epoch"] == best["epoch"]
    assert "total" in (project / "models" / "layers.txt").read_text()

    pictures = list((project / "metrics" / "plots").iterdir())
    assert {path.stem for path in pictures} == set(PICTURES)
    for path in pictures:
        with Image.open(path) as picture:
            assert np.asarray(picture.convert("L")).std() > 10  # not blank


def test_no_other_files_are_left(project: Path) -> None:
    assert not list(project.rglob("*.partial"))
    assert git(project, "status", "--porcelain") == ""


def test_without_changes_no_stage_runs(project: Path) -> None:
    output = dvc(project, "repro")
    assert stages_run(output) == []
    assert "Data and pipelines are up to date." in output


def test_a_fresh_clone_gives_the_same_bytes_and_an_old_value_runs_no_stage(
    project: Path, tmp_path: Path
) -> None:
    """The folder and the number of workers differ, images stay in files, and the cache is empty."""
    twin = tmp_path / "a" / "clone of another name"
    git(tmp_path, "clone", "--quiet", project.as_posix(), twin.as_posix())
    settings = {"IMGPIPE_WORKERS": "1", "IMGPIPE_MEMORY_MIB": "0"}
    output = dvc(twin, "repro", **settings)
    assert "the images stay in their files" in output
    assert stages_run(output) == STAGES
    assert (twin / "dvc.lock").read_bytes() == (project / "dvc.lock").read_bytes()
    for path in sorted((project / "metrics").rglob("*.*")):
        assert hash_file(twin / path.relative_to(project)) == hash_file(path)
    assert git(twin, "status", "--porcelain") == ""

    params = (twin / "params.yaml").read_text()
    set_leaf(twin, "plot.dpi", 60)
    assert stages_run(dvc(twin, "repro")) == ["plot"]
    assert git(twin, "status", "--porcelain", "metrics") != ""
    (twin / "params.yaml").write_text(params)
    assert stages_run(dvc(twin, "repro")) == []
    # No stage has run: the restored pictures of `plot` equal the pictures in git.
    assert git(twin, "status", "--porcelain") == ""


def test_another_machine_gets_all_outputs_from_a_remote(project: Path, tmp_path: Path) -> None:
    clone = tmp_path / "clone"
    git(tmp_path, "clone", "--quiet", project.as_posix(), clone.as_posix())
    remote = (tmp_path / "remote").as_posix()
    for folder in (project, clone):
        dvc(folder, "remote", "add", "--local", "--default", "--force", "store", remote)
    dvc(project, "push")
    dvc(clone, "pull")
    assert dvc(clone, "status").startswith("Data and pipelines are up to date.")
    assert stages_run(dvc(clone, "repro")) == []
    assert hash_file(clone / "models" / "model.keras") == hash_file(
        project / "models" / "model.keras"
    )
    assert git(clone, "status", "--porcelain") == ""


def test_queued_experiments_run_from_a_clean_clone(project: Path, tmp_path: Path) -> None:
    """Two at a time; DVC may lose an experiment if both end at the same moment."""
    clone, binaries = tmp_path / "clone", tmp_path / "bin"
    git(tmp_path, "clone", "--quiet", project.as_posix(), clone.as_posix())
    git(clone, "config", "user.name", "test")
    git(clone, "config", "user.email", "test@localhost")
    dvc(clone, "exp", "run", "--queue", "--set-param", "training.epochs=1,12", "train")

    def both_ended() -> bool:
        status = dvc(clone, "queue", "status")
        assert "Failed" not in status, status
        return status.count("Success") == 2

    binaries.mkdir()
    start = [str(Path(sys.executable).with_name("dvc")), "queue", "start", "--jobs", "2"]
    search = os.pathsep.join([str(binaries), os.environ["PATH"]])
    # The workers keep the log open.
    with fork_commands(binaries), (tmp_path / "queue.log").open("w") as log:
        subprocess.run(
            start, cwd=clone, env={**os.environ, "PATH": search}, stdout=log, stderr=log, check=True
        )
        wait_until(both_ended, pause_s=5)
    epochs = set()
    for ref in git(clone, "for-each-ref", "--format=%(refname)", "refs/exps").split():
        if "stash" not in ref and "celery" not in ref:
            epochs.add(json.loads(git(clone, "show", f"{ref}:metrics/train.json"))["epochs"])
    assert epochs == {1, 12}


@pytest.mark.parametrize(
    ("network", "method"),
    [("mlp", "training"), ("resnet", "training"), ("efficientnet_lite0", "transfer")],
)
@pytest.mark.slow  # the tests of the command `photographs` run all stages with `transfer`
def test_other_networks_run_through_all_stages(project: Path, network: str, method: str) -> None:
    output = dvc(
        project, "exp", "run", "--temp", "--name", f"try-{network}",
        "--set-param", f"network={network}", "--set-param", f"method={method}",
        "--set-param", "training.epochs=1",
    )  # fmt: skip
    assert stages_run(output) == ["train", "evaluate", "plot"]
    (ref,) = [
        ref
        for ref in git(project, "for-each-ref", "--format=%(refname)", "refs/exps").split()
        if ref.endswith(f"/try-{network}")
    ]
    pictures = git(project, "ls-tree", "-r", "--name-only", ref, "metrics/plots/")
    without_maps = {"feature_maps"} if network == "mlp" else set()
    assert {Path(line).stem for line in pictures.split()} == set(PICTURES) - without_maps


@pytest.mark.slow  # `.ci/run` runs the pipeline on MNIST, too
def test_one_parameter_selects_another_dataset(project: Path, mirror: Path) -> None:
    """In a temporary copy, a relative path of a mirror is relative to the project."""
    output = dvc(
        project, "exp", "run", "--temp", "--name", "try-fashion",
        "--set-param", "dataset=fashion_mnist", "--set-param", "training.epochs=1",
        DATASET_MIRROR=os.path.relpath(mirror, project),
    )  # fmt: skip
    assert stages_run(output) == STAGES
    assert "fashion_mnist" in dvc(project, "params", "diff", "HEAD", "try-fashion")
    assert "accuracy" in dvc(project, "metrics", "diff", "HEAD", "try-fashion")


@pytest.fixture(scope="module")
def tried(finished: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the project with an experiment that must be worse; the workspace is as before."""
    folder = copy_project(finished, tmp_path_factory.mktemp("tried") / "project")
    lock = (folder / "dvc.lock").read_text()
    scores = (folder / "metrics" / "test.json").read_text()
    output = dvc(
        folder, "exp", "run", "--name", "weak", "--set-param", "training.learning_rate=1e-7"
    )
    assert stages_run(output) == ["train", "evaluate", "plot"]
    assert (folder / "metrics" / "test.json").read_text() != scores
    git(folder, "restore", "params.yaml")
    assert stages_run(dvc(folder, "repro")) == []  # all outputs come from the cache
    assert (folder / "metrics" / "test.json").read_text() == scores
    assert (folder / "dvc.lock").read_text() == lock
    return folder


def test_two_runs_are_compared_by_their_predictions_in_the_cache(tried: Path) -> None:
    found = json.loads(tool(tried, "compare", "HEAD", "weak", "--json", "--html", "page.html"))
    assert found["verdict"] == "worse"
    assert found["made_by"] == {
        "parameters": {"training.learning_rate": [0.002, 1e-7]},
        "libraries": {}, "sources": [], "data": [],
    }  # fmt: skip
    scores = json.loads(git(tried, "show", "HEAD:metrics/test.json"))
    assert found["scores"].keys() == scores.keys() - {"accuracy_low", "accuracy_high", "images"}
    for name, score in found["scores"].items():
        assert score["first"] == pytest.approx(scores[name], abs=1e-6)
    page = (tried / "page.html").read_text()
    pictures = re.findall('src="data:image/png;base64,([^"]*)"', page)
    assert len(pictures) == (len(found["won"]) > 0) + 1
    for picture in pictures:
        with Image.open(BytesIO(base64.b64decode(picture))) as gallery:
            assert np.asarray(gallery.convert("L")).std() > 10
    assert f"{len(found['lost'])} images that only HEAD gets right" in page
    assert git(tried, "status", "--porcelain") == "?? page.html\n"


def test_experiments_are_ranked_and_one_is_applied(tried: Path) -> None:
    lines = tool(tried, "leaderboard").splitlines()
    assert lines[0] == "digits"
    assert lines[2].split()[-2:] == ["0.002", "HEAD"]
    assert lines[3].split()[-2:] == ["1e-07", "weak"]
    shown = dvc(tried, "exp", "show", "--only-changed", "--hide-queued", "--csv")
    assert "validation_accuracy" in shown.splitlines()[0]
    dvc(tried, "exp", "apply", "weak")
    assert stages_run(dvc(tried, "repro")) == []
    assert json.loads(tool(tried, "compare", "weak", "--json"))["mcnemar_p_value"] == 1
    git(tried, "checkout", "--quiet", ".")
    dvc(tried, "checkout")
    assert stages_run(dvc(tried, "repro")) == []


@pytest.mark.parametrize(
    "command", [["summary"], ["compare", "HEAD", "weak"], ["leaderboard"]], ids=" ".join
)
def test_commands_print_no_long_lines(tried: Path, command: list[str]) -> None:
    output = tool(tried, *command)
    assert len(output.splitlines()) > 2
    assert find_long_lines(output) == []


def test_missing_predictions_are_reported(project: Path, tmp_path: Path) -> None:
    clone = tmp_path / "clone"
    git(tmp_path, "clone", "--quiet", project.as_posix(), clone.as_posix())
    result = run_process([sys.executable, "src/compare.py", "HEAD", "HEAD"], clone)
    assert result.returncode == 1
    assert result.stderr.startswith(
        "error: HEAD: data/evaluation/predictions.csv is neither in DVC's cache nor in a remote"
    )
    assert len(result.stderr.splitlines()) == 1

    for folder in (project, clone):  # a remote that holds the predictions is enough
        remote = (tmp_path / "store").as_posix()
        dvc(folder, "remote", "add", "--local", "--default", "--force", "store", remote)
    dvc(project, "push", "data/evaluation/predictions.csv")
    assert "by accuracy: no evidence either way" in tool(clone, "compare", "HEAD", "HEAD")
    assert not (clone / "data" / "evaluation" / "predictions.csv").exists()


def test_predict_gives_the_probabilities_of_the_evaluation(project: Path, tmp_path: Path) -> None:
    table = pd.read_csv(project / "data" / "evaluation" / "predictions.csv", dtype={"actual": str})
    folder = tmp_path / "images"
    (folder / "below").mkdir(parents=True)
    images = [
        image
        for batch in Records.open(project / "data" / "records").read("test")
        for image in batch.images
    ]
    for number, image in enumerate(images):
        name = f"below/{number:03d}.png" if number % 2 else f"{number:03d}.PNG"
        Image.fromarray(image[..., 0]).save(folder / name, "PNG")
    shown = tool(project, "predict", str(folder), "--format", "csv", "--top", "10")
    found = pd.read_csv(StringIO(shown), dtype=str)
    assert len(found) == len(table) == 120
    for row in found.to_dict("records"):
        expected = table.iloc[int(Path(row["file"]).stem)]
        for rank in range(1, 11):
            probability = expected[f"p({row[f'class_{rank}']})"]
            assert float(row[f"probability_{rank}"]) == pytest.approx(probability, abs=1e-6)

    (folder / "notes.txt").write_text("no image")
    (folder / "damaged.jpg").write_bytes(b"damaged")
    words = ["src/predict.py", folder, "--format", "json", "--top", "1"]
    result = run_process([sys.executable, *words], project)
    assert result.returncode == 1
    answers = json.loads(result.stdout)
    assert len(answers) == 121
    reason = "not an image, not supported, or its beginning is damaged"
    damaged = (folder / "damaged.jpg").as_posix()
    assert [each for each in answers if "error" in each] == [{"file": damaged, "error": reason}]
    *unused, first, second = result.stderr.splitlines()
    assert " ".join(unused).startswith("not predicted: 1 file, not an image: ")
    assert first == f"error: {damaged}: {reason}"
    assert second == "error: 1 of 121 files cannot be read"


def test_dvc_draws_the_declared_plots(project: Path, tmp_path: Path) -> None:
    dvc(project, "plots", "show", "--out", (tmp_path / "page").as_posix())
    page = (tmp_path / "page" / "index.html").read_text()
    for title in ("Loss", "Accuracy", "Confusion", "Reliability"):
        assert title in page
