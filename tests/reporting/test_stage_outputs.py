import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from support import draw_predictions, find_error

from imgpipe.core.errors import PipelineError
from imgpipe.core.files import write_json
from imgpipe.evaluation import tables
from imgpipe.evaluation.metrics import score_predictions
from imgpipe.evaluation.predictions import Predictions, write_predictions
from imgpipe.evaluation.views import write_views
from imgpipe.reporting.pictures import mistakes
from imgpipe.reporting.stage_outputs import StageOutputs, read_outputs

FILES = {
    "augmented": "data/augmented/info.json",
    "data": "metrics/data.json",
    "history": "metrics/history.csv",
    "info": "data/records/info.json",
    "label_issues": "metrics/label_issues.csv",
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


def test_a_missing_file_is_named(make_outputs: Callable[..., StageOutputs]) -> None:
    params = make_outputs().params
    for file in FILES.values():
        content = Path(file).read_bytes()
        Path(file).unlink()
        with pytest.raises(PipelineError, match=rf"^{file}: not found; `dvc repro`"):
            read_outputs(params)
        Path(file).write_bytes(content)


@pytest.mark.parametrize("names", [["000", "001", "01", "1"], ["NA", "", "nan", "1e3"]])
def test_names_of_classes_stay_text(
    names: list[str], make_outputs: Callable[..., StageOutputs]
) -> None:
    predictions = draw_predictions(4, rounded=False, examples=20)
    outputs = make_outputs(predictions=replace(predictions, classes=names))
    assert outputs.per_class["class"].tolist() == names
    assert list(outputs.roc["class"].unique()) == names


def write_evaluation(predictions: Predictions, outputs: StageOutputs, folder: Path) -> None:
    """Write into a folder what `evaluate` writes about some predictions."""
    settings = outputs.params.evaluate
    (folder / "metrics").mkdir(parents=True)
    bins = settings.calibration_bins
    scores = score_predictions(
        predictions.labels, predictions.probabilities, top_k=settings.top_k, bins=bins
    )
    write_json(folder / FILES["scores"], scores)
    tables.write_class_scores(folder / FILES["per_class"], predictions)
    tables.write_reliability(folder / FILES["reliability"], predictions, bins)
    tables.write_roc(folder / FILES["roc"], predictions)
    write_predictions(folder / FILES["predictions"], predictions)
    views = replace(outputs.views, numbers=outputs.views.numbers + len(predictions.labels) - 5)
    write_views(folder / FILES["views"], views)


@pytest.mark.parametrize(
    "name", ["per_class", "predictions", "reliability", "roc", "scores", "views"]
)
@pytest.mark.parametrize(("classes", "examples"), [(4, 21), (3, 20), (4, 19)])
def test_a_file_about_other_test_images_is_refused(
    name: str, classes: int, examples: int, make_outputs: Callable[..., StageOutputs]
) -> None:
    outputs = make_outputs()
    other = draw_predictions(classes, rounded=False, examples=examples)
    write_evaluation(other, outputs, Path("other"))
    shutil.copy(Path("other") / FILES[name], FILES[name])
    if (name, classes, examples) in STILL_FITS:
        read_outputs(outputs.params)
        return
    assert find_error(read_outputs, outputs.params) == (
        f"{FILES[name]}: not about the test images in data/records; run `dvc repro evaluate`"
    )


# Files that have neither the number of images nor the classes.
STILL_FITS = {
    ("roc", 4, 21), ("roc", 4, 19), ("reliability", 3, 20), ("views", 4, 19), ("views", 3, 20),
}  # fmt: skip


def test_metrics_of_another_model_are_refused(make_outputs: Callable[..., StageOutputs]) -> None:
    outputs = make_outputs()
    predictions = draw_predictions(4, rounded=False, examples=20)
    wrong = replace(predictions, probabilities=np.roll(predictions.probabilities, 1, axis=1))
    write_evaluation(wrong, outputs, Path("other"))
    shutil.copy(Path("other") / FILES["scores"], FILES["scores"])
    assert "metrics/test.json: not about" in find_error(read_outputs, outputs.params)


def test_predictions_in_another_order_are_refused(
    make_outputs: Callable[..., StageOutputs],
) -> None:
    """Each picture of a mistake would have the caption of another one."""
    outputs = make_outputs()
    found = outputs.predictions
    order = np.random.default_rng(0).permutation(len(found.labels))
    shuffled = Predictions(
        found.classes,
        [found.identities[row] for row in order],
        found.labels[order],
        found.probabilities[order],
    )
    write_predictions(Path(FILES["predictions"]), shuffled)
    assert find_error(mistakes, read_outputs(outputs.params)) == (
        f"{FILES['predictions']}: not about the test images in data/records; run"
        " `dvc repro evaluate`"
    )
