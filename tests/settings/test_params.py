"""The whole of params.yaml: each stage checks all sections before anything heavy is imported."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from support import ROOT, SRC, STAGES, change_params, find_error, leaves, set_leaf, set_params

from imgpipe.core.errors import PipelineError
from imgpipe.core.schema import check
from imgpipe.settings.params import Params, format_value, load_params


def test_the_committed_params_are_valid() -> None:
    params = load_params(ROOT / "params.yaml")
    assert params.dataset == "digits"
    assert params.network_settings == params.networks.cnn
    assert params.method_settings == params.training


def test_the_sections_have_the_keys_of_the_file(params_value: dict[str, Any]) -> None:
    assert check(Params, params_value, "params.yaml").model_dump() == params_value


@pytest.mark.parametrize(
    ("key", "value", "expected"),
    [
        ("arithmetics.native.threads", 0, "expected a number of at least 1; found 0"),
        ("dataset", 3, "expected text in quotes; found 3"),
        ("allow_unpinned", "no", "expected true or false; found 'no'"),
        ("preprocess.channels", 2, "expected 1 or 3; found 2"),
        ("augment.copies", 100, "expected a number of at most 99; found 100"),
        ("training.learning_rate", 0.0, "expected a number greater than 0; found 0.0"),
        ("networks.resnet.blocks_per_stage", 1.5, "expected a whole number; found 1.5"),
        ("evaluate.top_k", 1, "expected a number of at least 2; found 1"),
        ("plot.dpi", 10, "expected a number of at least 40; found 10"),
        ("plot", 3, "expected a mapping of keys to values; found 3"),
    ],
)
def test_a_mistake_in_any_section_is_reported_with_its_key(
    tmp_path: Path, params_value: dict[str, Any], key: str, value: Any, expected: str
) -> None:
    set_params(tmp_path, params_value)
    set_leaf(tmp_path, key, value)
    message = find_error(load_params, tmp_path / "params.yaml")
    assert message.removeprefix(f"{tmp_path.as_posix()}/") == f"params.yaml: {key}: {expected}"


def test_every_key_is_required(params_value: dict[str, Any]) -> None:
    for dotted, _ in leaves(params_value):
        value = json.loads(json.dumps(params_value))
        *path, last = dotted.split(".")
        section = value
        for key in path:
            section = section[key]
        del section[last]
        with pytest.raises(PipelineError, match=f"^params.yaml: {dotted}: this key is missing$"):
            check(Params, value, "params.yaml")


@pytest.mark.parametrize(
    ("name", "value", "without"),
    [
        ("replicas", 2, "1"),
        ("precision", "mixed_bfloat16", "float32"),
        ("random_rotation_deg", 5.0, "0.0"),
    ],
)
def test_exact_arithmetic_refuses_values_of_the_training_that_it_does_not_have(
    tmp_path: Path, params_value: dict[str, Any], name: str, value: Any, without: str
) -> None:
    set_params(tmp_path, params_value)
    set_leaf(tmp_path, f"training.{name}", value)
    path = tmp_path / "params.yaml"
    assert find_error(load_params, path) == (
        f"{path.as_posix()}: training.{name}: arithmetic exact has only {without}; found {value};"
        " choose arithmetic native"
    )
    set_leaf(tmp_path, "arithmetic", "native")
    assert getattr(load_params(path).training, name) == value


def test_several_replicas_exclude_float16() -> None:
    native = change_params(
        arithmetic="native", training__replicas=2, training__precision="mixed_bfloat16"
    )
    assert native.training.replicas == 2
    with pytest.raises(ValueError, match=r"mixed_float16 needs training\.replicas 1"):
        change_params(native, training__precision="mixed_float16")


ANOTHER_KEY = {
    "fetch": "plot.samples_per_class",
    "preprocess": "training.epochs",
    "augment": "evaluate.calibration_bins",
    "train": "plot.mistakes",
    "evaluate": "preprocess.height_px",
    "plot": "networks.cnn.kernel_px",
}
# Runs a stage in each folder of that name; prints how each ends, and which libraries are loaded.
RUN_STAGES = """
import json, os, runpy, sys
ends = {}
for path in sys.argv[1:]:
    stage = os.path.basename(path).removesuffix(".py")
    sys.argv = [path]
    os.chdir(stage)
    try:
        runpy.run_path(path, run_name="__main__")
    except SystemExit as stop:
        ends[stage] = stop.code
    os.chdir("..")
heavy = sorted({"tensorflow", "keras", "pandas", "matplotlib"} & set(sys.modules))
print(json.dumps([ends, heavy]))
"""


def test_a_mistake_in_another_section_stops_each_stage_before_it_starts(
    tmp_path: Path, params_value: dict[str, Any]
) -> None:
    for stage, key in ANOTHER_KEY.items():
        (tmp_path / stage).mkdir()
        set_params(tmp_path / stage, params_value)
        set_leaf(tmp_path / stage, key, -1)
    result = subprocess.run(  # in a new process, which has loaded nothing
        [sys.executable, "-c", RUN_STAGES, *(SRC / f"{stage}.py" for stage in STAGES)],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(SRC)},
        capture_output=True,
        text=True,
        check=True,
    )
    ends, heavy = json.loads(result.stdout)
    assert ends == {
        stage: f"error: params.yaml: {key}: expected a number of at least 1; found -1"
        for stage, key in ANOTHER_KEY.items()
    }
    assert heavy == []
    for stage in STAGES:
        assert [path.name for path in (tmp_path / stage).iterdir()] == ["params.yaml"]


@pytest.mark.parametrize(
    ("value", "text"),
    [("same", "same"), (True, "true"), (0.002, "0.002"), ([32, 64], "[32, 64]"), (3, "3")],
)
def test_values_are_shown_as_params_yaml_writes_them(value: object, text: str) -> None:
    assert format_value(value) == text
