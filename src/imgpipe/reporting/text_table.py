"""Text that a command prints: rows in aligned columns, and values of parameters."""

import json
from collections.abc import Iterator, Sequence


def format_columns(rows: Sequence[Sequence[str]]) -> Iterator[str]:
    """Yield each row as a line; columns are as wide as their widest cell, two spaces apart."""
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    for row in rows:
        cells = (f"{cell:<{width}}" for cell, width in zip(row, widths, strict=True))
        yield "  ".join(cells).rstrip()


def format_value(value: object) -> str:
    """Return a parameter's value as params.yaml writes it."""
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
