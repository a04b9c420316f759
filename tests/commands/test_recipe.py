"""The command `recipe`: what it prints and writes."""

import shutil
from pathlib import Path

import pytest
from support import ROOT, attempt, hash_files, run, set_leaf

from imgpipe.core.yaml_file import read_yaml


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A folder with a copy of the recipes, and params.yaml with the defaults."""
    shutil.copytree(ROOT / "recipes", tmp_path / "recipes")
    shutil.copy(ROOT / "recipes" / "defaults.yaml", tmp_path / "params.yaml")
    return tmp_path


def test_a_recipe_is_written_to_the_params_file(project: Path) -> None:
    set_leaf(project, "training.seed", 7)
    printed = run(project, "recipe", "mnist_mlp").splitlines()
    assert printed[1:3] == ["  training.seed: 7", "params.yaml: mnist_mlp, 10 values changed"]
    assert read_yaml(project / "params.yaml")["network"] == "mlp"


@pytest.mark.parametrize("arguments", [["mnist_mpl"], [""], []])
def test_an_unknown_or_missing_name_is_one_line(arguments: list[str], project: Path) -> None:
    before = hash_files(project)
    result = attempt(project, "recipe", *arguments)
    assert (result.returncode, result.stdout) == (1, "")
    assert result.stderr.startswith("error: recipes: expected the name of a recipe; found '")
    assert result.stderr.count("\n") == 1
    assert hash_files(project) == before


def test_the_generated_files_are_those_in_git(project: Path) -> None:
    before = hash_files(project)
    (project / "recipes" / "effective.json").unlink()
    assert run(project, "recipe", "--generate") == ""
    assert hash_files(project) == before
