from imgpipe.console.tables import format_columns


def test_columns_are_as_wide_as_their_widest_cell() -> None:
    assert list(format_columns([["a", "bb", ""], ["ccc", "d", "e"]])) == ["a    bb", "ccc  d   e"]


def test_a_table_that_is_too_wide_wraps_its_widest_cells() -> None:
    rows = [["score", "first", "names"], ["accuracy", "x" * 20, "a-long-name, " * 8 + "end"]]
    assert list(format_columns(rows)) == [
        "score     first                 names",
        f"accuracy  {'x' * 20}  {'a-long-name, ' * 5}".rstrip(),
        f"{'':<32}{'a-long-name, ' * 3}end",
    ]
    path = "/".join(["folder"] * 40)
    lines = list(format_columns([["file", "class"], [path, "cats"]]))
    assert max(map(len, lines)) == 100
    assert "".join(line[:94].strip() for line in lines[1:]) == path
