"""The pages of results: a section can be measured again without the others."""

from collections.abc import Sequence


def replace_section(page: str, head: str, titles: Sequence[str], title: str, body: str) -> str:
    """Return a page with one section replaced or added.

    Args:
        page: the old page; "" for none.
        head: the text before the first section.
        titles: of all sections, in their order; a section with another title is left out.
        title: of the new section.
        body: of the new section, without its title.
    """
    sections = {**split_page(page), title: body}
    parts = [head, *(f"## {name}\n\n{sections[name]}" for name in titles if name in sections)]
    return "\n\n".join(parts) + "\n"


def split_page(page: str) -> dict[str, str]:
    """Return the texts of the sections of a page, by title."""
    sections = {}
    for section in page.split("\n## ")[1:]:
        title, _, body = section.partition("\n")
        sections[title] = body.strip()
    return sections
