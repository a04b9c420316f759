"""The likeliest classes of image files as text: a table, CSV or JSON."""

import csv
import json
from collections.abc import Callable, Mapping, Sequence
from io import StringIO
from pathlib import Path

from imgpipe.console.tables import format_columns

Prediction = tuple[Path, Sequence[tuple[str, float]]]
"""A file, and the names and probabilities of its likeliest classes, likeliest first."""


def format_table(predictions: Sequence[Prediction]) -> str:
    """Return aligned columns, probabilities with four decimals."""
    return "".join(f"{line}\n" for line in format_columns(_make_rows(predictions, ".4f")))


def format_csv(predictions: Sequence[Prediction]) -> str:
    """Return CSV; the nine digits of a probability give back its float32 exactly."""
    stream = StringIO()
    csv.writer(stream, lineterminator="\n").writerows(_make_rows(predictions, ".9g"))
    return stream.getvalue()


def format_json(predictions: Sequence[Prediction]) -> str:
    """Return JSON: for each file its path and its classes with their probabilities."""
    content = [
        {
            "file": path.as_posix(),
            "classes": [{"class": name, "probability": value} for name, value in classes],
        }
        for path, classes in predictions
    ]
    return json.dumps(content, indent=2, ensure_ascii=False) + "\n"


FORMATTERS: Mapping[str, Callable[[Sequence[Prediction]], str]] = {
    "table": format_table,
    "csv": format_csv,
    "json": format_json,
}


def _make_rows(predictions: Sequence[Prediction], digits: str) -> list[list[str]]:
    header = ["file"]
    for rank in range(1, len(predictions[0][1]) + 1):
        header += [f"class_{rank}", f"probability_{rank}"]
    rows = [header]
    for path, classes in predictions:
        cells = (text for name, value in classes for text in (name, f"{value:{digits}}"))
        rows.append([path.as_posix(), *cells])
    return rows
