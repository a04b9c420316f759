"""The likeliest classes of files as text, while they come."""

import csv
import json
from collections.abc import Iterator
from io import StringIO

import numpy as np
import pytest

from imgpipe.nn.inference.file_prediction import FilePrediction
from imgpipe.serving.prediction_list import FORMATTERS, Expected

THIRD = float(np.float32(1 / 3))
PREDICTIONS = [
    FilePrediction("photos/a, b.png", [("cat", 1 - THIRD), ("dog", THIRD)]),
    FilePrediction("damaged.png", [], error="empty, or damaged"),
    FilePrediction("c.png", [("dog", 1.0), ("cat", 0.0)]),
]
FAILURES = [PREDICTIONS[1], PREDICTIONS[1]]
# A newline, bytes that are not UTF-8, a sequence that clears a terminal, and a class of this kind.
ODD = [
    FilePrediction(name, [("a\x1bb", 1.0), ("dog", 0.0)])
    for name in ("new\nline.png", "gr\udcf6\udcdfe.png", "\x1b[2J.png", "\x7f\x9b", "=1+1.png")
]


def write(
    file_format: str, predictions: list[FilePrediction], classes: tuple[str, ...] = ("cat", "dog")
) -> str:
    expected = Expected([each.file for each in predictions], classes, top=2)
    return "".join(FORMATTERS[file_format](predictions, expected))


def test_a_table_has_aligned_columns() -> None:
    assert write("table", PREDICTIONS) == (
        "file             class_1  probability_1  class_2  probability_2\n"
        "photos/a, b.png  cat      0.6667         dog      0.3333\n"
        "c.png            dog      1.0000         cat      0.0000\n"
    )


def test_the_columns_of_a_table_have_room_for_every_class() -> None:
    lines = write("table", PREDICTIONS, ("cat", "dog", "a hippopotamus")).splitlines()
    assert lines[2].split() == ["c.png", "dog", "1.0000", "cat", "0.0000"]
    assert lines[2].index("1.0000") == len("photos/a, b.png  a hippopotamus  ")


def test_csv_keeps_the_float32_of_a_probability_and_the_reason_of_an_error() -> None:
    text = write("csv", PREDICTIONS)
    assert text == (
        "file,class_1,probability_1,class_2,probability_2,error\n"
        '"photos/a, b.png",cat,0.666666657,dog,0.333333343,\n'
        'damaged.png,,,,,"empty, or damaged"\n'
        "c.png,dog,1,cat,0,\n"
    )
    assert np.float32(text.splitlines()[1].split(",")[-2]) == np.float32(1 / 3)


def test_json_lists_files_and_classes_and_errors() -> None:
    text = write("json", PREDICTIONS)
    assert text.endswith("]\n")
    assert json.loads(text)[1:] == [
        {"file": "damaged.png", "error": "empty, or damaged"},
        {
            "file": "c.png",
            "classes": [
                {"class": "dog", "probability": 1.0},
                {"class": "cat", "probability": 0.0},
            ],
        },
    ]


def test_without_a_readable_file_the_text_is_complete() -> None:
    assert write("table", FAILURES) == ""
    assert [row["error"] for row in csv.DictReader(StringIO(write("csv", FAILURES)))] == [
        "empty, or damaged"
    ] * 2
    assert (
        json.loads(write("json", FAILURES))
        == [{"file": "damaged.png", "error": "empty, or damaged"}] * 2
    )
    assert json.loads(write("json", [])) == []


@pytest.mark.parametrize("file_format", FORMATTERS)
def test_no_name_changes_a_line_or_the_terminal(file_format: str) -> None:
    text = write(file_format, ODD, ("a\x1bb", "dog"))
    assert text.encode()  # no byte that is not UTF-8
    assert all(character.isprintable() or character == "\n" for character in text)
    assert len(text.splitlines()) == len(ODD) + (2 if file_format == "json" else 1)
    if file_format == "json":
        assert [each["file"] for each in json.loads(text)] == [each.file for each in ODD]


def test_a_name_longer_than_a_line_stays_in_its_column() -> None:
    long = FilePrediction("x" * 250, PREDICTIONS[0].classes)
    lines = write("table", [long, PREDICTIONS[2]]).splitlines()
    assert max(map(len, lines)) <= 100
    assert lines[-1].split() == ["c.png", "dog", "1.0000", "cat", "0.0000"]


@pytest.mark.parametrize("file_format", FORMATTERS)
def test_each_prediction_is_written_before_the_next_one_is_made(file_format: str) -> None:
    made = []

    def predict() -> Iterator[FilePrediction]:
        for each in PREDICTIONS:
            made.append(each)
            yield each

    expected = Expected([each.file for each in PREDICTIONS], ["cat", "dog"], top=2)
    text = ""
    for part in FORMATTERS[file_format](predict(), expected):
        text += part
        if "a, b.png" in text:
            break
    assert len(made) == 1
