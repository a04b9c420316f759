"""The hash in the name of an experiment: what distinguishes two runs."""

import shutil
from datetime import date
from pathlib import Path
from typing import Any

import pytest
from support import ROOT, find_error, set_leaf

from imgpipe.core.yaml_file import read_yaml
from imgpipe.experiments import studies
from imgpipe.experiments.provenance import STAGES_TO_EVALUATE
from imgpipe.experiments.studies import hash_inputs
from imgpipe.running.entry import read_entries


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The files that declare the stages, as working directory."""
    (tmp_path / "data").mkdir()
    for name in ("dvc.yaml", "params.yaml", "pyproject.toml", "data/catalog.yaml"):
        shutil.copy(ROOT / name, tmp_path / name)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def name_run(params: dict[str, Any], data: str = "1") -> str:
    return hash_inputs(read_entries(STAGES_TO_EVALUATE, params).values(), lambda path: path + data)


@pytest.mark.parametrize(
    ("key", "value", "is_used"),
    [
        ("training.seed", 2, True),
        ("evaluate.top_k", 2, True),
        ("dataset", "mnist", True),
        ("networks.cnn.kernel_px", 5, True),
        ("networks.mlp.units", [9], False),
        ("plot.dpi", 50, False),
    ],
)
def test_only_values_that_the_stages_use_distinguish_runs(
    key: str, value: Any, is_used: bool, project: Path, params_value: dict[str, Any]
) -> None:
    before = name_run(params_value)
    set_leaf(project, key, value)
    assert (name_run(read_yaml(project / "params.yaml")) != before) is is_used


def test_code_libraries_and_data_distinguish_runs(
    project: Path, params_value: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    names = {name_run(params_value), name_run(params_value, data="2")}
    pins = project / "pyproject.toml"
    pins.write_text(pins.read_text().replace('"keras==', '"keras==9'))
    names.add(name_run(params_value))
    monkeypatch.setattr(studies, "hash_sources", lambda *places: {"train.py": "edited"})
    names.add(name_run(params_value))
    set_leaf(project, "digits.format.kind", date(2024, 1, 31), "data/catalog.yaml")
    names.add(name_run(params_value))  # `fetch` then reports the value
    assert len(names) == 5


def test_missing_data_are_named(project: Path) -> None:
    entries = read_entries(STAGES_TO_EVALUATE).values()
    assert find_error(hash_inputs, entries, lambda path: None) == (
        "data/local/digits: not found; if DVC tracks this file, run `dvc checkout` or `dvc pull`"
    )
