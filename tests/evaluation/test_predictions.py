from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from support import find_error

from imgpipe.core.errors import PipelineError
from imgpipe.evaluation.predictions import (
    Predictions,
    read_predictions,
    undo_temperature,
    write_predictions,
)

LOGITS = np.random.default_rng(0).normal(size=(20, 3)).astype(np.float32)
PREDICTIONS = Predictions(
    classes=["1", "n/a", 'a "b", (c)'],
    identities=[f"file {number}, x" for number in range(20)],
    labels=np.arange(20) % 3,
    probabilities=np.exp(LOGITS) / np.exp(LOGITS).sum(axis=1, keepdims=True),
)


def test_a_table_is_read_as_it_was_written(tmp_path: Path) -> None:
    path = tmp_path / "predictions.csv"
    write_predictions(path, PREDICTIONS)
    found = read_predictions(path)
    assert found.classes == PREDICTIONS.classes
    assert found.identities == PREDICTIONS.identities
    assert found.labels.tolist() == PREDICTIONS.labels.tolist()
    assert found.probabilities.dtype == np.float32
    assert (found.probabilities == PREDICTIONS.probabilities).all()  # to the last bit
    header, first = path.read_text().splitlines()[:2]
    assert header.startswith("index,identity,actual,predicted,p(1),")
    assert PREDICTIONS.probabilities[0].argmax() == 2
    assert first.startswith('0,"file 0, x",1,"a ""b"", (c)",0.')


def test_what_is_no_table_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "predictions.csv"
    with pytest.raises(PipelineError, match=r"predictions\.csv: not found"):
        read_predictions(path)
    write_predictions(path, PREDICTIONS)
    for text in ("", path.read_text().replace(",1,", ",2,", 1), path.read_text() + "20,x\n"):
        path.write_text(text)
        with pytest.raises(PipelineError, match=r"predictions\.csv: not a table of predictions"):
            read_predictions(path)


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (lambda rows: [*rows[:3], *rows[4:]], "row 3: expected this index; found '4'"),
        (lambda rows: [*rows[:4], *rows[3:]], "row 4: expected this index; found '3'"),
        (lambda rows: [rows[1], rows[0], *rows[2:]], "row 0: expected this index; found '1'"),
        (lambda rows: [*rows[:-1], rows[-1].replace("file 19", "file 0")],
         "an identity is in two rows"),
        (lambda rows: [rows[0].replace('"a ""b"", (c)"', "n/a"), *rows[1:]],
         "row 0: 'n/a' is not the most probable class"),
    ],
)  # fmt: skip
def test_rows_that_are_missing_doubled_moved_or_edited_are_refused(
    tmp_path: Path, change: Callable[[list[str]], list[str]], expected: str
) -> None:
    path = tmp_path / "predictions.csv"
    write_predictions(path, PREDICTIONS)
    header, *rows = path.read_text().splitlines(keepends=True)
    path.write_text("".join([header, *change(rows)]))
    assert find_error(read_predictions, path).endswith(
        f"predictions.csv: not a table of predictions: ValueError: {expected}"
    )


@pytest.mark.parametrize("temperature", [0.5, 2.0])
def test_probabilities_without_a_temperature_follow_from_the_ones_with_it(
    temperature: float,
) -> None:
    scaled = np.exp(LOGITS / temperature)
    scaled /= scaled.sum(axis=1, keepdims=True)
    found = undo_temperature(replace(PREDICTIONS, probabilities=scaled), temperature)
    np.testing.assert_allclose(found.probabilities, PREDICTIONS.probabilities, rtol=1e-6)
    assert found.probabilities.dtype == np.float32
    assert found.identities == PREDICTIONS.identities


def test_a_probability_of_zero_stays_zero_without_a_temperature() -> None:
    certain = np.tile(np.array([[0, 1, 0]], dtype=np.float32), (20, 1))
    found = undo_temperature(replace(PREDICTIONS, probabilities=certain), 3.0)
    assert (found.probabilities == certain).all()
