"""The check of the prose finds forbidden phrases, with their lines, and does not look at code."""

from language import find_phrases

CODE = '''"""Read a file, and report
what it holds."""

those_of = what["is"]  # Not what they
    # are.
print("a process in vain")
'''


def test_the_comments_docstrings_and_messages_of_python_are_prose() -> None:
    found = list(find_phrases("src/example.py", CODE))
    assert [line.rsplit(":", 1)[0] for line in sorted(found)] == [
        "src/example.py:2: 'what it holds'",
        "src/example.py:4: 'what they are'",
        "src/example.py:6: 'in vain'",
    ]


def test_the_code_of_documents_is_no_prose() -> None:
    page = "Run `what it`.\n\n```bash\nin vain\n```\n\nThe figures are those\nof a run.\n"
    (line,) = find_phrases("docs/page.md", page)
    assert line == "docs/page.md:7: 'those of': name the noun"


def test_a_phrase_of_a_yaml_comment_is_found_across_lines() -> None:
    text = "copies: 4  # of each image; those\n           # of the test split have none\n"
    (line,) = find_phrases("recipes/page.yaml", text)
    assert line.startswith("recipes/page.yaml:1: 'those of'")
