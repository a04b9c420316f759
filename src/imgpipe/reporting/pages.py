"""Pages of HTML that are one file: tables and pictures, nothing from elsewhere, no scripts."""

import base64
import html
from collections.abc import Iterable, Sequence
from pathlib import Path

from imgpipe.core.files import replace_file

_STYLE = """
body { font: 16px/1.5 system-ui, sans-serif; color: #1c1c1c; background: #fff;
       max-width: 62rem; margin: 2rem auto; padding: 0 1rem; }
h1 { font-size: 1.7rem; line-height: 1.2; margin-bottom: .3rem; }
h2 { font-size: 1.2rem; margin-top: 2.2rem; border-bottom: 1px solid #ddd; }
table { border-collapse: collapse; margin: .8rem 0; }
th, td { padding: .2rem .9rem .2rem 0; text-align: left; vertical-align: top;
         border-bottom: 1px solid #eee; overflow-wrap: anywhere; }
th { font-weight: 600; }
td.number, th.number { text-align: right; font-variant-numeric: tabular-nums;
                       white-space: nowrap; }
pre { background: #f6f6f6; padding: .8rem; overflow-x: auto; line-height: 1.35; }
img { max-width: 100%; height: auto; display: block; margin: .8rem 0; }
figure { margin: 1rem 0; } figcaption { color: #555; }
.verdict { font-size: 1.15rem; font-weight: 600; }
"""


def write_page(path: Path, title: str, blocks: Iterable[str]) -> None:
    """Write a page of the blocks that the functions below make; equal blocks give equal bytes."""
    text = "\n".join(
        [
            "<!DOCTYPE html>",
            '<html lang="en">',
            '<head><meta charset="utf-8">',
            '<meta name="viewport" content="width=device-width, initial-scale=1">',
            f"<title>{html.escape(title)}</title>",
            f"<style>{_STYLE}</style></head>",
            "<body>",
            f"<h1>{html.escape(title)}</h1>",
            *blocks,
            "</body></html>",
            "",
        ]
    )
    with replace_file(path) as partial:
        partial.write_text(text, encoding="utf-8", newline="\n")


def heading(text: str) -> str:
    """Return a heading below the title."""
    return f"<h2>{html.escape(text)}</h2>"


def paragraph(text: str, *, verdict: bool = False) -> str:
    """Return a paragraph; a verdict stands out."""
    opening = '<p class="verdict">' if verdict else "<p>"
    return f"{opening}{html.escape(text)}</p>"


def preformatted(text: str) -> str:
    """Return text whose lines and columns stay as they are."""
    return f"<pre>{html.escape(text)}</pre>"


def table(header: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """Return a table; a column of numbers, but the first, stands to the right.

    A header of empty texts is left out.
    """
    cells = [[str(cell) for cell in row] for row in rows]
    right = [
        column > 0 and all(_is_number(row[column]) for row in cells)
        for column in range(len(header))
    ]
    lines = ["<table>"]
    if any(header):
        lines.append(_row("th", header, right))
    lines += [_row("td", row, right) for row in cells]
    return "\n".join([*lines, "</table>"])


def _is_number(cell: str) -> bool:
    try:
        float(cell.replace(",", "").rstrip(" %"))
    except ValueError:
        return False
    return True


def _row(tag: str, cells: Sequence[str], right: Sequence[bool]) -> str:
    openings = (f'<{tag} class="number">' if number else f"<{tag}>" for number in right)
    marked = (
        f"{opening}{html.escape(cell)}</{tag}>"
        for opening, cell in zip(openings, cells, strict=True)
    )
    return f"<tr>{''.join(marked)}</tr>"


def picture(png: bytes, description: str) -> str:
    """Return a PNG picture with a description, for those who cannot see it too."""
    encoded = base64.b64encode(png).decode()
    text = html.escape(description)
    return (
        f'<figure><img alt="{text}" src="data:image/png;base64,{encoded}">'
        f"<figcaption>{text}</figcaption></figure>"
    )
