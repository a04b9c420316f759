"""The inputs that decide the result of a run, and the search for runs with equal inputs."""

from pathlib import Path
from typing import Any

import pytest
from support import ROOT

from imgpipe.core.errors import PipelineError
from imgpipe.core.yaml_file import read_yaml
from imgpipe.experiments.provenance import STAGES_TO_EVALUATE, STAGES_TO_TRAIN, Revision
from imgpipe.experiments.run_inputs import (
    Candidate,
    open_hasher,
    parse_lock,
    read_parameter_file,
    resolve_inputs,
)
from imgpipe.experiments.studies import StudyRun, WantedRun

MD5 = {
    "data/local/digits": "l0", "src/fetch.py": "f0", "src/train.py": "t0", "src/evaluate.py": "e0",
    "src/preprocess.py": "p0", "src/augment.py": "a0", "src/imgpipe/core": "c0.dir",
}  # fmt: skip
PIPELINE: dict[str, Any] = {
    "stages": {
        "fetch": {
            "cmd": "python src/fetch.py",
            "deps": ["data/local/${dataset}", "src/fetch.py", "src/imgpipe/core"],
            "params": ["dataset", {"data/catalog.yaml": ["${dataset}.files"]}],
            "outs": ["data/raw"],
        },
        "preprocess": {
            "cmd": "python src/preprocess.py",
            "deps": ["data/raw", "src/preprocess.py"],
            "params": ["preprocess"],
            "outs": ["data/records"],
            "metrics": [{"metrics/data.json": {"cache": False}}],
        },
        "augment": {
            "cmd": "python src/augment.py",
            "deps": ["data/records", "src/augment.py"],
            "outs": ["data/augmented"],
        },
        "train": {
            "cmd": "python src/train.py",
            "deps": ["data/records", "data/augmented", "src/train.py", "src/imgpipe/core"],
            "params": ["train", "architectures.${train.architecture}"],
            "outs": ["models/model.keras"],
            "plots": [{"metrics/history.csv": {"cache": False}}],
        },
        "evaluate": {
            "cmd": "python src/evaluate.py",
            "deps": ["data/records", "models/model.keras", "src/evaluate.py"],
            "params": ["evaluate"],
            "metrics": ["metrics/test.json"],
        },
        "plot": {"cmd": "python src/plot.py", "deps": ["src/plot.py"], "params": ["plot"]},
    }
}
PARAMETERS: dict[str, Any] = {
    "dataset": "digits",
    "preprocess": {"seed": 1},
    "train": {"architecture": "cnn", "seed": 1},
    "architectures": {"cnn": {"filters": [8]}, "mlp": {"units": [8]}},
    "evaluate": {"top_k": 3},
    "plot": {"dpi": 100},
}


def wanted_run(
    params: dict[str, Any], *, stages: tuple[str, ...] = STAGES_TO_EVALUATE, raw: str | None = "r0"
) -> WantedRun:
    catalog = {"digits": {"files": ["digits.csv"]}, "mnist": {"files": ["mnist.gz"]}}
    inputs = resolve_inputs(stages, PIPELINE, params, lambda _: catalog, MD5.__getitem__)
    return WantedRun(StudyRun(None, (), {}, params, "run"), inputs, raw, "x-run")


def make_lock() -> dict[str, Any]:
    """Return the content of dvc.lock after a run with `PARAMETERS`."""

    def entry(
        deps: dict[str, str], outs: dict[str, str], params: dict[str, Any], name: str
    ) -> dict[str, Any]:
        return {
            "cmd": f"python src/{name}.py",
            "deps": [{"path": path, "hash": "md5", "md5": md5} for path, md5 in deps.items()],
            "outs": [{"path": path, "hash": "md5", "md5": md5} for path, md5 in outs.items()],
            **({"params": params} if params else {}),
        }

    def used(*names: str) -> dict[str, str]:
        return {name: MD5[name] for name in names}

    raw, records, augmented = {"data/raw": "r0"}, {"data/records": "x0"}, {"data/augmented": "y0"}
    model = {"models/model.keras": "m0"}
    return {
        "stages": {
            "fetch": entry(
                used("data/local/digits", "src/fetch.py", "src/imgpipe/core"),
                raw,
                {
                    "params.yaml": {"dataset": "digits"},
                    "data/catalog.yaml": {"digits.files": ["digits.csv"]},
                },
                "fetch",
            ),
            "preprocess": entry(
                {**raw, **used("src/preprocess.py")},
                {**records, "metrics/data.json": "d0"},
                {"params.yaml": {"preprocess": {"seed": 1}}},
                "preprocess",
            ),
            "augment": entry({**records, **used("src/augment.py")}, augmented, {}, "augment"),
            "train": entry(
                {**augmented, **records, **used("src/imgpipe/core", "src/train.py")},
                {**model, "metrics/history.csv": "h0"},
                {
                    "params.yaml": {
                        "architectures.cnn": {"filters": [8]},
                        "train": PARAMETERS["train"],
                    }
                },
                "train",
            ),
            "evaluate": entry(
                {**records, **model, **used("src/evaluate.py")},
                {"metrics/test.json": "s0"},
                {"params.yaml": {"evaluate": {"top_k": 3}}},
                "evaluate",
            ),
            "plot": entry(
                {"src/plot.py": "old"}, {}, {"params.yaml": {"plot": {"dpi": 7}}}, "plot"
            ),
        }
    }


def make_candidate(lock: dict[str, Any]) -> Candidate:
    inputs, outputs = parse_lock(lock)
    return Candidate(Revision("some", "1" * 40), inputs, outputs["data/raw"])


def test_a_run_with_the_same_parameters_data_and_code_exists() -> None:
    assert wanted_run(PARAMETERS).is_made_by(make_candidate(make_lock()))


@pytest.mark.parametrize(
    ("changed", "exists"),
    [
        ({"train": {"architecture": "cnn", "seed": 2}}, False),
        ({"evaluate": {"top_k": 2}}, False),
        ({"architectures": {"cnn": {"filters": [9]}, "mlp": {"units": [8]}}}, False),
        ({"architectures": {"cnn": {"filters": [8]}, "mlp": {"units": [9]}}}, True),
        ({"plot": {"dpi": 50}}, True),
    ],
)
def test_only_parameters_that_the_stages_use_distinguish_runs(
    changed: dict[str, Any], exists: bool
) -> None:
    candidate = make_candidate(make_lock())
    assert wanted_run({**PARAMETERS, **changed}).is_made_by(candidate) is exists


@pytest.mark.parametrize("path", sorted(MD5))
def test_each_file_that_the_stages_use_distinguishes_runs(
    path: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    candidate = make_candidate(make_lock())
    monkeypatch.setitem(MD5, path, "another")
    assert not wanted_run(PARAMETERS).is_made_by(candidate)


def test_raw_data_distinguish_runs_if_their_hash_is_known() -> None:
    candidate = make_candidate(make_lock())
    assert not wanted_run(PARAMETERS, raw="another").is_made_by(candidate)
    assert wanted_run(PARAMETERS, raw=None).is_made_by(candidate)


def test_a_lock_entry_of_an_earlier_commit_does_not_count() -> None:
    lock = make_lock()
    (model,) = (each for each in lock["stages"]["train"]["outs"] if "model" in each["path"])
    model["md5"] = "trained again, but not evaluated"
    candidate = make_candidate(lock)
    assert not wanted_run(PARAMETERS).is_made_by(candidate)
    assert wanted_run(PARAMETERS, stages=STAGES_TO_TRAIN).is_made_by(candidate)
    del lock["stages"]["evaluate"]
    assert wanted_run(PARAMETERS, stages=STAGES_TO_TRAIN).is_made_by(make_candidate(lock))
    del lock["stages"]["preprocess"]
    candidate = make_candidate(lock)
    assert not wanted_run(PARAMETERS, stages=STAGES_TO_TRAIN).is_made_by(candidate)


def test_another_dataset_has_its_own_inputs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(MD5, "data/local/mnist", "l1")
    fetch = wanted_run({**PARAMETERS, "dataset": "mnist"}).inputs["fetch"]
    assert fetch.files["data/local/mnist"] == "l1"
    assert "data/local/digits" not in fetch.files
    assert fetch.parameters["data/catalog.yaml"] == {"mnist.files": ["mnist.gz"]}


def test_a_dataset_that_is_not_in_the_catalog_is_named() -> None:
    with pytest.raises(PipelineError, match=r"^data/catalog.yaml: nope.files: not found; a stage"):
        wanted_run({**PARAMETERS, "dataset": "nope"})


def test_inputs_equal_the_inputs_that_dvc_records(
    monkeypatch: pytest.MonkeyPatch, params_value: dict[str, Any]
) -> None:
    from dvc.dependency import ParamsDependency
    from dvc.repo import Repo

    monkeypatch.chdir(ROOT)
    with open_hasher() as hash_file:
        inputs = resolve_inputs(
            STAGES_TO_EVALUATE,
            read_yaml(Path("dvc.yaml")),
            params_value,
            read_parameter_file,
            hash_file,
        )
    outputs = {"data/raw", "data/records", "data/augmented", "models/model.keras"}
    with Repo() as repo:
        stages = {stage.addressing: stage for stage in repo.index.stages}
        for name, found in inputs.items():
            stage = stages[name]
            files = [each for each in stage.deps if not isinstance(each, ParamsDependency)]
            assert found.files == {
                each.def_path: each.get_hash().value
                for each in files
                if each.def_path not in outputs
            }
            assert found.parameters == {
                each.def_path: each.get_hash().value
                for each in stage.deps
                if isinstance(each, ParamsDependency)
            }
            assert found.command == stage.cmd
