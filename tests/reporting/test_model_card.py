"""Pages that are one file, and the model card."""

import base64
import itertools
import re
from html.parser import HTMLParser
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from support import ROOT

from imgpipe.datasets.catalog import load_entry
from imgpipe.records.info import RecordsInfo, SplitInfo
from imgpipe.records.normalization import Normalization
from imgpipe.reporting import pages
from imgpipe.reporting.model_card import Findings, write_model_card
from imgpipe.reporting.text_table import format_columns, format_value
from imgpipe.settings.params import load_params

PICTURES = (
    "samples", "learning_curves", "augmentation", "confusion", "roc", "reliability", "mistakes",
    "activation_maps",
)  # fmt: skip


class Page(HTMLParser):
    """What a browser is given: texts of cells, sources, and whether the tags are closed."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.cells: list[str] = []
        self.sources: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        if tag not in ("meta", "img"):
            self.open.append(tag)
        if tag in ("td", "th"):
            self.cells.append("")
        self.sources += [value or "" for name, value in attributes if name in ("src", "href")]

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] in ("td", "th"):
            self.cells[-1] += data


def png(grey: int) -> bytes:
    content = BytesIO()
    Image.fromarray(np.full((4, 6), grey, np.uint8)).save(content, "PNG")
    return content.getvalue()


def findings(**changes: Any) -> Findings:
    params = load_params(ROOT / "params.yaml")
    split = SplitInfo(examples=7, per_class={"<a>": 3, "b": 4}, shards=[])
    values: dict[str, Any] = {
        "params": params,
        "entry": load_entry("digits", ROOT / "data" / "catalog.yaml"),
        "info": RecordsInfo(
            dataset="digits",
            classes=["<a>", "b"],
            image_spec=params.preprocess.image_spec,
            normalization=Normalization(method="rescale", scale=[1 / 255], offset=[0.0]),
            record_encoding="raw",
            record_fields={},
            splits=dict.fromkeys(("train", "validation", "test"), split),
        ),
        "layers": "layer  kind\nlogits  Dense & co\n",
        "data": {
            "duplicate_images": 2, "bad_images": 1,
            "bad_files": [{"file": "x.jpg", "reason": "empty"}],
        },
        "trained": {
            "validation_accuracy": 0.75, "validation_loss": 0.5, "best_epoch": 3, "epochs": 5,
            "parameters": 12345,
        },
        "scores": {
            "accuracy": 0.9, "accuracy_low": 0.8, "accuracy_high": 0.95, "loss": 0.3,
            "macro_precision": 0.91, "macro_recall": 0.92, "macro_f1": 0.93, "roc_auc": 0.94,
            "calibration_error": 0.05, "images": 7,
        },
        "intervals": {
            name: (0.001 * number, 0.002 * number)
            for number, name in enumerate(
                (
                    "accuracy", "loss", "macro_precision", "macro_recall", "macro_f1", "roc_auc",
                    "calibration_error", "top_3_accuracy",
                )
            )
        },
        "per_class": pd.DataFrame(
            [["<a>", 0.1, 0.2, 0.3, 0.4, 3], ["b", 0.5, 0.6, 0.7, 0.8, 4]],
            columns=["class", "precision", "recall", "f1", "roc_auc", "images"],
        ),
        "pictures": {name: png(number) for number, name in enumerate(PICTURES)},
    }  # fmt: skip
    return Findings(**{**values, **changes})


def write(path: Path, monkeypatch: pytest.MonkeyPatch, **changes: Any) -> str:
    monkeypatch.chdir(ROOT)
    write_model_card(path, findings(**changes))
    return path.read_text(encoding="utf-8")


def test_the_card_is_one_page_that_needs_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = write(tmp_path / "card.html", monkeypatch)
    page = Page(text)
    assert page.open == []
    assert len(page.sources) == len(PICTURES)
    pictures = [base64.b64decode(source.partition(",")[2]) for source in page.sources]
    assert sorted(pictures) == sorted(png(number) for number in range(len(PICTURES)))
    assert "http" not in re.sub(r'"data:[^"]*"', "", text)
    assert "<script" not in text
    again = write(tmp_path / "again.html", monkeypatch)
    assert again == text


def test_the_card_tells_what_the_run_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = write(tmp_path / "card.html", monkeypatch)
    assert "Test accuracy 0.9000 (95 % interval 0.8000 to 0.9500, 7 images)" in text
    assert "12,345 parameters that sorts images into 2 classes: &lt;a&gt;, b" in text
    assert "5 epochs; the weights are those of epoch 3" in text
    assert "logits  Dense &amp; co" in text
    cells = Page(text).cells
    for name in ("CC BY 4.0", "x.jpg", "empty", "0.9400", "0.0500"):
        assert name in cells
    row = cells.index("<a>", cells.index("ROC area"))
    assert cells[row : row + 6] == ["<a>", "0.1000", "0.2000", "0.3000", "0.4000", "3"]
    value_of = dict(itertools.pairwise(cells))
    assert value_of["0.0500"] == "0.0060 to 0.0120"
    assert value_of["train.learning_rate"] == "0.002"
    assert value_of["architectures.cnn.pool_px"] == "[2, 2, 1]"
    assert value_of["augment.vertical_flip"] == "false"
    assert not any(cell.startswith("architectures.mlp") for cell in cells)
    pins = dict(re.findall(r'"([\w-]+)==([\w.]+)"', (ROOT / "pyproject.toml").read_text()))
    assert value_of["tensorflow"] == pins["tensorflow"]
    assert value_of["pillow"] == pins["pillow"]
    assert "pytest" not in cells


def test_what_a_run_has_not_is_left_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    params = load_params(ROOT / "params.yaml", changes=["augment.copies=0"])
    pictures = {name: png(0) for name in PICTURES if name != "augmentation"}
    text = write(tmp_path / "card.html", monkeypatch, params=params, pictures=pictures)
    assert "augmented copies" not in text
    scores = {**findings().scores, "top_3_accuracy": 0.99}
    assert "among the 3 likeliest" not in text
    assert "among the 3 likeliest" in write(tmp_path / "x.html", monkeypatch, scores=scores)


def test_numbers_stand_to_the_right_and_names_to_the_left(tmp_path: Path) -> None:
    pages.write_page(
        tmp_path / "page.html",
        "A & B",
        [pages.table(["class", "share", "note"], [["1", "5 %", "7"], ["2", "-1,000.5", "none"]])],
    )
    text = (tmp_path / "page.html").read_text()
    assert '<tr><td>1</td><td class="number">5 %</td><td>7</td></tr>' in text
    assert '<th>class</th><th class="number">share</th><th>note</th>' in text
    assert "<title>A &amp; B</title>" in text
    assert "<th>" not in pages.table(["", ""], [["a", "b"]])


def test_columns_stand_below_one_another() -> None:
    assert list(format_columns([["a", "bb", ""], ["ccc", "d", "e"]])) == ["a    bb", "ccc  d   e"]


@pytest.mark.parametrize(
    ("value", "text"),
    [("same", "same"), (True, "true"), (0.002, "0.002"), ([32, 64], "[32, 64]"), (3, "3")],
)
def test_values_are_shown_as_params_yaml_writes_them(value: object, text: str) -> None:
    assert format_value(value) == text
