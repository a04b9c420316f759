"""Which files are images, and the list of those that are not used."""

import pytest

from imgpipe.preprocessing.image_files import NOT_AN_IMAGE, UnusedFiles, is_image_file

PNG = b"\x89PNG\r\n\x1a\n" + bytes(60)


@pytest.mark.parametrize(
    ("name", "start", "expected"),
    [
        ("a.jpg", None, True), ("a.b/scan.TIFF", None, True), ("IMG_1.HEIC", None, True),
        ("raw/IMG_1.cr2", None, True), ("a.txt", b"text", False), ("a.txt", PNG, True),
        ("jpg", b"text", False), ("folder.jpg/a", b"", False), ("a.jpg.part", PNG, True),
        ("photo.jpg ", PNG, True), ("grün", PNG, True),
    ],
)  # fmt: skip
def test_the_ending_or_else_the_content_makes_an_image(
    name: str, start: bytes | None, expected: bool
) -> None:
    """A start of None: the file is not opened."""
    read = (lambda: start) if start is not None else (lambda: pytest.fail("opened"))
    assert is_image_file(name, read) is expected


def test_unused_files_are_counted_and_some_are_listed() -> None:
    unused = UnusedFiles()
    assert (unused.count(), unused.to_metrics()) == (0, [])
    unused.add("other", "b")
    for number in range(130):
        unused.add(NOT_AN_IMAGE, f"{number}.txt")
    assert unused.count() == 131
    assert unused.to_metrics() == [
        {
            "reason": NOT_AN_IMAGE,
            "files": 130,
            "first": [f"{number}.txt" for number in range(100)],
        },
        {"reason": "other", "files": 1, "first": ["b"]},
    ]
