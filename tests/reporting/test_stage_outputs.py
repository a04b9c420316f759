from collections.abc import Callable
from pathlib import Path

import pytest

from imgpipe.core.errors import PipelineError
from imgpipe.reporting.stage_outputs import StageOutputs

FILES = {
    "augmented": "data/augmented/info.json",
    "data": "metrics/data.json",
    "history": "metrics/history.csv",
    "info": "data/records/info.json",
    "layers": "models/layers.txt",
    "per_class": "metrics/per_class.csv",
    "predictions": "data/evaluation/predictions.csv",
    "reliability": "metrics/reliability.csv",
    "roc": "data/evaluation/roc.csv",
    "scores": "metrics/test.json",
    "trained": "metrics/train.json",
    "training_examples": "data/training/examples.npz",
    "views": "data/evaluation/views.npz",
}


@pytest.mark.parametrize(("name", "file"), FILES.items())
def test_a_file_is_read_once_and_a_missing_one_is_named(
    name: str, file: str, make_outputs: Callable[..., StageOutputs]
) -> None:
    outputs = make_outputs()
    value = getattr(outputs, name)
    Path(file).unlink()
    assert getattr(outputs, name) is value
    with pytest.raises(PipelineError, match=rf"^{file}: not found; `dvc repro`"):
        getattr(StageOutputs(outputs.params), name)


@pytest.mark.parametrize(("label", "name"), [("class ", "00"), ("class 0", "NA")])
def test_names_of_classes_stay_text(
    label: str, name: str, make_outputs: Callable[..., StageOutputs]
) -> None:
    outputs = make_outputs()
    for file in ("metrics/per_class.csv", "data/evaluation/roc.csv"):
        path = Path(file)
        path.write_text(path.read_text().replace(label, name))
    expected = [f"class {number}".replace(label, name) for number in range(4)]
    assert outputs.per_class["class"].tolist() == expected
    assert set(outputs.roc["class"]) == set(expected)
