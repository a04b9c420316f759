from pathlib import Path

import numpy as np
import pytest

from imgpipe.core.errors import PipelineError
from imgpipe.evaluation.predictions import Predictions, read_predictions, write_predictions

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
