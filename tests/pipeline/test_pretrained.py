"""A pretrained network from a folder of photographs to its predictions, stage by stage."""

import shutil
from pathlib import Path

import numpy as np
import pytest
from forks import import_libraries
from support import ROOT, STAGES, TRANSFER_PARAMS, attempt, hash_files, write_photographs

from imgpipe.core.yaml_file import format_yaml
from imgpipe.evaluation.views import read_views

pytestmark = pytest.mark.e2e

IMAGES = {"left": 20, "right": 20}
OUTPUTS = ("data/training", "data/evaluation", "models", "metrics")


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project in which all stages have run; features are stored below its folder `.dvc`."""
    folder = tmp_path_factory.mktemp("project")
    write_photographs(folder / "data" / "local" / "stripes", IMAGES, side_px=64)
    entry = {"title": "S", "files": "data/local/stripes", "format": {"kind": "image_folder"}}
    (folder / "data" / "catalog.yaml").write_text(format_yaml({"stripes": entry}))
    value = TRANSFER_PARAMS.model_dump()
    value["dataset"] = "stripes"
    value["preprocess"] |= {"height_px": 64, "width_px": 64}
    value["augment"]["copies"] = 1
    (folder / "params.yaml").write_text(format_yaml(value))
    for name in ("pyproject.toml", "dvc.yaml"):
        shutil.copy(ROOT / name, folder)
    (folder / ".dvc").mkdir()
    import_libraries()
    for stage in STAGES:
        run_stage(folder, stage)
    return folder


def run_stage(folder: Path, stage: str) -> str:
    """Run a stage that must succeed; return what it prints."""
    result = attempt(folder, stage)
    assert result.returncode == 0, result.stderr  # TensorFlow writes to stderr
    return result.stdout


def hash_outputs(project: Path) -> dict[str, dict[str, str]]:
    return {name: hash_files(project / name) for name in OUTPUTS}


def test_training_on_stored_features_gives_the_same_bytes_again(project: Path) -> None:
    expected = hash_outputs(project)
    for name in ("data/training", "models"):
        shutil.rmtree(project / name)
    # 28 images to train on and their copies.
    assert "features of 56 images: 0 computed now" in run_stage(project, "train")
    assert hash_outputs(project) == expected
    assert expected["models"].keys() == {"model.keras", "layers.txt"}


def test_without_stored_features_training_and_evaluation_give_the_same_bytes_again(
    project: Path,
) -> None:
    expected = hash_outputs(project)
    for name in ("data/training", "data/evaluation", "models", ".dvc/tmp"):
        shutil.rmtree(project / name)
    assert "features of 56 images: 56 computed now" in run_stage(project, "train")
    run_stage(project, "evaluate")
    assert hash_outputs(project) == expected


def test_the_model_file_predicts_photographs(project: Path) -> None:
    folder = project / "data" / "local" / "stripes"
    result = attempt(project, "predict", str(folder), "--format", "csv", "--top", "1")
    assert result.returncode == 0, result.stderr
    rows = [line for line in result.stdout.splitlines() if ".jpg" in line]
    assert len(rows) == 40
    right = [Path(row.split(",")[0]).parent.name in row.split(",")[1:] for row in rows]
    assert np.mean(right) > 0.9


def test_activation_maps_and_feature_maps_of_a_pretrained_network_are_valid(project: Path) -> None:
    views = read_views(project / "data" / "evaluation" / "views.npz")
    assert views.activation_maps.shape == (len(views.images), 2, 2)
    assert views.activation_maps.min() >= 0
    assert views.activation_maps.max() == 1
    assert views.kernels.shape == (32, 3, 3, 3)
    assert (len(views.feature_maps), views.layers_with_maps) == (8, 33)
    assert all(np.isfinite(values).all() for _, values in views.feature_maps)
