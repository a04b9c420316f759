"""Groups of images that stay in one split: which they are, and the choice of whole groups.

A group is known only by the images in it, so the order of the groups does not depend on how they
are numbered: a group has the place of the smallest hash of its images.
"""

import hashlib
import re
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from imgpipe.console.messages import format_count, report
from imgpipe.core.errors import PipelineError

NO_GROUP = -1
"""In the place of the number of a group: the image belongs to none."""

_PATHS_AT_ONCE = 1 << 12


class SortedImages(NamedTuple):
    """Images group by group, in the order of the groups."""

    images: NDArray[np.int64]
    """(n,) indices of images; in a group they are in the order of their hashes."""
    groups: NDArray[np.int64]
    """(n,) the place of the group of each image in the order of all groups."""

    def select(self, chosen: NDArray[np.bool_]) -> "SortedImages":
        """Return the images for which `chosen`, (n,), is true."""
        return SortedImages(self.images[chosen], self.groups[chosen])


def find_groups(
    setting: str,
    column: NDArray[np.int64] | None,
    paths: Callable[[NDArray[np.int64]], list[str]],
    images: int,
) -> NDArray[np.int64] | None:
    """Return the groups of a dataset, and print their number.

    Args:
        setting: `preprocess.groups`. A pattern must match a whole path; its group is the name of
            the group of the image.
        column: (N,) groups by the dataset itself, with NO_GROUP; None if it has none.
        paths: returns the paths inside the dataset of the images with the given indices.
        images: N.

    Returns:
        (N,) numbers, equal for images of one group; an image without a group is a group of its own.
        None if there are no groups.

    Raises:
        PipelineError: the dataset has no groups, or the pattern matches no path.
    """
    if setting == "none":
        return None
    if setting == "column":
        if column is None:
            raise PipelineError(
                "params.yaml: preprocess.groups: column, but the dataset has no table of labels"
                " with a column of groups; write none, or a regular expression for paths"
            )
        found = column
    else:
        found = _match_paths(re.compile(setting), paths, images)
        if images and not (found != NO_GROUP).any():
            raise PipelineError(
                f"params.yaml: preprocess.groups: {setting!r} matches no path of the dataset, such"
                f" as {paths(np.arange(1))[0]!r}; it must match the whole path"
            )
    ungrouped = np.flatnonzero(found == NO_GROUP)
    _, groups, sizes = np.unique(found, return_inverse=True, return_counts=True)
    groups[ungrouped] = images + ungrouped
    report(
        f"preprocess: {format_count(len(sizes) - bool(len(ungrouped)), 'group')} of images that"
        f" stay in one split; {format_count(len(ungrouped), 'image')} in no group"
    )
    return groups


def _match_paths(
    pattern: re.Pattern[str], paths: Callable[[NDArray[np.int64]], list[str]], images: int
) -> NDArray[np.int64]:
    """Return for each image a hash of the part of its path that is the group, or NO_GROUP.

    A hash takes 8 bytes. The chance that two of a million groups have the same one is 6e-8.
    """
    found = np.full(images, NO_GROUP, dtype=np.int64)
    for start in range(0, images, _PATHS_AT_ONCE):
        indices = np.arange(start, min(start + _PATHS_AT_ONCE, images))
        for index, path in zip(indices, paths(indices), strict=True):
            if (matched := pattern.fullmatch(path)) and matched[1]:
                digest = hashlib.blake2b(matched[1].encode(), digest_size=8).digest()
                found[index] = int.from_bytes(digest, "little") >> 1
    return found


def sort_by_group(hashes: NDArray[np.uint64], groups: NDArray[np.int64]) -> SortedImages:
    """Sort all images by group, and the groups by the smallest hash of their images.

    Equal hashes are in the order of the dataset.

    Args:
        hashes: (N,) of the images.
        groups: (N,) numbers; images with equal numbers are a group.
    """
    _, first, group = np.unique(groups, return_index=True, return_inverse=True)
    smallest = np.full(len(first), np.iinfo(np.uint64).max, dtype=np.uint64)
    np.minimum.at(smallest, group, hashes)
    places = np.empty(len(first), dtype=np.int64)
    places[np.lexsort((first, smallest))] = np.arange(len(first))
    place_of_image = places[group]
    order = np.lexsort((hashes, place_of_image))
    return SortedImages(order, place_of_image[order])


def count_groups(labels: NDArray[np.int64], groups: NDArray[np.int64], classes: int) -> list[int]:
    """Return the number of groups with images of each class; both arrays are (n,)."""
    pairs = np.unique(np.stack([groups, labels]), axis=1)
    return list(np.bincount(pairs[1], minlength=classes).tolist())


def choose_groups(
    some: SortedImages, labels: NDArray[np.int64], targets: Sequence[int], later: int
) -> NDArray[np.bool_]:
    """Choose groups with about the given number of images of each class.

    1. In the order of the groups, each group that fits: of none of its classes are there then more
       images than the target.
    2. Then, in the same order, each group that brings the numbers nearer to the targets: the sum
       over its classes of the distance becomes smaller.
    3. For a class of which no group is chosen yet: the group with the fewest images of the class.

    No group is chosen if fewer than `later` groups of one of its classes would be left, because
    other splits need these. If each group has one class, the number of images of a class differs
    from its target by at most half of the largest group, unless 3. or `later` decides. If each
    group has one image, the numbers are exact.

    Args:
        some: (n,) images; the images of a group follow one another.
        labels: (N,) of all images.
        targets: the number of images to choose, for each class.
        later: number of groups of each class that are left.

    Returns:
        (n,) whether the image belongs to a chosen group.
    """
    number = np.cumsum(np.diff(some.groups, prepend=some.groups[:1]) != 0)
    choice = _Choice(number, labels[some.images], targets, later)
    choice.choose_fitting()
    choice.choose_improving()
    choice.choose_for_empty_classes()
    chosen: NDArray[np.bool_] = choice.chosen[number]
    return chosen


class _Choice:
    """The groups that are chosen so far, and how many images of each class are missing."""

    def __init__(
        self,
        number: NDArray[np.int64],
        labels: NDArray[np.int64],
        targets: Sequence[int],
        later: int,
    ) -> None:
        """Begin without chosen groups; `number`, (n,), counts the groups from 0 in their order."""
        groups = int(number[-1]) + 1 if len(number) else 0
        pairs, counts = np.unique(number * len(targets) + labels, return_counts=True)
        # Through a memoryview, a number is read without an object for each number in memory.
        self._ends = np.searchsorted(pairs, np.arange(1, groups + 1) * len(targets)).data
        self._classes = (pairs % len(targets)).data
        self._counts = counts.data
        self._missing = list(targets)
        self._empty = set(range(len(targets)))
        left = np.bincount(pairs % len(targets), minlength=len(targets)) - later
        self._may_take: list[int] = left.tolist()
        self.chosen = np.zeros(groups, dtype=np.bool_)

    def choose_fitting(self) -> None:
        with_room = sum(missing > 0 for missing in self._missing)
        for group in range(len(self.chosen)):
            if not with_room:
                return
            content = self._content(group)
            fits = all(images <= self._missing[label] for label, images in content)
            if fits and self._take(group, content):
                with_room -= sum(self._missing[label] == 0 for label, _ in content)

    def choose_improving(self) -> None:
        for group in range(len(self.chosen)):
            if not self.chosen[group]:
                content = self._content(group)
                missing = self._missing
                before = sum(abs(missing[label]) for label, _ in content)
                if sum(abs(missing[label] - images) for label, images in content) < before:
                    self._take(group, content)

    def choose_for_empty_classes(self) -> None:
        smallest: dict[int, tuple[int, int]] = {}  # images and group, by class
        for group in range(len(self.chosen)) if self._empty else ():
            for label, images in self._content(group):
                if label in self._empty:
                    smallest[label] = min(smallest.get(label, (images, group)), (images, group))
        for label, (_, group) in sorted(smallest.items()):
            if label in self._empty:
                self._take(group, self._content(group))

    def _content(self, group: int) -> list[tuple[int, int]]:
        """Return each class of a group, with the number of its images."""
        start = self._ends[group - 1] if group else 0
        return [(self._classes[i], self._counts[i]) for i in range(start, self._ends[group])]

    def _take(self, group: int, content: Sequence[tuple[int, int]]) -> bool:
        """Choose a group, unless too few groups would be left; return whether it is chosen."""
        if any(self._may_take[label] <= 0 for label, _ in content):
            return False
        self.chosen[group] = True
        for label, images in content:
            self._missing[label] -= images
            self._may_take[label] -= 1
            self._empty.discard(label)
        return True
