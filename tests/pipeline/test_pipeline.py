"""All stages run by DVC, in a clone of the project, on small real data."""

import base64
import json
import os
import re
import subprocess
import sys
import tarfile
from io import BytesIO, StringIO
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from support import (
    ROOT,
    STAGES,
    copy_project,
    dvc,
    find_long_lines,
    git,
    hash_file,
    make_copy,
    set_leaf,
    stages_run,
    tool,
    wait_until,
)

from imgpipe.core.yaml_file import format_yaml, read_yaml
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


@pytest.mark.slow  # tests/pipeline/test_reruns.py checks all values
def test_a_changed_value_of_an_early_stage_reruns_the_later_stages(
    project: Path, tmp_path: Path
) -> None:
    folder = copy_project(project, tmp_path / "project")
    scores = (folder / "metrics" / "test.json").read_text()
    set_leaf(folder, "preprocess.seed", 2)
    assert stages_run(dvc(folder, "repro")) == STAGES[1:]
    assert (folder / "metrics" / "test.json").read_text() != scores


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
    clone = tmp_path / "clone"
    git(tmp_path, "clone", "--quiet", project.as_posix(), clone.as_posix())
    git(clone, "config", "user.name", "test")
    git(clone, "config", "user.email", "test@localhost")
    dvc(clone, "exp", "run", "--queue", "--set-param", "training.epochs=range(1,3)", "train")
    log = tmp_path / "queue.log"
    with log.open("w") as stream:  # the workers keep this file open
        subprocess.run(
            ["dvc", "queue", "start", "--jobs", "2"], cwd=clone, stdout=stream, stderr=stream,
            check=True,
        )  # fmt: skip

    def both_ended() -> bool:
        status = dvc(clone, "queue", "status")
        assert "Failed" not in status, status
        return status.count("Success") == 2

    wait_until(both_ended, pause_s=5)
    epochs = set()
    for ref in git(clone, "for-each-ref", "--format=%(refname)", "refs/exps").split():
        if "stash" not in ref and "celery" not in ref:
            epochs.add(json.loads(git(clone, "show", f"{ref}:metrics/train.json"))["epochs"])
    assert epochs == {1, 2}


@pytest.mark.parametrize(
    ("network", "method"),
    [("mlp", "training"), ("resnet", "training"), ("efficientnet_lite0", "transfer")],
)
@pytest.mark.slow  # the test of the guide to photographs runs all stages with `transfer`
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


def test_the_steps_of_the_guide_to_photographs_work(tmp_path: Path) -> None:
    """Five classes of photographs need four lines and the commands of the guide, but no code."""
    folder = make_copy(tmp_path / "project")
    guide = (ROOT / "docs" / "photographs.md").read_text()
    (entry,) = re.findall(r"```yaml\n(leaves:\n.*?)```", guide, re.DOTALL)
    assert len(entry.splitlines()) == 4
    with (folder / "data" / "catalog.yaml").open("a") as stream:
        stream.write("\n" + entry)
    generator = np.random.default_rng(0)
    for number, name in enumerate(("birch", "elm", "maple", "oak", "pine")):
        (folder / "data" / "local" / "leaves" / name).mkdir(parents=True)
        for image in range(30):
            pixels = generator.integers(0, 120, (128, 128, 3), dtype=np.uint8)
            # The place of a bright stripe shows the class.
            pixels[:, 20 * number : 20 * number + 30] += 130
            path = folder / "data" / "local" / "leaves" / name / f"IMG_{image}.jpg"
            Image.fromarray(pixels).save(path)
    assert git(folder, "status", "--porcelain") == " M data/catalog.yaml\n"
    # `PYTHON=true` skips the set-up: the tests run in a complete environment.
    command = ["make", "PYTHON=true", "recipe", "NAME=photographs"]
    subprocess.run(command, cwd=folder, check=True)
    changes = [
        "dataset=leaves",
        "training.epochs=8",
        "preprocess.height_px=64",
        "preprocess.width_px=64",
    ]
    output = dvc(folder, "exp", "run", *(f"--set-param={change}" for change in changes))
    assert stages_run(output) == STAGES
    scores = json.loads((folder / "metrics" / "test.json").read_text())
    assert scores["images"] == 30
    assert scores["accuracy"] > 0.6  # chance is 0.2
    drawn = {path.stem for path in (folder / "metrics" / "plots").iterdir()}
    assert drawn == set(PICTURES) - {"augmentation"}  # the recipe makes no copies

    photographs = folder / "data" / "local" / "leaves"
    table = pd.read_csv(folder / "data" / "evaluation" / "predictions.csv")
    files = [str(photographs / identity.partition("leaves/")[2]) for identity in table["identity"]]
    for prediction, (_, row) in zip(
        json.loads(tool(folder, "predict", *files, "--format", "json", "--top", "5")),
        table.iterrows(),
        strict=True,
    ):
        for answer in prediction["classes"]:
            expected = row[f"p({answer['class']})"]
            assert answer["probability"] == pytest.approx(expected, abs=1e-6)

    (folder / "data" / "local" / "leaves" / "oak" / ".DS_Store").write_bytes(b"litter")
    assert stages_run(dvc(folder, "repro")) == []
    (folder / "data" / "local" / "leaves" / "oak" / "IMG_3.jpg").unlink()
    assert stages_run(dvc(folder, "repro", "preprocess")) == ["fetch", "preprocess"]
    data = json.loads((folder / "metrics" / "data.json").read_text())
    assert sum(split["images"] for split in data["splits"]) == 149

    # A temporary copy of the project has the folder after `dvc add`.
    dvc(folder, "add", "data/local/leaves")
    dvc(folder, "repro", "preprocess")
    git(folder, "add", "--all")
    git(folder, "commit", "--quiet", "--message", "leaves")
    output = dvc(folder, "exp", "run", "--temp", "--set-param=preprocess.fit=pad", "preprocess")
    assert stages_run(output) == ["preprocess"]


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
    result = subprocess.run(
        [sys.executable, "src/compare.py", "HEAD", "HEAD"],
        cwd=clone, capture_output=True, text=True, check=False,
    )  # fmt: skip
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

    (folder / "damaged.jpg").write_bytes(b"damaged")
    (folder / "notes.txt").write_text("no image")
    result = subprocess.run(
        [sys.executable, "src/predict.py", str(folder), "--format", "json", "--top", "1"],
        cwd=project, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert result.returncode == 1
    answers = json.loads(result.stdout)
    assert len(answers) == 121
    reason = "not an image, or its beginning is damaged"
    damaged = (folder / "damaged.jpg").as_posix()
    assert [each for each in answers if "error" in each] == [{"file": damaged, "error": reason}]
    *unused, first, second = result.stderr.splitlines()
    assert " ".join(unused).startswith("not predicted: 1 file, not an image: ")
    assert first == f"error: {damaged}: {reason}"
    assert second == "error: 1 of 121 files cannot be read"


def read_json(path: Path) -> Any:
    return json.loads(path.read_text())


@pytest.mark.slow
def test_the_flowers_recipe_runs_on_a_small_folder(tmp_path: Path) -> None:
    """An archive with the folders of the real one has a few small pictures of each class."""
    folder = make_copy(tmp_path / "project")
    catalog = read_yaml(folder / "data" / "catalog.yaml")
    classes = catalog["flowers"]["format"]["classes"]
    assert len(classes) == 5
    images = tmp_path / "flower_photos"
    generator = np.random.default_rng(0)
    for number, name in enumerate(classes):
        (images / name).mkdir(parents=True)
        for image in range(20 + 4 * number):  # unbalanced, as the real dataset
            pixels = generator.integers(0, 120, (60, 80, 3), dtype=np.uint8)
            pixels[..., number % 3] += 100
            pixels[:30, :, (number + 1) % 3] += 80 * (number // 3)
            Image.fromarray(pixels).save(images / name / f"{image}.jpg")
    (images / "LICENSE.txt").write_text("as in the real archive")
    mirror = tmp_path / "mirror" / "flowers"
    mirror.mkdir(parents=True)
    archive = mirror / "flower_photos.tgz"
    with tarfile.open(archive, "w:gz") as tar:
        tar.add(images, "flower_photos")
    (file,) = catalog["flowers"]["files"]
    file |= {"bytes": archive.stat().st_size, "sha256": hash_file(archive)}
    (folder / "data" / "catalog.yaml").write_text(format_yaml(catalog))
    command = ["make", "PYTHON=true", "recipe", "NAME=flowers"]
    subprocess.run(command, cwd=folder, check=True)
    set_leaf(folder, "training.epochs", 12)
    output = dvc(folder, "repro", DATASET_MIRROR=(tmp_path / "mirror").as_posix())
    assert stages_run(output) == STAGES
    scores = read_json(folder / "metrics" / "test.json")
    assert scores["images"] == 28
    assert scores["accuracy"] > 0.4  # chance is 0.2
    assert read_json(folder / "metrics" / "train.json")["parameters"] == 246_773


def test_dvc_draws_the_declared_plots(project: Path, tmp_path: Path) -> None:
    dvc(project, "plots", "show", "--out", (tmp_path / "page").as_posix())
    page = (tmp_path / "page" / "index.html").read_text()
    for title in ("Loss", "Accuracy", "Confusion", "Reliability"):
        assert title in page
