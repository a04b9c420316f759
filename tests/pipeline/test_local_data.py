"""Datasets of the user with DVC: the dependencies of `fetch`, in the workspace and in a copy."""

import json
import re
import subprocess
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from forks import import_libraries, run_process
from PIL import Image
from support import (
    ROOT,
    STAGES,
    dvc,
    find_long_lines,
    git,
    hash_file,
    make_copy,
    set_leaf,
    stages_run,
    tool,
)

from imgpipe.core.yaml_file import format_yaml, parse_yaml, read_yaml

pytestmark = pytest.mark.e2e

CLASSES = ("elm", "oak")
IMAGES_PER_CLASS = 5


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A copy of the project in its own repository."""
    return make_copy(tmp_path / "project")


def write_images(folder: Path, per_class: int = IMAGES_PER_CLASS) -> Path:
    """Write small images, each in the folder of its class."""
    for label, name in enumerate(CLASSES):
        (folder / name).mkdir(parents=True)
        for number in range(per_class):
            write_image(folder / name / f"{number}.png", seed=per_class * label + number)
    return folder


def write_image(path: Path, seed: int) -> None:
    pixels = np.random.default_rng(seed).integers(0, 256, (8, 8, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(path)


def choose_own(project: Path, **entry: Any) -> None:
    """Add the dataset `leaves` to the catalog, and choose it."""
    catalog = read_yaml(project / "data" / "catalog.yaml")
    catalog["leaves"] = {"title": "Leaves", "format": {"kind": "image_folder"}, **entry}
    (project / "data" / "catalog.yaml").write_text(format_yaml(catalog))
    set_leaf(project, "dataset", "leaves")


def commit(project: Path) -> None:
    git(project, "add", "--all")
    git(project, "commit", "--quiet", "--allow-empty", "--message", "change")


def attempt_repro(project: Path) -> subprocess.CompletedProcess[str]:
    """Run `fetch` by DVC, which may fail."""
    import_libraries()
    return run_process(["dvc", "repro", "fetch"], project)


def test_other_files_in_data_local_run_no_stage(project: Path) -> None:
    assert stages_run(dvc(project, "repro", "fetch")) == ["fetch"]
    commit(project)
    write_images(project / "data" / "local" / "another")
    (project / "data" / "local" / "stray.jpg").write_bytes(b"stray")
    assert dvc(project, "status", "fetch") == "Data and pipelines are up to date.\n"
    assert stages_run(dvc(project, "repro", "fetch")) == []
    assert git(project, "status", "--short") == ""


def test_a_folder_that_dvc_tracks_also_works_in_a_temporary_copy(project: Path) -> None:
    """The entry of the catalog is the one in the guide to photographs."""
    folder = write_images(project / "data" / "local" / "leaves")
    guide = (ROOT / "docs" / "photographs.md").read_text()
    (entry,) = re.findall(r"```yaml\nleaves:\n(.*?)```", guide, re.DOTALL)
    choose_own(project, **parse_yaml(entry, "the guide"))
    dvc(project, "add", "data/local/leaves")
    commit(project)
    assert git(project, "ls-files", "data/local/leaves.dvc").strip() == "data/local/leaves.dvc"
    output = dvc(project, "exp", "run", "--temp", "--name", "own", "preprocess")
    assert stages_run(output) == ["fetch", "preprocess"]
    assert "fetch: leaves: 10 files in data/local/leaves, packed: " in output
    assert not (project / "data" / "raw").exists()  # the workspace is untouched
    references = git(project, "for-each-ref", "--format=%(refname)", "refs/exps").split()
    (experiment,) = [name for name in references if name.endswith("/own")]
    data = json.loads(git(project, "show", f"{experiment}:metrics/data.json"))
    assert sum(split["images"] for split in data["splits"]) == 10

    dvc(project, "repro", "fetch")
    assert dvc(project, "status", "fetch") == "Data and pipelines are up to date.\n"
    (folder / "elm" / "0.png").unlink()
    assert "changed" in dvc(project, "status", "fetch")


def test_a_download_entry_of_the_user_works_with_a_placeholder(
    project: Path, tmp_path: Path
) -> None:
    images = write_images(tmp_path / "images")
    path = tmp_path / "server" / "leaves.zip"
    path.parent.mkdir()
    with zipfile.ZipFile(path, "w") as archive:
        for image in sorted(images.rglob("*.png")):
            archive.write(image, image.relative_to(images).as_posix())
    file = {"name": path.name, "bytes": path.stat().st_size, "sha256": hash_file(path)}
    choose_own(project, license="", citation="", urls=[path.parent.as_uri()], files=[file])

    without = attempt_repro(project)
    assert without.returncode != 0
    missing = project / "data" / "local" / "leaves"
    assert f"No such file or directory: '{missing.as_posix()}'" in without.stderr
    assert "Traceback" not in without.stderr

    missing.touch()
    git(project, "add", "--force", "data/local/leaves")
    commit(project)
    output = dvc(project, "repro", "preprocess")
    assert stages_run(output) == ["fetch", "preprocess"]
    assert "preprocess: leaves: 10 images of 28 x 28 pixels, 1 channel, 2 classes" in output
    assert git(project, "ls-files", "data/local/leaves").strip() == "data/local/leaves"


def test_a_folder_without_the_name_of_its_dataset_is_refused_in_one_line(project: Path) -> None:
    write_images(project / "data" / "local" / "photographs")
    (project / "data" / "local" / "leaves").touch()
    choose_own(project, files="data/local/photographs")
    result = attempt_repro(project)
    assert result.returncode != 0
    lines = [line for line in result.stderr.splitlines() if line.startswith("error: ")]
    assert lines == [
        "error: data/catalog.yaml: leaves.files: expected data/local/leaves, because your own"
        " folder has the name of its dataset, or data/local/leaves/manifest.csv; found"
        " 'data/local/photographs'; rename the folder, or the entry"
    ]
    assert "Traceback" not in result.stderr


def test_runs_before_and_after_a_new_image_are_compared(project: Path) -> None:
    folder = write_images(project / "data" / "local" / "leaves", per_class=20)
    choose_own(project, files="data/local/leaves")
    set_leaf(project, "training.epochs", 1)
    set_leaf(project, "augment.copies", 0)
    assert stages_run(dvc(project, "repro", "evaluate")) == STAGES[:5]
    commit(project)
    # The hash of this name puts the image into the test split, and moves another image out.
    write_image(folder / "elm" / "late.png", seed=999)
    assert stages_run(dvc(project, "repro", "evaluate")) == STAGES[:5]
    predictions = (project / "data/evaluation/predictions.csv").read_text()
    assert "data/local/leaves/elm/late.png" in predictions
    text = tool(project, "compare")
    assert find_long_lines(text) == []
    unwrapped = " ".join(text.split())
    assert unwrapped.startswith(
        "note: the test sets differ: the comparison is on the 7 images that both have with the same"
        " class, 7 of 8 in HEAD and 7 of 8 in workspace "
    )
    assert "Of 7 test images, " in unwrapped
    assert "Data that differ: data/raw, data/records.\n" in text
    value = json.loads(tool(project, "compare", "--json", "--html", "page.html"))
    assert value["images"] == 7
    assert value["made_by"]["parameters"] == {}
    assert (project / "page.html").read_text().count("data:image/png;base64,") == 2
