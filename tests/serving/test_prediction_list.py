"""The likeliest classes of files as text."""

import json
from pathlib import Path

import numpy as np

from imgpipe.serving.prediction_list import FORMATTERS

THIRD = float(np.float32(1 / 3))
PREDICTIONS = [
    (Path("photos/a, b.png"), [("cat", 1 - THIRD), ("dog", THIRD)]),
    (Path("c.png"), [("dog", 1.0), ("cat", 0.0)]),
]


def test_a_table_has_aligned_columns() -> None:
    assert FORMATTERS["table"](PREDICTIONS) == (
        "file             class_1  probability_1  class_2  probability_2\n"
        "photos/a, b.png  cat      0.6667         dog      0.3333\n"
        "c.png            dog      1.0000         cat      0.0000\n"
    )


def test_csv_keeps_the_float32_of_a_probability() -> None:
    text = FORMATTERS["csv"](PREDICTIONS)
    assert text == (
        "file,class_1,probability_1,class_2,probability_2\n"
        '"photos/a, b.png",cat,0.666666657,dog,0.333333343\n'
        "c.png,dog,1,cat,0\n"
    )
    assert np.float32(text.splitlines()[1].split(",")[-1]) == np.float32(1 / 3)


def test_json_lists_files_and_classes() -> None:
    text = FORMATTERS["json"](PREDICTIONS)
    assert text.endswith("]\n")
    assert json.loads(text)[1] == {
        "file": "c.png",
        "classes": [
            {"class": "dog", "probability": 1.0},
            {"class": "cat", "probability": 0.0},
        ],
    }
