"""HTML pages that are one file each: text, tables and pictures, no scripts, no other files.

The templates are Jinja2's. Equal values give equal bytes.
"""

import base64
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined

TEMPLATES = Path(__file__).parent / "templates"


def render_page(template: Path, **values: Any) -> str:
    """Return a page; its template may extend and import the templates of this package.

    Text is escaped. A name that the template uses and `values` lack is an error.
    """
    # A loader of packages would need the project to be installed.
    environment = Environment(
        loader=FileSystemLoader([template.parent, TEMPLATES], encoding="utf-8"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.tests["number"] = _is_number
    environment.filters["base64"] = lambda content: base64.b64encode(content).decode()
    return environment.get_template(template.name).render(values)


def _is_number(cell: object) -> bool:
    """Return whether a cell of a table reads as a number, such as "-1,000.5" or "5 %"."""
    try:
        float(str(cell).replace(",", "").rstrip(" %"))
    except ValueError:
        return False
    return True
