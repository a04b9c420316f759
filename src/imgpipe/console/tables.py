"""Tables that a command prints: rows in aligned columns."""

import textwrap
from collections.abc import Iterator, Sequence
from itertools import zip_longest

from imgpipe.console.messages import LINE_CHARACTERS

_LEAST_WIDTH = 8  # of a column that is made narrower


def format_columns(rows: Sequence[Sequence[str]]) -> Iterator[str]:
    """Yield each row as a line; columns are as wide as their widest cell, two spaces apart.

    If the lines would be longer than LINE_CHARACTERS, the widest columns become narrower, and their
    long cells continue in lines below.
    """
    widths = find_widths(rows)
    for row in rows:
        yield from format_row(row, widths)


def find_widths(rows: Sequence[Sequence[str]]) -> list[int]:
    """Return the widths of the columns of a table."""
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    while sum(widths) + 2 * (len(widths) - 1) > LINE_CHARACTERS and max(widths) > _LEAST_WIDTH:
        widths[widths.index(max(widths))] -= 1
    return widths


def format_row(row: Sequence[str], widths: Sequence[int]) -> Iterator[str]:
    """Yield the line of a row, and lines below it for the rest of cells that are too long."""
    wrapped = [
        [cell] if len(cell) <= width else textwrap.wrap(cell, width, break_on_hyphens=False)
        for cell, width in zip(row, widths, strict=True)
    ]
    for parts in zip_longest(*wrapped, fillvalue=""):
        cells = (f"{part:<{width}}" for part, width in zip(parts, widths, strict=True))
        yield "  ".join(cells).rstrip()
