"""The page about the data: copies, labels, files and classes that a person should look at."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from imgpipe.console.messages import format_count, join_some
from imgpipe.core.files import write_text
from imgpipe.reporting.html_pages import TEMPLATES, render_page

FEW_IMAGES = 20
"""A class with fewer images is named: of 20 images, 4 are for the test by default, so that one
mistake more changes the recall by a quarter."""

_MOST_UNUSED = 10  # names of each kind of file that is not used
_NEAR_SEARCH = {
    "off": "not searched (preprocess.duplicate_distance is 0)",
    "small images": "not searched: the images are smaller than 64 x 64 pixels",
    "too many images": "not searched: more than a million images",
    "too many pairs": "the search was stopped: the images are too alike for it",
}
"""Why near duplicates are not known."""


def write_data_page(
    path: Path,
    dataset: str,
    data: Mapping[str, Any],
    thumbnails: Mapping[str, bytes],
    note: str = "",
) -> None:
    """Write the page; equal values give equal bytes.

    Args:
        path: of the page.
        dataset: its name.
        data: the content of metrics/data.json.
        thumbnails: JPEG files of the images that `data` names as copies, by their identities.
        note: why the images have no splits, if they have none.
    """
    # Without splits, their columns are empty.
    columns = ["class", "images", *([] if note else [part["split"] for part in data["splits"]])]
    page = render_page(
        TEMPLATES / "data_page.html",
        title=f"Data: {dataset}",
        note=note,
        data=data,
        thumbnails=thumbnails,
        summary_rows=list(_summary_rows(data, has_splits=not note)),
        class_header=columns,
        class_rows=[[row[column] for column in columns] for row in data["classes"]],
        unused_rows=[
            (group["reason"], group["files"], join_some(group["first"], _MOST_UNUSED))
            for group in data["unused"]
        ],
        few_images=FEW_IMAGES,
        rows=lambda items: [tuple(item.values()) for item in items],
    )
    write_text(path, page)


def _summary_rows(data: Mapping[str, Any], *, has_splits: bool) -> Iterator[tuple[str, str]]:
    yield "pictures with two labels", f"{data['two_label_pictures']:,}"
    if has_splits:
        across = [
            f"{pair['images']:,} in {' and '.join(pair['splits'])}"
            for pair in data["duplicates"]
            if pair["images"]
        ]
        yield "images in two splits", "; ".join(across) or "0"
    yield "copies with the same pixels", f"{data['copied_images']:,}"
    pairs = format_count(data["near_pairs"], "pair")
    if has_splits and data["near_pairs_across_splits"]:
        pairs += f", {data['near_pairs_across_splits']:,} of them in two splits"
    yield "near duplicates", _NEAR_SEARCH.get(data["near_search"], pairs)
    if data["left_out_images"]:
        yield "left out, by preprocess.duplicates or two_labels", f"{data['left_out_images']:,}"
    yield "unreadable files", f"{data['bad_images']:,}"
    yield "files with the name of another format", f"{data['misnamed_files']:,}"
    yield "files that are not used", f"{data['unused_files']:,}"
