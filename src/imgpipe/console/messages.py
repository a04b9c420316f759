"""The lines that commands print: at most 100 characters, counts and sizes with their units."""

import textwrap
from collections.abc import Iterator, Sequence
from typing import TextIO

LINE_CHARACTERS = 100
"""Most characters of a printed line. An error is always one line, of any length."""

_JOINERS = "\u200c\u200d"  # zero width; parts of Persian words, of Indic letters and of emoji


def report(*lines: str, stream: TextIO | None = None) -> None:
    """Print lines at once, also into a pipe; a longer line continues below, indented."""
    for line in lines:
        for part in wrap_line(line):
            print(part, file=stream, flush=True)


def wrap_line(line: str) -> Iterator[str]:
    """Yield the parts of a line, each of at most LINE_CHARACTERS characters.

    A line breaks at spaces; only a longer word is cut.
    """
    if len(line) <= LINE_CHARACTERS:
        yield line
        return
    indent = line[: len(line) - len(line.lstrip())]
    yield from textwrap.wrap(
        line, LINE_CHARACTERS, subsequent_indent=f"{indent}  ", break_on_hyphens=False
    )


def escape_unprintable(text: str) -> str:
    """Return the text with escapes for characters that would change a line or the terminal.

    A new line becomes a backslash and n; a byte of a file name that is not UTF-8 its hexadecimal
    digits behind a backslash and x.
    """
    return "".join(
        character if character.isprintable() or character in _JOINERS else _escape(character)
        for character in text
    )


def _escape(character: str) -> str:
    code = ord(character)
    if 0xDC80 <= code <= 0xDCFF:  # as Python decodes such a byte
        return f"\\x{code - 0xDC00:02x}"
    return character.encode("unicode_escape").decode()


def format_count(count: int, noun: str, plural: str | None = None) -> str:
    """Return a number with its noun, such as "1 file" or "1,797 images".

    By default, the plural is the noun with "s".
    """
    return f"{count:,} {noun if count == 1 else plural or f'{noun}s'}"


def join_some(names: Sequence[str], most: int) -> str:
    """Return names with commas, such as "a, b and 3 more" for five names of which two are shown."""
    more = f" and {len(names) - most:,} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more


def format_bytes(size_bytes: float) -> str:
    """Return a size in the largest unit that fits, such as "57.3 kB"; 1 kB is 1,000 bytes."""
    size, unit = size_bytes, "bytes"
    for larger in ("kB", "MB", "GB", "TB"):
        if size < 999.5:
            break
        size, unit = size / 1000, larger
    return f"{size:.0f} {unit}" if unit == "bytes" or size >= 99.95 else f"{size:.1f} {unit}"


def format_duration(seconds: float) -> str:
    """Return a duration with two or three digits, such as "0.9 s", "35 s", "2.5 min" or "3.2 h"."""
    value, unit = seconds, "s"
    for larger in ("min", "h"):
        if value < 99.5:
            break
        value, unit = value / 60, larger
    return f"{value:.1f} {unit}" if value < 9.95 else f"{value:.0f} {unit}"
