"""Tables of labels: columns, names of files, and errors with the number of the row."""

import csv
import io
import tracemalloc
import unicodedata

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from support import find_error

from imgpipe.preprocessing.groups import NO_GROUP
from imgpipe.preprocessing.label_table import LabelTable
from imgpipe.preprocessing.labels import NO_LABEL, ImageLabels, label_by_pattern
from imgpipe.preprocessing.splits import SPLITS, UNASSIGNED, Paths


def paths_of(names: list[str]) -> Paths:
    return lambda indices: [names[index] for index in indices]


def read(table: str | bytes, names: list[str]) -> ImageLabels:
    content = table.encode() if isinstance(table, str) else table
    return LabelTable(content, "labels.csv").label_images(paths_of(names), len(names))


def labels_of(table: str | bytes, names: list[str]) -> list[str | None]:
    """The label of each file, None for a file without a row."""
    found = read(table, names)
    return [None if label == NO_LABEL else found.classes[label] for label in found.labels]


def error_of(table: str | bytes, *names: str) -> str:
    message = find_error(read, table, list(names))
    assert message.startswith("labels.csv: ")
    return message.removeprefix("labels.csv: ")


@pytest.mark.parametrize(
    "header",
    ["file,label", "filename,class", "File Name,Category", "image_id,target", "id,breed",
     "path;species", "image\tlabel", "IMG,diagnosis", '"id","breed"', "index,id,note,label"],
)  # fmt: skip
def test_columns_are_found_by_their_names(header: str) -> None:
    delimiter = next(mark for mark in "\t;," if mark in header)
    names = header.replace('"', "").split(delimiter)
    row = ["x"] * len(names)
    row[-1] = "oak"
    row[1 if names[0] == "index" else 0] = "a.jpg"
    assert labels_of(f"{header}\n{delimiter.join(row)}\n", ["a.jpg"]) == ["oak"]


def test_the_first_known_name_of_a_column_counts() -> None:
    """Many tables number their rows in a column id."""
    table = LabelTable(b"id,label,class,filename\n7,3,oak,a.jpg\n", "labels.csv")
    assert table.columns == {"file": "filename", "label": "label"}
    assert table.classes == ["3"]


@pytest.mark.parametrize("table", ["a.jpg,cat\n", "file,name\na.jpg,cat\n", "", "\n", "label\nx\n"])
def test_a_table_without_a_needed_column_is_refused(table: str) -> None:
    message = error_of(table, "a.jpg")
    assert message.startswith("expected a header with a column of files (file, filename, ")
    found = ", ".join(map(repr, table.split("\n")[0].split(",") if table.strip() else []))
    assert message.endswith(f"; found the columns {found or 'none'}")


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("mark", [b"", b"\xef\xbb\xbf"])
def test_ends_of_lines_and_the_mark_of_utf_8_do_not_matter(end: str, mark: bytes) -> None:
    table = mark + end.join(["file,label", "a.jpg,Bär", "", 'b.jpg," x,\ty "', ""]).encode()
    assert labels_of(table, ["a.jpg", "b.jpg"]) == ["Bär", "x, y"]


def test_the_name_may_be_a_path_or_its_end_with_or_without_the_ending() -> None:
    names = ["train/a/1.jpg", "train/a/2.v1.JPG", "train/b/3.jpeg", "4.png", "x/4.png", "page"]
    rows = "./train/a/1.jpg,p\na/2.v1,q\n3,r\n./4,s\nx\\4.png,t\npage,u\n"
    assert labels_of(f"id,label\n{rows}", names) == list("pqrstu")


def test_accents_may_be_composed_in_another_way() -> None:
    assert labels_of("id,label\nba\u0308r,Mu\u0308ll\n", ["b\u00e4r.jpg"]) == ["M\u00fcll"]


def test_images_without_a_row_have_no_label() -> None:
    found = read("file,label,split,group\nb.jpg,x,test,7\n", ["a.jpg", "b.jpg"])
    assert found.labels.tolist() == [NO_LABEL, 0]


def test_labels_are_text() -> None:
    names = ["1.jpg", "2.jpg", "3.jpg", "4.jpg"]
    expected = ["01", "1", "1.0", "nan"]
    assert labels_of("id,label\n1,01\n2,1\n3,1.0\n4,nan\n", names) == expected


def test_splits_and_groups_are_read_if_there_are_columns() -> None:
    table = (
        "file,label,split,patient\na,x,train,p1\nb,x,Test,p2\nc,y,val,p1\nd,y,,\ne,y,training,\n"
    )
    found = read(table, ["a.jpg", "b.jpg", "c.jpg", "d.jpg", "e.jpg"])
    codes = [SPLITS.index(name) for name in ("train", "test", "validation")]
    assert found.splits.tolist() == [*codes, UNASSIGNED, SPLITS.index("train")]
    assert found.groups is not None
    assert found.groups[0] == found.groups[2] != found.groups[1]
    assert found.groups[3:].tolist() == [NO_GROUP] * 2
    assert read("file,label\na,x\n", ["a.jpg"]).groups is None


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ("a.jpg,x\nc.jpg,y", "row 3: 'c.jpg' is the name of no image, or of one that another row"
         " names; correct or delete it"),
        ("c.jpg,y\nd,y\na.jpg,x\ne,y", "row 2: 'c.jpg' is the name of no image, or of one that"
         " another row names, and 2 more rows; correct or delete it"),
        ("a.jpg,x\na,x", "row 3: 'a' is the name of no image, or of one that another row names;"),
        ("a.jpg,x\n\nb.jpg,y\na.jpg,z", "row 5: 'a.jpg' again, with the label 'z'; row 2 has 'x';"),
        ("a.jpg,x\na.jpg,x", "row 3: 'a.jpg' again, with the label 'x'; row 2 has 'x'; delete one"),
        ('"a.jpg","two\nlines"\nb.jpg, ', "row 3: no label for 'b.jpg'; write one, or delete the"),
        ("a.jpg,x\n ,y", "row 3: no name of a file"),
        ("a.jpg,x,y", "row 2: expected 2 columns, as in the header; found 3; text that contains ','"
         " needs quotes"),
        ("a.jpg,x\nb.jpg", "row 3: expected 2 columns, as in the header; found 1; text that"),
        ("a.jpg,x\x07", "row 2: a control character in the label 'x\\x07'"),
        ('a.jpg,x\nb.jpg,"y\n', "the row after row 2 cannot be read: unexpected end of data"),
        (f"a.jpg,{'x' * 140_000}", "the row after row 1 cannot be read: field larger than"),
        ("", "no rows below the header"),
    ],
)  # fmt: skip
def test_a_wrong_row_is_one_line_with_its_number(rows: str, message: str) -> None:
    assert error_of(f"file,label\n{rows}", "a.jpg", "b.jpg").startswith(message)


def test_a_name_of_several_images_is_refused() -> None:
    assert error_of("id,label\n1,x\n", "a/1.jpg", "b/1.png").startswith(
        "row 2: '1' is the name of a/1.jpg and of b/1.png; write the path and the ending; a path"
    )


def test_another_split_is_refused() -> None:
    assert error_of("id,label,split\n1,x,train\n2,x,fold3\n", "1.jpg", "2.jpg") == (
        "row 3: '2' has the split 'fold3'; expected train, validation, test or nothing"
    )


def test_another_encoding_is_refused() -> None:
    table = "file,label\na.jpg,x\nb.jpg,Bär\n"
    assert error_of(table.encode("latin-1")) == "line 3: not UTF-8; save the table as CSV in UTF-8"
    assert error_of(table.encode("utf-16")).startswith("line 1: not UTF-8;")


FILE_NAMES = st.text(
    st.characters(exclude_categories=["C", "Z"], exclude_characters="/\\."), min_size=1
)
LABELS = st.text(st.characters(exclude_categories=["C"]), min_size=1, max_size=300)


@given(st.dictionaries(FILE_NAMES, LABELS, min_size=1), st.sampled_from([",", ";", "\t"]))
def test_any_text_is_read_as_it_was_written(labels: dict[str, str], delimiter: str) -> None:
    labels = {unicodedata.normalize("NFC", name): label for name, label in labels.items()}
    labels = {name: label for name, label in labels.items() if label.strip()}
    stream = io.StringIO(newline="")
    csv.writer(stream, delimiter=delimiter).writerows([("id", "breed"), *labels.items()])
    if labels:
        expected = [
            " ".join(unicodedata.normalize("NFC", text).split()) for text in labels.values()
        ]
        assert labels_of(stream.getvalue(), [f"{name}.jpg" for name in labels]) == expected


def test_a_row_takes_little_memory() -> None:
    rows = 50_000
    table = "file,label,group\n" + "".join(
        f"photographs/{n:012}.jpg,class {n % 100},patient {n // 4}\n" for n in range(rows)
    )
    content = table.encode()
    tracemalloc.start()
    try:
        found = LabelTable(content, "labels.csv").label_images(
            lambda some: [f"photographs/{n:012}.jpg" for n in some], rows
        )
        _, peak_bytes = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert (found.labels == np.arange(rows) % 100).all()
    assert peak_bytes < 500 * rows


@pytest.mark.parametrize(
    ("pattern", "name", "label"),
    [
        (r"(.+)\.\d+", "cat.12.jpg", "cat"),
        (r"(.+)_\d+", "sub/n0123_4.jpeg", "n0123"),
        (r"(.+)_\d+", "great_pyrenees_12.jpg", "great_pyrenees"),
        (r"([a-z]+)\d+", "cat7.PNG", "cat"),
        (r"(?:IMG|DSC)_(.+) \d+", "IMG_tree frog 3.jpg", "tree frog"),
        (r"(.+)\.\d+", "cat.jpg", None),
        (r"(cat|dog)\..*", "tomcat.3.jpg", None),
        (r"(cat)?\..*", ".3.jpg", None),
        (r"cat(\s*)\d", "cat 3.jpg", None),
    ],
)
def test_a_pattern_matches_the_whole_name_without_folders_and_ending(
    pattern: str, name: str, label: str | None
) -> None:
    names = [name, "other.jpg"]
    if label is None:
        message = find_error(label_by_pattern, pattern, paths_of(names), 2, "pets")
        assert message == (
            f"pets: the pattern {pattern} matches no name of an image without its ending, such as"
            " 'other'; it must match the whole name"
        )
        return
    found = label_by_pattern(pattern, paths_of(names), 2, "pets")
    assert (found.classes, found.labels.tolist()) == ([label], [0, NO_LABEL])
