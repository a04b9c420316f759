"""A table of labels: the class of each image, and its split and group if the table has them.

CSV or TSV, in UTF-8. A name in the table is a path or its last parts, with or without the ending of
an image, as in the tables of Kaggle. A row takes about 250 bytes of memory.
"""

import csv
import io
import re
import unicodedata
from array import array
from collections.abc import Iterator, Mapping

import numpy as np
from numpy.typing import NDArray

from imgpipe.console.messages import join_some
from imgpipe.core.errors import PipelineError
from imgpipe.preprocessing.folder_levels import match_splits
from imgpipe.preprocessing.groups import NO_GROUP
from imgpipe.preprocessing.labels import (
    NO_LABEL,
    PATHS_AT_ONCE,
    ImageLabels,
    clean_label,
    remove_ending,
)
from imgpipe.preprocessing.splits import SPLITS, UNASSIGNED, Paths

# Names of columns in small letters, without spaces, "_" and "-"; the first that a table has counts.
COLUMNS = {
    "file": (
        "file", "filename", "filepath", "path", "image", "imagename", "imagepath", "imageid", "img",
        "id",
    ),
    "label": (
        "label", "labels", "class", "classname", "category", "target", "species", "breed",
        "diagnosis",
    ),
    "split": ("split", "subset", "partition"),
    "group": ("group", "groupid", "patient", "patientid", "subject", "subjectid"),
}  # fmt: skip
_NEEDED = ("file", "label")
_DELIMITERS = ("\t", ";", ",")
_SHOWN_NAMES = 10
_NO_ROW = -1


class LabelTable:
    """The rows of a table; in errors they are numbered as in a spreadsheet: the header is row 1."""

    def __init__(self, content: bytes, shown: str) -> None:
        """Read a table; `shown` is its name in errors.

        Raises:
            PipelineError: not a table as described, a needed column is missing, or a row has
                another number of columns, no file, the file of another row, no label, or an
                unknown split.
        """
        self._shown = shown
        text = _decode(content, shown)
        self.columns, delimiter = _find_columns(text, shown)
        """The names of the columns that are used, by the keys of COLUMNS."""
        names: dict[str, int] = {}
        labels: dict[str, int] = {}
        splits: dict[str, int] = {}
        groups = {"": NO_GROUP}
        self._numbers, self._labels, self._splits, self._groups = (array("q") for _ in range(4))
        for number, row in _read_rows(text, delimiter, self.columns, shown):
            name, label = _normalize(row["file"]), clean_label(row["label"])
            problem = _find_problem(name, label)
            if (other := names.setdefault(name, len(names))) < len(self._numbers):
                before = list(labels)[self._labels[other]]
                problem = (
                    f"{name!r} again, with the label {label!r}; row {self._numbers[other]} has"
                    f" {before!r}; delete one of the two rows"
                )
            if problem:
                raise PipelineError(f"{shown}: row {number}: {problem}")
            self._numbers.append(number)
            self._labels.append(labels.setdefault(label, len(labels)))
            self._splits.append(splits.setdefault(row.get("split", "").strip(), len(splits)))
            self._groups.append(groups.setdefault(row.get("group", "").strip(), len(groups)))
        if not names:
            raise PipelineError(f"{shown}: no rows below the header")
        self._names = names
        self.classes = list(labels)
        """The labels, in the order in which they are found."""
        self._split_codes = self._find_splits(list(splits))

    def label_images(
        self, paths: Paths, images: int, identities: Paths | None = None
    ) -> ImageLabels:
        """Return the labels, splits and groups of images; arguments and errors as `match_rows`."""
        rows = self.match_rows(paths, images, identities)
        # Of an image without a row, the values are these of the last row, and its label is missing.
        labels = np.where(rows == _NO_ROW, NO_LABEL, np.array(self._labels)[rows])
        splits = self._split_codes[np.array(self._splits)[rows]]
        groups = np.array(self._groups)[rows] if "group" in self.columns else None
        return ImageLabels(self.classes, labels, splits, groups)

    def match_rows(
        self, paths: Paths, images: int, identities: Paths | None = None
    ) -> NDArray[np.int64]:
        """Return the row of each image, counted from 0 without empty rows.

        Of a path such as a/b/1.jpg, the table may have ./a/b/1.jpg, a/b/1.jpg, b/1.jpg or 1.jpg,
        or one of these without .jpg; or the identity of the image, as tables in `metrics` have it.
        The longest name counts.

        Args:
            paths: returns the paths inside the dataset of the images with the given indices.
            images: N.
            identities: the same for the identities; None if the table cannot have any.

        Returns:
            (N,) the row, or -1 for an image without a row.

        Raises:
            PipelineError: a row names no image, or several.
        """
        rows = np.full(images, _NO_ROW, dtype=np.int64)
        image_of_row = np.full(len(self._names), -1, dtype=np.int64)
        for start in range(0, images, PATHS_AT_ONCE):
            indices = np.arange(start, min(start + PATHS_AT_ONCE, images))
            some = paths(indices)
            names = identities(indices) if identities else some
            for index, path, name in zip(indices.tolist(), some, names, strict=True):
                row = rows[index] = self._find_row(path, name)
                if row == _NO_ROW:
                    continue
                if image_of_row[row] >= 0:
                    first, second = paths(np.array([image_of_row[row], index]))
                    raise self._error(
                        row,
                        f"is the name of {first} and of {second}; write the path and the ending; a"
                        " path that begins with ./ is complete",
                    )
                image_of_row[row] = index
        missing = np.flatnonzero(image_of_row < 0).tolist()
        if missing:
            more = f", and {len(missing) - 1:,} more rows" if len(missing) > 1 else ""
            raise self._error(
                missing[0],
                f"is the name of no image, or of one that another row names{more}; correct or"
                " delete it",
            )
        return rows

    def find_label(self, row: int) -> str:
        """Return the label of a row."""
        return self.classes[self._labels[row]]

    def check_labels(self, classes: list[str]) -> None:
        """Check that each label is one of some classes.

        Raises:
            PipelineError: one is not.
        """
        for row, label in enumerate(self._labels):
            if self.classes[label] not in classes:
                raise self._error(
                    row,
                    f"has the label {self.classes[label]!r}; expected one of"
                    f" {join_some(classes, _SHOWN_NAMES)}",
                )

    def _find_row(self, path: str, identity: str) -> int:
        if (row := self._names.get(unicodedata.normalize("NFC", identity))) is not None:
            return row
        rest = f"./{unicodedata.normalize('NFC', path)}"
        while True:
            for name in (rest, remove_ending(rest)):
                if (row := self._names.get(name)) is not None:
                    return row
            _, slash, rest = rest.partition("/")
            if not slash:
                return _NO_ROW

    def _find_splits(self, values: list[str]) -> NDArray[np.int8]:
        """Return the split of each text of the column."""
        known = match_splits([value for value in values if value])
        for number, value in enumerate(values):
            if value and value not in known:
                raise self._error(
                    self._splits.index(number),
                    f"has the split {value!r}; expected train, validation, test or nothing",
                )
        codes = [SPLITS.index(known[value]) if value else UNASSIGNED for value in values]
        return np.array(codes, dtype=np.int8)

    def _error(self, row: int, problem: str) -> PipelineError:
        name = next(name for name, number in self._names.items() if number == row)
        return PipelineError(f"{self._shown}: row {self._numbers[row]}: {name!r} {problem}")


def _decode(content: bytes, shown: str) -> str:
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise PipelineError(
            f"{shown}: line {line}: not UTF-8; save the table as CSV in UTF-8"
        ) from None


def _find_columns(text: str, shown: str) -> tuple[dict[str, str], str]:
    """Return the names of the columns of each kind in COLUMNS, and the delimiter."""
    headers = {}
    for delimiter in _DELIMITERS:
        try:
            header = next(_open_csv(text, delimiter), [])
        except csv.Error:
            continue
        headers[delimiter] = header
        plain = [re.sub(r"[\s_-]", "", name).casefold() for name in header]
        found = {
            kind: header[plain.index(name)]
            for kind, names in COLUMNS.items()
            for name in names[::-1]
            if name in plain
        }
        if all(kind in found for kind in _NEEDED):
            return found, delimiter
    longest: list[str] = max(headers.values(), key=len, default=[])
    columns = [repr(name) for name in longest]
    files, labels = (", ".join(COLUMNS[kind]) for kind in _NEEDED)
    raise PipelineError(
        f"{shown}: expected a header with a column of files ({files}) and a column of labels"
        f" ({labels}); found the columns {join_some(columns, _SHOWN_NAMES) or 'none'}"
    )


def _open_csv(text: str, delimiter: str) -> Iterator[list[str]]:
    stream = io.StringIO(text, newline="")
    return csv.reader(stream, delimiter=delimiter, skipinitialspace=True, strict=True)


def _read_rows(
    text: str, delimiter: str, columns: Mapping[str, str], shown: str
) -> Iterator[tuple[int, dict[str, str]]]:
    """Yield the number of each row that is not empty, and its text by the keys of COLUMNS."""
    rows = _open_csv(text, delimiter)
    header = next(rows)
    places = {kind: header.index(name) for kind, name in columns.items()}
    number = 1
    try:
        for number, row in enumerate(rows, start=2):
            if not any(map(str.strip, row)):
                continue
            if len(row) != len(header):
                raise PipelineError(
                    f"{shown}: row {number}: expected {len(header)} columns, as in the header;"
                    f" found {len(row)}; text that contains {delimiter!r} needs quotes"
                )
            yield number, {kind: row[place] for kind, place in places.items()}
    except csv.Error as error:
        raise PipelineError(
            f"{shown}: the row after row {number} cannot be read: {error}"
        ) from None


def _normalize(name: str) -> str:
    return unicodedata.normalize("NFC", name.strip().replace("\\", "/"))


def _find_problem(name: str, label: str) -> str | None:
    if not name:
        return "no name of a file"
    if not label:
        return f"no label for {name!r}; write one, or delete the row"
    if any(unicodedata.category(letter) == "Cc" for letter in label):
        return f"a control character in the label {label!r}"
    return None
