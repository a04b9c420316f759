import base64
from typing import Any

import pytest
from jinja2 import UndefinedError
from support import SRC, Page

from imgpipe.reporting.html_pages import TEMPLATES, render_page

PNG = b"\x89PNG content"
COMPARISON = SRC / "imgpipe/experiments/templates/comparison.html"


def comparison(**changes: Any) -> str:
    values: dict[str, Any] = {
        "title": "A & B",
        "verdict": "no evidence either way",
        "notes": ["<edited>"],
        "metrics_header": ["score", "A", "B", "change"],
        "metrics_rows": [["1", "5 %", "7", "+0.1"], ["2", "-1,000.5", "none", "-0.2"]],
        "explanations": ["How it was measured."],
        "differences_header": ["", "A", "B"],
        "differences_rows": [["training.seed", "1", "2"]],
        "data_and_code": ["Data that differ: data/raw."],
        "galleries": [{"png": PNG, "description": "Three <images>."}, "No image that only B."],
    }
    return render_page(COMPARISON, **{**values, **changes})


def test_a_page_is_one_file_with_closed_tags() -> None:
    text = comparison()
    page = Page(text)
    assert page.open == []
    assert [base64.b64decode(source.partition(",")[2]) for source in page.sources] == [PNG]
    assert page.cells[:4] == ["score", "A", "B", "change"]
    assert "<script" not in text


def test_text_is_escaped() -> None:
    text = comparison()
    assert "<title>A &amp; B</title>" in text
    assert "<h1>A &amp; B</h1>" in text
    assert "<p>Note: &lt;edited&gt;</p>" in text
    assert 'alt="Three &lt;images&gt;."' in text


def test_a_comparison_holds_its_parts_in_order() -> None:
    text = comparison()
    parts = [
        '<p class="verdict">no evidence either way</p>', "Note: ",
        "<h2>Scores on the test split</h2>", "<p>How it was measured.</p>", "<h2>What differs</h2>",
        "<td>training.seed</td>", "<p>Data that differ: data/raw.</p>", "<figcaption>Three",
        "<p>No image that only B.</p>",
    ]  # fmt: skip
    places = [text.index(part) for part in parts]
    assert places == sorted(places)
    assert text.count("<table>") == 2
    assert comparison(differences_rows=[]).count("<table>") == 1


def test_a_column_of_numbers_is_aligned_to_the_right() -> None:
    text = comparison()
    number = '<td class="number">'
    assert f"<tr><td>1</td>{number}5 %</td><td>7</td>{number}+0.1</td></tr>" in text
    assert '<th>score</th><th class="number">A</th><th>B</th>' in text
    assert "<th>" not in comparison(
        metrics_header=["", "", "", ""], differences_header=["", "", ""]
    )


def test_a_missing_value_is_an_error() -> None:
    with pytest.raises(UndefinedError, match="'verdict' is undefined"):
        render_page(COMPARISON, title="A")


def test_equal_values_give_equal_pages() -> None:
    pages = {render_page(TEMPLATES / "base.html", title="ä") for _ in range(2)}
    assert len(pages) == 1
    assert "<h1>ä</h1>" in pages.pop()
