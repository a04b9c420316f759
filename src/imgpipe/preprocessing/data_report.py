"""What a person should know about the images of a dataset: the content of metrics/data.json."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any

import numpy as np
from numpy.typing import NDArray

from imgpipe.console.messages import format_count
from imgpipe.core.errors import PipelineError
from imgpipe.preprocessing.copies import Copies
from imgpipe.preprocessing.copy_policy import find_two_labels
from imgpipe.preprocessing.image_facts import MOST_NAMES, ImageFacts
from imgpipe.preprocessing.near_pairs import NearPairs
from imgpipe.preprocessing.raw_datasets import RawDataset
from imgpipe.preprocessing.splits import LEFT_OUT, SPLITS

NOT_DIVIDED = -3
"""In the place of a split: the images could not be divided into splits."""
LEFT_OUT_NAME = "left out"
"""In the place of a split: the image is not in the records."""

_MOST_PAIRS = 40  # that are listed, with pictures
_MOST_GROUPS = 20  # of exact copies, and pictures with two labels, each with pictures
_MOST_OF_A_GROUP = 6  # images that are named
_SHOWN_BAD_FILES = 3
_SIDES_PX = (0, 64, 128, 256, 512, 1024, 2048, 4096)  # limits of the longer side
_ASPECTS = (("1:2 or narrower", 0.55), ("2:3", 0.71), ("3:4", 0.9), ("1:1", 1.1), ("4:3", 1.4),
            ("3:2", 1.8), ("2:1 or wider", np.inf))  # fmt: skip


@dataclass(frozen=True)
class DataReport:
    """Facts about the images of all splits, and about those that are left out."""

    content: dict[str, Any]
    """Of metrics/data.json. It has lists, because `dvc metrics` would make a column of each value
    of a mapping."""
    bad_files: dict[str, str]
    """For the identity of each image that could not be read, the reason."""
    shown: NDArray[np.int64]
    """(n,) the numbers of the images whose pictures belong to the report."""

    def count_images(self) -> int:
        """Return the number of images in all splits."""
        return sum(part["images"] for part in self.content["splits"])

    def describe(self) -> Iterator[str]:
        """Yield the lines that report the most important numbers."""
        content = self.content
        splits = ", ".join(f"{part['images']:,} {part['split']}" for part in content["splits"])
        across = format_count(content["duplicate_images"], "duplicate")
        bad_files = format_count(content["bad_images"], "unreadable file")
        unused = content["unused_files"]
        also = f"; {format_count(unused, 'other file')}" if unused else ""
        yield f"  {splits}; {across} across splits; {bad_files}{also}"
        found = [
            format_count(content[key], one, several)
            for key, one, several in (
                ("copied_images", "copy of an earlier image", "copies of earlier images"),
                ("near_pairs", "pair of near duplicates", "pairs of near duplicates"),
                (
                    "near_pairs_across_splits",
                    "pair of near duplicates across splits",
                    "pairs of near duplicates across splits",
                ),
                ("two_label_pictures", "picture with two labels", "pictures with two labels"),
                ("left_out_images", "image left out", "images left out"),
            )
            if content[key]
        ]
        if found:
            yield f"  {'; '.join(found)}"


def report_data(
    dataset: RawDataset, facts: ImageFacts, copies: Copies, splits: NDArray[np.int8]
) -> DataReport:
    """Return the report about the images whose facts are known.

    Args:
        dataset: the images.
        facts: about M of them.
        copies: among these.
        splits: (M,) indices into `SPLITS`, `LEFT_OUT`, or `NOT_DIVIDED`.
    """
    labels = dataset.labels[facts.indices]
    per_class = [
        np.bincount(labels[splits == code], minlength=len(dataset.classes))
        for code in range(len(SPLITS))
    ]
    across = count_across(facts.digests, splits)
    has_two = find_two_labels(copies.groups, labels)
    two_labels = np.unique(copies.groups[has_two])
    copied = np.flatnonzero(copies.originals != np.arange(len(labels)))
    exact = np.unique(copies.originals[copied])
    listing = _Listing(dataset, facts.indices, splits)
    total = np.bincount(labels, minlength=len(dataset.classes)).tolist()
    content = {
        "duplicate_images": sum(across.values()),
        "copied_images": len(copied),
        "near_pairs": len(copies.near.first),
        "near_pairs_across_splits": count_pairs_across(copies.near, splits),
        "near_search": copies.near_search,
        "two_label_pictures": len(two_labels),
        "left_out_images": int((splits == LEFT_OUT).sum()),
        "bad_images": len(facts.bad_files),
        "misnamed_files": facts.misnamed.total(),
        "unused_files": dataset.unused.count(),
        "splits": [
            {"split": split, "images": int(counts.sum())}
            for split, counts in zip(SPLITS, per_class, strict=True)
        ],
        "classes": [
            {"class": name, "images": images, **dict(zip(SPLITS, map(int, counts), strict=True))}
            for name, images, *counts in zip(dataset.classes, total, *per_class, strict=True)
        ],
        "duplicates": [{"splits": pair, "images": count} for pair, count in across.items()],
        "two_labels": [
            listing.name_group(copies.groups, group) for group in two_labels[:_MOST_GROUPS].tolist()
        ],
        "copies": [
            listing.name_group(copies.originals, first, pictures=1)
            for first in exact[:_MOST_GROUPS].tolist()
        ],
        "near": [
            {"bits": bits, "images": listing.name([first, second])}
            for first, second, bits in zip(
                *(column[:_MOST_PAIRS].tolist() for column in copies.near), strict=True
            )
        ],
        "sizes": _describe_sizes(facts.sizes),
        "formats": [
            {"format": name, "images": count} for name, count in sorted(facts.formats.items())
        ],
        "misnamed": [
            {"file": name, "format": found} for name, found in facts.misnamed_files.items()
        ],
        "bad_files": [
            {"file": name, "reason": reason}
            for name, reason in list(facts.bad_files.items())[:MOST_NAMES]
        ],
        "unused": dataset.unused.to_metrics(),
    }
    return DataReport(content, facts.bad_files, listing.find_shown())


class _Listing:
    """Names images by file, class and split, and notes whose pictures belong to the report."""

    def __init__(
        self, dataset: RawDataset, indices: NDArray[np.int64], splits: NDArray[np.int8]
    ) -> None:
        self._dataset, self._indices, self._splits = dataset, indices, splits
        self._shown: dict[int, None] = {}

    def name(self, numbers: Sequence[int], pictures: int | None = None) -> list[dict[str, Any]]:
        """Return file, class and split of images, which are numbered from 0 to M - 1.

        The pictures of the first ones belong to the report, of all by default.
        """
        indices = self._indices[numbers]
        self._shown |= dict.fromkeys(indices[:pictures].tolist())
        return [
            {"file": identity, "class": self._dataset.classes[label], "split": _name_split(split)}
            for identity, label, split in zip(
                self._dataset.identities(indices),
                self._dataset.labels[indices].tolist(),
                self._splits[numbers].tolist(),
                strict=True,
            )
        ]

    def name_group(
        self, groups: NDArray[np.int64], group: int, pictures: int | None = None
    ) -> dict[str, Any]:
        """Return the number of images of a group, and some names, of each class and split first."""
        members = np.flatnonzero(groups == group)
        labels = self._dataset.labels[self._indices[members]]
        kinds = np.stack([labels, self._splits[members]])
        _, first = np.unique(kinds, axis=1, return_index=True)
        others = np.setdiff1d(np.arange(len(members)), first)
        named = np.sort(np.concatenate([first, others])[:_MOST_OF_A_GROUP])
        return {"count": len(members), "images": self.name(members[named].tolist(), pictures)}

    def find_shown(self) -> NDArray[np.int64]:
        """Return the numbers in the dataset of the images whose pictures belong to the report."""
        return np.array(sorted(self._shown), dtype=np.int64)


def _name_split(code: int) -> str:
    if code == NOT_DIVIDED:
        return ""
    return LEFT_OUT_NAME if code == LEFT_OUT else SPLITS[code]


def count_across(
    digests: NDArray[np.uint64], splits: NDArray[np.int8]
) -> dict[tuple[str, str], int]:
    """Return for each pair of splits: the images of the second that the first has, too."""
    of_split = [digests[splits == code] for code in range(len(SPLITS))]
    return {
        (SPLITS[first], SPLITS[second]): _count_known(of_split[first], of_split[second])
        for first, second in combinations(range(len(SPLITS)), 2)
    }


def _count_known(known: NDArray[np.uint64], digests: NDArray[np.uint64]) -> int:
    if not len(known):
        return 0
    known = np.sort(known)  # with `np.isin`, an image would take 40 bytes
    places = np.minimum(np.searchsorted(known, digests), len(known) - 1)
    return int((known[places] == digests).sum())


def count_pairs_across(pairs: NearPairs, splits: NDArray[np.int8]) -> int:
    """Return the number of pairs whose images are in two splits."""
    first, second = splits[pairs.first], splits[pairs.second]
    return int(((first != second) & (first >= 0) & (second >= 0)).sum())


def _describe_sizes(sizes: NDArray[np.int32]) -> list[dict[str, Any]]:
    """Return the number of files by longer side, and by aspect ratio; only the kinds that occur."""
    longer = np.searchsorted(_SIDES_PX, sizes.max(axis=1, initial=0), side="right") - 1
    aspects = sizes[:, 0] / np.maximum(sizes[:, 1], 1)
    shapes = np.searchsorted([limit for _, limit in _ASPECTS], aspects)
    rows = []
    for number, count in sorted(Counter(longer.tolist()).items()):
        to = f"{_SIDES_PX[number + 1] - 1:,}" if number + 1 < len(_SIDES_PX) else "more"
        rows.append({"measure": f"longer side {_SIDES_PX[number]:,} to {to} px", "images": count})
    for number, count in sorted(Counter(shapes.tolist()).items()):
        rows.append({"measure": f"width to height {_ASPECTS[number][0]}", "images": count})
    return rows


def check_bad_files(bad_files: Mapping[str, str], images: int, max_bad_frac: float) -> None:
    """Check that the share of images that could not be read is at most `max_bad_frac`.

    `images` is the number of the readable images.

    Raises:
        PipelineError: it is larger; the line names some of the images, each with its reason.
    """
    images += len(bad_files)
    if len(bad_files) <= max_bad_frac * images:
        return
    shown = [f"{identity}: {reason}" for identity, reason in sorted(bad_files.items())]
    more = f"; and {len(shown) - _SHOWN_BAD_FILES} more" if len(shown) > _SHOWN_BAD_FILES else ""
    raise PipelineError(
        f"{len(shown)} of {images} images cannot be read, more than the share of"
        f" {max_bad_frac} that preprocess.max_bad_frac allows:"
        f" {'; '.join(shown[:_SHOWN_BAD_FILES])}{more};"
        " repair or delete them, or raise max_bad_frac"
    )
