"""Lines that commands print."""

import pytest

from imgpipe.console.messages import (
    escape_unprintable,
    format_bytes,
    format_count,
    format_duration,
    report,
    wrap_line,
)


def test_a_line_of_100_characters_is_printed_as_it_is(capsys: pytest.CaptureFixture[str]) -> None:
    line = f"  two  spaces {'x' * 86}"
    assert len(line) == 100
    report(line, "next")
    assert capsys.readouterr().out == f"{line}\nnext\n"


def test_a_longer_line_breaks_at_spaces_and_continues_indented() -> None:
    assert list(wrap_line(f"  {'word-with-hyphens ' * 6}end")) == [
        "  word-with-hyphens word-with-hyphens word-with-hyphens word-with-hyphens"
        " word-with-hyphens",
        "    word-with-hyphens end",
    ]


def test_a_name_longer_than_a_line_is_cut() -> None:
    parts = list(wrap_line(f"fetch: {'n' * 250}: 1 file"))
    assert max(map(len, parts)) == 100
    assert "".join(part.strip() for part in parts).count("n") == 250


@pytest.mark.parametrize(
    ("count", "nouns", "text"),
    [
        (0, ["image"], "0 images"), (1, ["image"], "1 image"), (1797, ["image"], "1,797 images"),
        (2, ["class", "classes"], "2 classes"),
    ],
)  # fmt: skip
def test_a_count_has_its_noun(count: int, nouns: list[str], text: str) -> None:
    assert format_count(count, *nouns) == text


@pytest.mark.parametrize(
    ("size_bytes", "text"),
    [
        (0, "0 bytes"), (999, "999 bytes"), (1000, "1.0 kB"), (57_256, "57.3 kB"),
        (99_960, "100 kB"), (999_499, "999 kB"), (999_500, "1.0 MB"), (11_594_722, "11.6 MB"),
        (2.5e9, "2.5 GB"), (3e16, "30000 TB"),
    ],
)  # fmt: skip
def test_a_size_has_its_unit(size_bytes: float, text: str) -> None:
    assert format_bytes(size_bytes) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.04, "0.0 s"), (9.94, "9.9 s"), (9.96, "10 s"), (99, "99 s"), (100, "1.7 min"),
        (3600, "60 min"), (6000, "1.7 h"), (1e6, "278 h"),
    ],
)  # fmt: skip
def test_a_duration_has_its_unit(seconds: float, text: str) -> None:
    assert format_duration(seconds) == text


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("größe 猫 \U0001f600", "größe 猫 \U0001f600"), ("a\nb\tc\r", r"a\nb\tc\r"),
        ("\x1b[2J\x7f\x9b", r"\x1b[2J\x7f\x9b"), ("gr\udcf6\udcdfe", r"gr\xf6\xdfe"),
        ("\ud800", r"\ud800"), ("a\u202eb\u2028", r"a\u202eb\u2028"),
        ("क्\u200dष", "क्\u200dष"), ("\U000e0001", r"\U000e0001"), ("", ""),
    ],
)  # fmt: skip
def test_what_would_change_a_line_is_escaped(text: str, shown: str) -> None:
    assert escape_unprintable(text) == shown
