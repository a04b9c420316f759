"""Every value of params.yaml is read by the stage that it belongs to.

A value that the code no longer reads, for example because somebody wrote a number in its place,
would be a parameter without effect. The tests run the work of each stage on a few digits and record
which fields of which section are read. Validating, printing and comparing a whole section does not
count.
"""

import copy
import json
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from forks import import_libraries, run_process
from support import ROOT, STAGES, leaves, set_params

from imgpipe.settings.image_spec import ImageSpec
from imgpipe.settings.params import load_params

STAGE_OF = {
    "dataset": "fetch",
    "allow_unpinned": "fetch",
    "method": "train",
    "network": "train",
    "arithmetic": "train",
    "arithmetics": "train",
    "preprocess": "preprocess",
    "augment": "augment",
    "training": "train",
    "transfer": "train",
    "networks": "train",
    "evaluate": "evaluate",
    "plot": "plot",
}

# Settings with which each value matters. Some exclude each other, so a stage runs several times.
CHANGES: dict[str, list[dict[str, Any]]] = {
    "fetch": [{}],
    "preprocess": [
        {"preprocess": {"max_per_class": 20, "normalization": "standardize"}},
        {"preprocess": {"max_per_class": 20, "test_fold": "2/5"}},
        {"preprocess": {"max_per_class": 20, "groups": r".*(..)"}},
    ],
    "augment": [{"augment": {"copies": 1, "brightness_range": [0.9, 1.1]}}],
    "train": [
        {"network": "mlp", "training": {"epochs": 1}},
        {"network": "resnet", "training": {"epochs": 1}},
        {"method": "transfer", "network": "efficientnet_lite0", "transfer": {"iterations": 2}},
        {
            "arithmetic": "native",
            "arithmetics": {"native": {"threads": 1}},  # as the other runs of the process have
            "training": {
                "epochs": 2,
                "learning_rate_schedule": "exponential",
                "label_smoothing": 0.1,
                "class_weights": "balanced",
                "l1_penalty": 1e-5,
                "l2_penalty": 1e-5,
                "random_flip": "horizontal",
                "random_rotation_deg": 5.0,
                "random_translation_frac": 0.1,
                "random_zoom_frac": 0.1,
                "random_contrast_frac": 0.1,
                "bootstrap": True,
            },
        },
    ],
    "evaluate": [{}],
    "plot": [{}],
}

# Runs stages in one process and records the fields that they read, as Section.field.
RECORD = """
import importlib, json, sys
from pathlib import Path
from imgpipe.core.schema import Section
from imgpipe.core.sources import hash_sources
from imgpipe.running.entry import read_entries
from imgpipe.running.stage import StageRun
from imgpipe.settings.params import load_params

reads, recording = set(), False
get = Section.__getattribute__

def record(section, name):
    if recording and name in type(section).model_fields:
        reads.add(f"{type(section).__name__}.{name}")
    return get(section, name)

Section.__getattribute__ = record
found = []
for stage, file in json.loads(sys.argv[1]):
    params = load_params(Path(file))
    script = importlib.import_module(stage)
    run = StageRun(params, read_entries([stage])[stage], hash_sources())
    recording = True
    script.main(run)
    recording = False
    found.append(sorted(reads))
    reads.clear()
Path("reads.json").write_text(json.dumps(found))
"""


def record_reads(folder: Path, stages: Sequence[str]) -> list[tuple[str, str, set[str]]]:
    """Run stages in a folder under the settings above.

    Returns:
        the stage, the method and the fields that are read, of each run.
    """
    value = json.loads(load_params(ROOT / "params.yaml").model_dump_json())
    runs, methods = [], []
    for stage in stages:
        for number, changes in enumerate(CHANGES[stage]):
            changed = copy.deepcopy(value)
            for key, new in changes.items():
                changed[key] = {**changed[key], **new} if isinstance(new, dict) else new
            run = folder / f"{stage}-{number}"
            run.mkdir()
            set_params(run, changed)
            runs.append((stage, f"{run.name}/params.yaml"))
            methods.append(changed["method"])
    # In one process: the reads of others are not recorded.
    command = [sys.executable, "-c", RECORD, json.dumps(runs)]
    result = run_process(command, folder, {"IMGPIPE_WORKERS": "1"})
    assert result.returncode == 0, result.stderr
    reads = json.loads((folder / "reads.json").read_text())
    return [
        (stage, method, set(names))
        for (stage, _), method, names in zip(runs, methods, reads, strict=True)
    ]


def find_unread(runs: Sequence[tuple[str, str, set[str]]]) -> list[str]:
    """Return the parameters that their stage, if it is among these, does not read."""
    reads: dict[str, set[str]] = {}
    for stage, _, found in runs:
        reads.setdefault(stage, set()).update(found)
    params = load_params(ROOT / "params.yaml")
    unread = []
    for dotted, value in leaves(params.model_dump()):
        if value == {}:  # a section without settings
            continue
        *path, field = dotted.split(".")
        stage = STAGE_OF[dotted.split(".")[0]]
        section: Any = params
        for name in path:
            section = getattr(section, name)
        names = {f"{type(section).__name__}.{field}"}
        if isinstance(section, ImageSpec):
            names.add(f"{ImageSpec.__name__}.{field}")
        if stage in reads and not names & reads[stage]:
            unread.append(dotted)
    return unread


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A folder with what the stages read besides params.yaml."""
    (tmp_path / "data").mkdir()
    shutil.copy(ROOT / "data" / "catalog.yaml", tmp_path / "data")
    for name in ("pyproject.toml", "params.yaml", "dvc.yaml"):
        shutil.copy(ROOT / name, tmp_path)
    return tmp_path


def test_every_section_belongs_to_a_stage(params_value: dict[str, Any]) -> None:
    assert set(STAGE_OF) == set(params_value)
    assert set(STAGE_OF.values()) == set(CHANGES)


def test_the_stages_before_training_read_their_parameters(project: Path) -> None:
    assert find_unread(record_reads(project, ["fetch", "preprocess", "augment"])) == []


@pytest.mark.e2e
def test_every_stage_reads_its_parameters(project: Path) -> None:
    import_libraries()
    runs = record_reads(project, STAGES)
    assert find_unread(runs) == []
    for stage, method, found in runs:
        if stage == "train":
            other = {"training": "Transfer", "transfer": "Training"}[method]
            assert not [name for name in found if name.startswith(f"{other}.")]


def test_a_parameter_that_is_not_read_is_found() -> None:
    fields = {"Plot.samples_per_class", "Plot.dpi"}
    assert find_unread([("plot", "training", fields)]) == ["plot.mistakes"]
    assert find_unread([("plot", "training", fields | {"Plot.mistakes"})]) == []
