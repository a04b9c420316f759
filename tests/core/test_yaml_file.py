"""Reading and writing YAML as DVC does."""

from pathlib import Path
from typing import Any

import pytest
from support import find_error

from imgpipe.core.errors import PipelineError
from imgpipe.core.yaml_file import format_yaml, parse_yaml, read_yaml


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("[1e-3, 010, 0o17, 1.]", [0.001, 10, 15, 1.0]),
        ("[yes, no, on, off]", ["yes", "no", "on", "off"]),
        ("[true, ~, '1']", [True, None, "1"]),
        ("", None),
    ],
)
def test_scalars_are_those_of_yaml_1_2(text: str, expected: object) -> None:
    assert repr(parse_yaml(text, "text")) == repr(expected)


def test_a_merge_of_a_merge_may_replace_its_values() -> None:
    text = "a: &a {k: 1}\nb: &b {<<: *a, k: 2, l: 3}\nc: {<<: [*b, *a], l: 4}\n"
    expected = {"a": {"k": 1}, "b": {"k": 2, "l": 3}, "c": {"k": 2, "l": 4}}
    assert parse_yaml(text, "text") == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a: 1\na: 2\n", 'line 2, column 1: not valid YAML: found duplicate key "a"'),
        ("a: 1\na: |\n  b\n  c\n", 'line 2, column 1: not valid YAML: found duplicate key "a"'),
        ('"a\\nb": 1\n"a\\nb": 2\n', 'line 2, column 1: not valid YAML: found duplicate key "a b"'),
        ("a: {b: 1, b: 2}\n", 'line 1, column 11: not valid YAML: found duplicate key "b"'),
        ("1: a\n1.0: b\n", 'line 2, column 1: not valid YAML: found duplicate key "1.0"'),
        ("a: [1\n", "line 2, column 1: not valid YAML: did not find expected ',' or ']'"),
        ("a:\n\t- b\n", "line 2, column 1: not valid YAML: found character that cannot start"),
        ("a: *x\n", "line 1, column 4: not valid YAML: found undefined alias"),
        ("a: 1\n---\nb: 2\n", "line 2, column 1: not valid YAML: but found another document"),
        ("a: !!python/object:os.system x\n", "line 1, column 4: not valid YAML: could not"),
        ("a: !!int many\n", "not valid YAML: invalid literal for int() with base 10: 'many'"),
        ("a: !!int ''\n", "not valid YAML: string index out of range"),
        ("a: !!bool many\n", "not valid YAML: 'many'"),
        ("a: 2024-13-01\n", "not valid YAML: month must be in 1..12"),
        ("a: \a\n", "not valid YAML: unacceptable character #x0007: control characters"),
    ],
)
def test_invalid_yaml_is_reported_in_one_line(text: str, expected: str) -> None:
    message = find_error(parse_yaml, text, "text")
    assert message.startswith(f"text: {expected}")
    assert "original value" not in message


def test_a_missing_file_and_a_file_that_is_no_text_are_reported(tmp_path: Path) -> None:
    path = tmp_path / "params.yaml"
    with pytest.raises(PipelineError, match=r"params\.yaml: not found; run from the project's top"):
        read_yaml(path)
    path.write_bytes(b"a: \xff\n")
    with pytest.raises(PipelineError, match=r"params\.yaml: expected UTF-8 text"):
        read_yaml(path)


def test_a_value_is_written_in_its_order_and_without_wrapped_lines() -> None:
    value: dict[str, Any] = {"b": "1e-3", "a": ["no", "010", None], "text": "word " * 100}
    text = format_yaml(value)
    assert repr(parse_yaml(text, "text")) == repr(value)
    assert len(text.splitlines()) == 6
