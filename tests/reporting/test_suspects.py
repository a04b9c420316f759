"""The images whose labels are probably wrong, as the model card shows them."""

import io
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image
from support import Page, find_error

from imgpipe.evaluation.label_issues import LabelIssue
from imgpipe.records.stored_images import StoredImages
from imgpipe.reporting.model_card import write_model_card
from imgpipe.reporting.stage_outputs import StageOutputs
from imgpipe.reporting.suspects import list_suspects

MakeOutputs = Callable[..., StageOutputs]


def suspect(outputs: StageOutputs, split: str, number: int) -> tuple[LabelIssue, bytes]:
    """Return a row about an image of a split, and the pixels of the image."""
    (shard,) = (shard.index() for shard in outputs.records.shards(split))
    image = StoredImages([shard], outputs.info)[np.array([number])][0]
    row = LabelIssue(shard.identities[number], split, "a", "b", 0.125, 0.75)
    return row, image.tobytes()


def test_each_suspect_is_shown_with_its_picture(make_outputs: MakeOutputs) -> None:
    outputs = make_outputs()
    chosen = [("test", 3), ("train", 0), ("validation", 5), ("train", 7)]
    pairs = [suspect(outputs, split, number) for split, number in chosen]
    found = list(list_suspects(replace(outputs, label_issues=[row for row, _ in pairs])))
    assert [image.identity for image in found] == [row.file for row, _ in pairs]
    for image, (_, pixels) in zip(found, pairs, strict=True):
        with Image.open(io.BytesIO(image.png)) as picture:
            assert picture.tobytes() == pixels
        assert image.note == "a, or b (75.0%)"


def test_the_card_begins_with_the_suspects(make_outputs: MakeOutputs) -> None:
    outputs = make_outputs()
    path = outputs.records.folder.parent.parent / "card.html"
    write_model_card(path, outputs, {})
    assert "probably wrong" not in path.read_text()
    row, _ = suspect(outputs, "test", 1)
    write_model_card(path, replace(outputs, label_issues=[row]), {})
    text = path.read_text()
    cells = Page(text).cells
    assert cells[cells.index("suspected labels") + 1] == "1 image: metrics/label_issues.csv"
    assert text.index("probably wrong") < text.index("<h2>Data")


@pytest.mark.parametrize("split", ["test", "holdout"])
def test_a_suspect_that_is_not_in_the_records_is_refused(
    split: str, make_outputs: MakeOutputs
) -> None:
    outputs = make_outputs()
    row = LabelIssue("unknown.jpg", split, "a", "b", 0.1, 0.9)
    error = find_error(lambda: list(list_suspects(replace(outputs, label_issues=[row]))))
    assert "metrics/label_issues.csv: not about" in error
