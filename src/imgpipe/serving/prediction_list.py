"""Predictions as text, while they come: a table, CSV or JSON."""

import csv
import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from io import StringIO

from imgpipe.console.messages import escape_unprintable
from imgpipe.console.tables import find_widths, format_row
from imgpipe.nn.inference.file_prediction import FilePrediction


@dataclass(frozen=True)
class Expected:
    """Facts that are known before the first prediction."""

    files: Sequence[str]
    classes: Sequence[str]
    """The names of all classes."""
    top: int
    """The number of classes for each file."""


Formatter = Callable[[Iterable[FilePrediction], Expected], Iterator[str]]
"""Yields the text, a piece for each prediction as soon as the prediction is there."""


def format_table(predictions: Iterable[FilePrediction], expected: Expected) -> Iterator[str]:
    """Yield aligned columns, probabilities with four decimals; no lines for unreadable files."""
    header = _make_header(expected.top)
    longest_file = max(map(escape_unprintable, expected.files), key=len, default="")
    longest_class = max(map(escape_unprintable, expected.classes), key=len, default="")
    widest = [longest_file] + [longest_class, f"{1:.4f}"] * expected.top
    widths = find_widths([header, widest])
    rows = (_make_row(each, ".4f") for each in predictions if each.error is None)
    for number, row in enumerate(rows):
        for cells in (header, row) if number == 0 else (row,):
            yield "".join(f"{line}\n" for line in format_row(cells, widths))


def format_csv(predictions: Iterable[FilePrediction], expected: Expected) -> Iterator[str]:
    """Yield CSV; the nine digits of a probability give back its float32 exactly.

    The last column has the reason why a file cannot be read.
    """
    yield _write_csv([*_make_header(expected.top), "error"])
    for each in predictions:
        row = _make_row(each, ".9g")
        row += [""] * (1 + 2 * expected.top - len(row))
        yield _write_csv([*row, escape_unprintable(each.error or "")])


def format_json(predictions: Iterable[FilePrediction], expected: Expected) -> Iterator[str]:
    """Yield a JSON list: for each file its path, and its classes or the reason of an error."""
    before = "[\n"
    for each in predictions:
        content: dict[str, object] = {"file": each.file}
        if each.error is None:
            content["classes"] = [
                {"class": name, "probability": value} for name, value in each.classes
            ]
        else:
            content["error"] = each.error
        # ASCII: bytes of a name that are not UTF-8 are no text, but JSON can escape them.
        yield before + json.dumps(content).replace("\x7f", "\\u007f")
        before = ",\n"
    yield "[]\n" if before == "[\n" else "\n]\n"


FORMATTERS: Mapping[str, Formatter] = {
    "table": format_table,
    "csv": format_csv,
    "json": format_json,
}


def _make_header(top: int) -> list[str]:
    ranks = range(1, top + 1)
    return ["file", *(f"{name}_{rank}" for rank in ranks for name in ("class", "probability"))]


def _make_row(prediction: FilePrediction, digits: str) -> list[str]:
    row = [escape_unprintable(prediction.file)]
    for name, value in prediction.classes:
        row += [escape_unprintable(name), f"{value:{digits}}"]
    return row


def _write_csv(row: Sequence[str]) -> str:
    stream = StringIO()
    csv.writer(stream, lineterminator="\n").writerow(row)
    return stream.getvalue()
