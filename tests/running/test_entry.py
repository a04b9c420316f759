"""The entry of a stage in dvc.yaml, read as DVC reads it."""

from pathlib import Path
from typing import Any

import pytest
from dvc.repo import Repo
from support import STAGES, make_copy

from imgpipe.core.errors import PipelineError
from imgpipe.core.yaml_file import read_yaml
from imgpipe.running.entry import read_entries

PIPELINE = """
stages:
  train:
    cmd: python src/train.py
    deps: ["data/local/${dataset}", src/train.py, src/imgpipe/core]
    params:
      - seed
      - networks.${network}
      - data/catalog.yaml: ["${dataset}.files"]
      - pyproject.toml: [project.optional-dependencies.nn]
    outs: [models/model.keras]
    metrics: [{metrics/train.json: {cache: false}}]
"""
PARAMS = "{dataset: digits, seed: 1, network: cnn, networks: {cnn: {filters: [8]}, mlp: {}}}"


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with the files that declare a stage."""
    (tmp_path / "data").mkdir()
    for name, text in {
        "dvc.yaml": PIPELINE,
        "params.yaml": PARAMS,
        "data/catalog.yaml": "digits: {files: [digits.csv]}",
        "pyproject.toml": '[project.optional-dependencies]\nnn = ["keras==3"]\n',
    }.items():
        (tmp_path / name).write_text(text)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_an_entry_has_the_values_the_sources_and_the_libraries_of_a_stage(project: Path) -> None:
    entry = read_entries(["train"])["train"]
    assert entry.command == "python src/train.py"
    assert entry.dependencies == ["data/local/digits", "src/train.py", "src/imgpipe/core"]
    assert entry.sources == ["train.py", "imgpipe/core"]
    assert entry.values == {
        "params.yaml": {"seed": 1, "networks.cnn": {"filters": [8]}},
        "data/catalog.yaml": {"digits.files": ["digits.csv"]},
        "pyproject.toml": {"project.optional-dependencies.nn": ["keras==3"]},
    }
    assert entry.groups == ["nn"]
    assert entry.outputs == ["models/model.keras", "metrics/train.json"]


def test_other_parameters_give_other_values(project: Path) -> None:
    params = read_yaml(Path("params.yaml"))
    entry = read_entries(["train"], {**params, "network": "mlp", "seed": 2})["train"]
    assert entry.values["params.yaml"] == {"seed": 2, "networks.mlp": {}}


@pytest.mark.parametrize(
    ("file", "old", "new", "error"),
    [
        ("dvc.yaml", "  train:", "  fetch:", "dvc.yaml: stages.train: this key is missing"),
        ("params.yaml", "seed: 1, ", "", "params.yaml: seed: this key is missing, but a stage"),
        ("params.yaml", "network: cnn", "network: x", "params.yaml: networks.x: this key is"),
        ("data/catalog.yaml", "files", "file", "data/catalog.yaml: digits.files: this key is"),
    ],
)
def test_a_missing_key_is_reported(
    project: Path, file: str, old: str, new: str, error: str
) -> None:
    text = (project / file).read_text()
    assert old in text
    (project / file).write_text(text.replace(old, new))
    with pytest.raises(PipelineError) as raised:
        read_entries(["train"])["train"]
    assert str(raised.value).startswith(error)


@pytest.mark.e2e
def test_dvc_reads_the_same_entries(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(make_copy(tmp_path))
    with Repo() as repo:
        stages: dict[str, Any] = {stage.name: stage for stage in repo.index.stages}
    entries = read_entries(STAGES)
    for name in STAGES:
        entry = entries[name]
        files = [dep for dep in stages[name].deps if not hasattr(dep, "params")]
        assert entry.dependencies == [
            Path(dep.fs_path).relative_to(tmp_path).as_posix() for dep in files
        ]
        tracked = {
            Path(dep.fs_path).relative_to(tmp_path).as_posix(): dep.params
            for dep in stages[name].deps
            if hasattr(dep, "params")
        }
        assert {file: sorted(values) for file, values in entry.values.items()} == {
            file: sorted(keys) for file, keys in tracked.items()
        }
        assert sorted(entry.outputs) == sorted(
            Path(out.fs_path).relative_to(tmp_path).as_posix() for out in stages[name].outs
        )
