"""Reading YAML, with ruamel.yaml, which DVC uses, as the oracle."""

import io
from pathlib import Path
from typing import Any

import pytest
import yaml
from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError
from support import ROOT, git

from imgpipe.core.errors import PipelineError
from imgpipe.core.yaml_file import parse_yaml, read_yaml

FILES = [
    name
    for name in git(ROOT, "ls-files").splitlines()
    if name.endswith((".yaml", ".dvc")) or name == "dvc.lock"
]


def read_as_dvc_does(text: str) -> Any:
    return YAML(typ="safe", pure=True).load(text)


@pytest.mark.parametrize("name", FILES)
def test_every_file_of_the_repository_reads_as_dvc_reads_it(name: str) -> None:
    # `repr` shows types and order too.
    text = (ROOT / name).read_text()
    assert repr(read_yaml(ROOT / name)) == repr(read_as_dvc_does(text))


SCALARS = [
    *(
        "1e-3",
        "1E3",
        "1.5e-4",
        "-1e-3",
        "1e400",
        "1e",
        "e3",
        "1.",
        ".5",
        "-.5",
        "+.5",
        ".",
        "1.2.3",
    ),
    *("010", "08", "00", "0o17", "0O17", "0o", "0x1F", "0X1F", "0x", "+1", "-0", "1,000", "12:30"),
    *("1:30:00", "yes", "no", "on", "off", "y", "n", "true", "False", "TRUE", "tRUE"),
    *("null", "Null", "nULL", "~", ".inf", "-.inf", ".INF", ".nan", ".NaN", "abc", "'1'", '"1"'),
    *("", "# comment", "|-", "+", "--", "!!str 1", "!!int '3'", "!!float 3", "!!bool yes"),
]


@pytest.mark.parametrize("scalar", SCALARS)
def test_scalars_read_as_dvc_reads_them(scalar: str) -> None:
    text = f"a: {scalar}\nb: [{scalar if scalar[:1] not in ('#', '|') else 0}]\n"
    assert repr(parse_yaml(text, "text")) == repr(read_as_dvc_does(text))


@pytest.mark.parametrize("scalar", ["1_000", "0b11", "-0x1F", "2024-01-01", "2024-01-01T12:00:00Z"])
def test_scalars_beyond_the_core_schema_are_text(scalar: str) -> None:
    assert parse_yaml(f"a: {scalar}", "text") == {"a": scalar}
    assert read_as_dvc_does(f"a: {scalar}") != {"a": scalar}


@pytest.mark.parametrize(
    "text",
    [
        "a: &x {b: 1}\nc: {<<: *x, d: 2}\n",
        "a: &x {b: 1}\nc: {<<: *x, b: 2}\n",
        "a: &x {b: 1}\nd: &y {e: 3}\nc: {<<: [*x, *y], d: 2}\n",
        "a: &x [1, 2]\nb: *x\n",
        "3: a\n2.5: b\ntrue: c\n~: d\n",
        "a: >\n  x\n  y\nb: 'x\n  y'\n",
        "- 1\n- 2\n",
        "text",
        "{}",
        "",
    ],
)
def test_documents_read_as_dvc_reads_them(text: str) -> None:
    assert repr(parse_yaml(text, "text")) == repr(read_as_dvc_does(text))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a: 1\na: 2\n", "text: line 2, column 1: not valid YAML: duplicate key 'a'"),
        ("a: {b: 1, b: 2}\n", "text: line 1, column 11: not valid YAML: duplicate key 'b'"),
        ("1: a\n1.0: b\n", "text: line 2, column 1: not valid YAML: duplicate key 1.0"),
        ("null: 1\n~: 2\n", "text: line 2, column 1: not valid YAML: duplicate key None"),
        ("a: [1\n", "text: line 2, column 1: not valid YAML: expected ',' or ']'"),
        ("a:\n\t- b\n", "text: line 2, column 1: not valid YAML: found character '\\t'"),
        ("a: *x\n", "text: line 1, column 4: not valid YAML: found undefined alias 'x'"),
        ("a: 1\n---\nb: 2\n", "text: line 2, column 1: not valid YAML: but found another document"),
        ("a: !!int many\n", "text: line 1, column 4: not valid YAML: expected an integer"),
        ("a: !!python/object:os.system x\n", "text: line 1, column 4: not valid YAML: could not"),
        ("a: \a\n", "text: not valid YAML: character 4 is U+0007, which YAML does not allow"),
    ],
)
def test_invalid_yaml_is_reported_in_one_line(text: str, expected: str) -> None:
    with pytest.raises((YAMLError, ValueError)):  # DVC refuses the text too
        read_as_dvc_does(text)
    with pytest.raises(PipelineError) as caught:
        parse_yaml(text, "text")
    assert str(caught.value).startswith(expected)
    assert "\n" not in str(caught.value)


def test_a_small_learning_rate_is_a_number(tmp_path: Path) -> None:
    path = tmp_path / "params.yaml"
    path.write_text("learning_rate: 1e-3\n")
    assert read_yaml(path) == {"learning_rate": 0.001}
    # PyYAML's own resolver reads a string:
    assert yaml.safe_load(io.StringIO("1e-3")) == "1e-3"


def test_a_missing_file_and_a_file_that_is_no_text_are_reported(tmp_path: Path) -> None:
    path = tmp_path / "params.yaml"
    with pytest.raises(PipelineError, match=r"params\.yaml: not found; run from the project's top"):
        read_yaml(path)
    path.write_bytes(b"a: \xff\n")
    with pytest.raises(PipelineError, match=r"params\.yaml: expected UTF-8 text"):
        read_yaml(path)
