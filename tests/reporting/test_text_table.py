import pytest

from imgpipe.reporting.text_table import format_columns, format_value


def test_columns_are_as_wide_as_their_widest_cell() -> None:
    assert list(format_columns([["a", "bb", ""], ["ccc", "d", "e"]])) == ["a    bb", "ccc  d   e"]


@pytest.mark.parametrize(
    ("value", "text"),
    [("same", "same"), (True, "true"), (0.002, "0.002"), ([32, 64], "[32, 64]"), (3, "3")],
)
def test_values_are_shown_as_params_yaml_writes_them(value: object, text: str) -> None:
    assert format_value(value) == text
