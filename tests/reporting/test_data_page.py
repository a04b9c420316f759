"""The page about the data."""

import base64
import re
from pathlib import Path
from typing import Any

from support import Page

from imgpipe.reporting.data_page import write_data_page


def name(file: str, class_name: str = "cat", split: str = "train") -> dict[str, str]:
    return {"file": file, "class": class_name, "split": split}


def make_data(**changes: Any) -> dict[str, Any]:
    pair = [name("a<1>.jpg"), name("b.jpg", "dog & co", "test")]
    return {
        "duplicate_images": 3,
        "copied_images": 1_200,
        "near_pairs": 45,
        "near_pairs_across_splits": 7,
        "near_search": "complete",
        "two_label_pictures": 1,
        "left_out_images": 0,
        "bad_images": 1,
        "misnamed_files": 1,
        "unused_files": 2,
        "splits": [{"split": "train", "images": 30}, {"split": "test", "images": 9}],
        "classes": [
            {"class": "cat", "images": 30, "train": 24, "test": 6},
            {"class": "dog & co", "images": 9, "train": 6, "test": 3},
        ],
        "duplicates": [{"splits": ["train", "test"], "images": 3}],
        "two_labels": [{"count": 2, "images": pair}],
        "copies": [{"count": 1_201, "images": pair}],
        "near": [{"bits": 7, "images": pair}],
        "sizes": [{"measure": "longer side 64 to 127 px", "images": 39}],
        "formats": [{"format": "JPEG, RGB", "images": 39}],
        "misnamed": [{"file": "c.png", "format": "JPEG"}],
        "bad_files": [{"file": "d.jpg", "reason": "empty & cut"}],
        "unused": [{"reason": "not an image", "files": 2, "first": ["e.txt", "f.mov"]}],
        **changes,
    }


def write(folder: Path, note: str = "", **changes: Any) -> str:
    path = folder / "data.html"
    write_data_page(path, "pets", make_data(**changes), {"b.jpg": b"picture"}, note)
    return path.read_text(encoding="utf-8")


def test_the_page_has_each_part_with_names_and_pictures(tmp_path: Path) -> None:
    text = write(tmp_path)
    page = Page(text)
    assert page.open == []
    pictures = {base64.b64decode(source.partition(",")[2]) for source in page.sources}
    assert pictures == {b"picture"}
    assert re.findall("<h2>(.*?)</h2>", text) == [
        "The same picture under two labels", "Near duplicates", "Copies with the same pixels",
        "Unreadable files", "Files with the name of another format", "Files that are not used",
        "Classes", "Files",
    ]  # fmt: skip
    for part in (
        "a&lt;1&gt;.jpg", "<strong>dog &amp; co</strong>, test", "7 of 128 bits differ",
        "1,201 images", "The first 1 of 45 pairs.", "empty &amp; cut",
        "Fewer than 20 images: dog &amp; co (9).",
    ):  # fmt: skip
        assert part in text, part
    cells = page.cells
    assert cells[cells.index("images in two splits") + 1] == "3 in train and test"
    assert cells[cells.index("near duplicates") + 1] == "45 pairs, 7 of them in two splits"
    assert cells[cells.index("not an image") :][:3] == ["not an image", "2", "e.txt, f.mov"]


def test_clean_data_have_a_short_page(tmp_path: Path) -> None:
    lists = ("two_labels", "copies", "near", "misnamed", "bad_files", "unused")
    empty: dict[str, Any] = {name: [] for name in lists}
    text = write(tmp_path, **empty, near_pairs=0, near_search="small images")
    assert re.findall("<h2>(.*?)</h2>", text) == ["Classes", "Files"]
    assert "not searched: the images are smaller than 64 x 64 pixels" in text


def test_without_splits_the_page_says_why(tmp_path: Path) -> None:
    text = write(tmp_path, note="class 'a' has 1 image")
    assert "No splits: class &#39;a&#39; has 1 image" in text
    assert "images in two splits" not in text
    assert '<th class="number">train</th>' not in text
