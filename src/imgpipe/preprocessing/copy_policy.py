"""What happens to copies before the images are divided into splits."""

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from imgpipe.console.messages import format_count
from imgpipe.core.errors import PipelineError
from imgpipe.preprocessing.copies import Copies, connect, find_copies
from imgpipe.preprocessing.image_facts import ImageFacts
from imgpipe.preprocessing.raw_datasets import RawDataset
from imgpipe.preprocessing.splits import LEFT_OUT, SPLITS, choose_splits
from imgpipe.settings.preprocess import Preprocess

_SHOWN = 3


class UsedImages(NamedTuple):
    """The images that are divided into splits."""

    indices: NDArray[np.int64]
    """(n,) numbers in the dataset."""
    groups: NDArray[np.int64] | None
    """(n,) numbers; images with equal numbers stay in one split. None if each is by itself."""


def needs_facts(settings: Preprocess) -> bool:
    """Return whether the pixels of all images must be known before the splits."""
    return settings.duplicates != "keep" or settings.two_labels != "keep"


def divide_images(
    dataset: RawDataset,
    facts: ImageFacts | None,
    settings: Preprocess,
    groups: NDArray[np.int64] | None = None,
) -> dict[str, NDArray[np.int64]]:
    """Return the numbers of the images of each split, in the order in which they are written.

    Args:
        dataset: the images.
        facts: about all readable images; needed if `needs_facts` says so.
        settings: the section `preprocess` of params.yaml.
        groups: (N,) numbers; images with equal numbers stay in one split. None without groups
            besides the copies.

    Raises:
        PipelineError: as `choose_images` and `choose_splits`.
    """
    if facts is None or not needs_facts(settings):
        return choose_splits(
            dataset.labels, dataset.splits, dataset.paths, dataset.classes, settings, groups
        )
    copies = find_copies(facts, settings.duplicate_distance)
    used, groups_of_copies = choose_images(dataset, facts, copies, settings)
    chosen = choose_splits(
        dataset.labels[used],
        dataset.splits[used],
        lambda numbers: dataset.paths(used[numbers]),
        dataset.classes,
        settings,
        join_groups(groups_of_copies, None if groups is None else groups[used]),
    )
    return {split: used[numbers] for split, numbers in chosen.items()}


def find_splits(
    indices_of_split: Mapping[str, NDArray[np.int64]], images: int, indices: NDArray[np.int64]
) -> NDArray[np.int8]:
    """Return the split of some of the images, an index into `SPLITS`, or `LEFT_OUT`.

    Args:
        indices_of_split: the numbers of the images of each split.
        images: the number of all images.
        indices: (M,) the numbers of some.
    """
    assigned = np.full(images, LEFT_OUT, dtype=np.int8)
    for code, split in enumerate(SPLITS):
        assigned[indices_of_split[split]] = code
    return assigned[indices]


def choose_images(
    dataset: RawDataset, facts: ImageFacts, copies: Copies, settings: Preprocess
) -> UsedImages:
    """Return the images to use, and which of these stay in one split.

    An official split stays as it is. So of copies in several official splits, only those in the
    test split are used, or else those in the validation split. With a `test_fold`, the official
    test split is left out, and its copies with it.

    Raises:
        PipelineError: a picture has two labels, and `two_labels` is stop; or the search for near
            pairs was stopped.
    """
    if copies.near_search in ("too many images", "too many pairs"):
        raise PipelineError(
            f"preprocess.duplicates: near duplicates cannot be used here ({copies.near_search});"
            " set duplicate_distance: 0 for exact copies only, or duplicates: keep and two_labels:"
            " keep"
        )
    count = len(dataset.labels)
    indices, labels = facts.indices, dataset.labels[facts.indices]
    has_two = find_two_labels(copies.groups, labels)
    if settings.two_labels == "stop" and has_two.any():
        raise PipelineError(_describe_two_labels(dataset, facts, copies, has_two))
    is_used = np.ones(count, dtype=np.bool_)
    groups = np.arange(count)
    if settings.two_labels == "drop":
        is_used[indices[has_two]] = False
    if settings.duplicates != "keep":
        groups[indices] = indices[copies.groups]
        places = rank_official(dataset.splits[indices], has_folds=bool(settings.fold_and_folds))
        is_used[indices] &= ~find_worse(copies.groups, places)
    if settings.duplicates == "drop":
        is_used[indices] &= ~find_repeated(copies.groups, labels, is_used[indices])
    used = np.flatnonzero(is_used)
    _, groups = np.unique(groups[used], return_inverse=True)
    is_alone = len(groups) == int(groups.max(initial=-1)) + 1
    return UsedImages(used, None if is_alone else groups)


def find_two_labels(groups: NDArray[np.int64], labels: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Return which images have a copy with another label; all arrays are (M,)."""
    return _spread(groups, labels != labels[groups])


def find_repeated(
    groups: NDArray[np.int64], labels: NDArray[np.int64], is_used: NDArray[np.bool_]
) -> NDArray[np.bool_]:
    """Return which of the used images have an earlier used copy with the same label."""
    used = np.flatnonzero(is_used)
    _, first = np.unique(np.stack([groups[used], labels[used]]), axis=1, return_index=True)
    repeated = is_used.copy()
    repeated[used[first]] = False
    return repeated


def find_worse(groups: NDArray[np.int64], places: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Return which images have a copy in a better place; a smaller number is better."""
    best = np.full(len(groups), np.iinfo(np.int64).max)
    np.minimum.at(best, groups, places)
    is_worse: NDArray[np.bool_] = places > best[groups]
    return is_worse


def rank_official(official: NDArray[np.int8], *, has_folds: bool) -> NDArray[np.int64]:
    """Return a place for each official split (M,): the copies in the smallest one are used."""
    ranks = {"test": 1} if has_folds else {"test": -2, "validation": -1}
    places = np.zeros(len(official), dtype=np.int64)
    for split, rank in ranks.items():
        places[official == SPLITS.index(split)] = rank
    return places


def _spread(groups: NDArray[np.int64], marked: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Return which images are in a group with a marked image."""
    of_group = np.zeros(len(groups), dtype=np.bool_)
    of_group[groups[marked]] = True
    spread: NDArray[np.bool_] = of_group[groups]
    return spread


def _describe_two_labels(
    dataset: RawDataset, facts: ImageFacts, copies: Copies, has_two: NDArray[np.bool_]
) -> str:
    groups = np.unique(copies.groups[has_two])
    shown = []
    for group in groups[:_SHOWN].tolist():
        members = facts.indices[copies.groups == group]
        labels = dataset.labels[members]
        pair = members[[0, int(np.argmax(labels != labels[0]))]]
        names = [
            f"{name} ({dataset.classes[label]})"
            for name, label in zip(
                dataset.identities(pair), dataset.labels[pair].tolist(), strict=True
            )
        ]
        shown.append(" and ".join(names))
    more = f"; and {len(groups) - _SHOWN:,} more" if len(groups) > _SHOWN else ""
    return (
        f"{format_count(len(groups), 'picture')} with two labels: {'; '.join(shown)}{more}; delete"
        " the wrong ones, or set preprocess.two_labels to drop or keep"
    )


def join_groups(
    first: NDArray[np.int64] | None, second: NDArray[np.int64] | None
) -> NDArray[np.int64] | None:
    """Return groups (n,) in which images are together that are so in one of two divisions."""
    if first is None or second is None:
        return second if first is None else first
    edges = []
    for groups in (first, second):
        _, start, member = np.unique(groups, return_index=True, return_inverse=True)
        edges.append(start[member])
    numbers = np.arange(len(first))
    return connect(len(first), np.concatenate(edges), np.concatenate([numbers, numbers]))
