"""Which images are copies of others: the same pixels, or a hash that is near."""

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from imgpipe.preprocessing.image_facts import ImageFacts
from imgpipe.preprocessing.near_pairs import NearPairs, find_near_pairs

NearSearch = Literal["complete", "off", "small images", "too many images", "too many pairs"]
"""Whether all near pairs were found, or why not."""

MOST_IMAGES = 1_000_000
"""Of more images, near pairs are not searched: the time grows with the square of their number."""
MOST_PAIRS = 10
"""Most near pairs for each image. If there are more, the images are too alike for the hash."""


@dataclass(frozen=True)
class Copies:
    """The copies among M images, which are numbered from 0."""

    originals: NDArray[np.int64]
    """(M,), for each image the first image with the same pixels: itself, if there is none before.
    """
    near: NearPairs
    """Pairs of such first images that are near, in the order of their distance."""
    near_search: NearSearch
    groups: NDArray[np.int64]
    """(M,), the smallest number of the images that are connected by copies, and copies of these."""


def find_copies(facts: ImageFacts, distance: int) -> Copies:
    """Find the copies among images.

    Args:
        facts: about the M images.
        distance: most bits of the hashes in which near images differ; 0 for exact copies only.
    """
    count = len(facts.indices)
    _, first, group = np.unique(facts.digests, return_index=True, return_inverse=True)
    originals = first[group]
    near, near_search = _find_near(facts, np.sort(first), distance)
    # Without a complete search, some of the pairs would connect some of the images.
    joined = near if near_search == "complete" else _NO_PAIRS
    groups = connect(
        count,
        np.concatenate([originals, joined.first]),
        np.concatenate([np.arange(count), joined.second]),
    )
    return Copies(originals, near, near_search, groups)


_EMPTY = np.empty(0, dtype=np.int64)
_NO_PAIRS = NearPairs(_EMPTY, _EMPTY, _EMPTY)


def _find_near(
    facts: ImageFacts, originals: NDArray[np.int64], distance: int
) -> tuple[NearPairs, NearSearch]:
    """Return the near pairs of the images that are no exact copies of earlier ones."""
    if distance == 0:
        return _NO_PAIRS, "off"
    if not facts.hashes.any():
        return _NO_PAIRS, "small images"
    if len(originals) > MOST_IMAGES:
        return _NO_PAIRS, "too many images"
    hashes = facts.hashes[originals]
    originals = originals[hashes.any(axis=1)]  # images without detail have no hash
    # Many images with one hash would have the square of their number of pairs.
    unique, first, same = np.unique(
        facts.hashes[originals], axis=0, return_index=True, return_inverse=True
    )
    same = same.reshape(-1)
    repeated = np.flatnonzero(first[same] != np.arange(len(originals)))
    equal = NearPairs(
        originals[first[same[repeated]]],
        originals[repeated],
        np.zeros(len(repeated), dtype=np.int64),
    )
    parts, found = [equal], len(repeated)
    near_search: NearSearch = "complete"
    for pairs in find_near_pairs(unique, distance):
        ends = originals[first[pairs.first]], originals[first[pairs.second]]
        parts.append(NearPairs(np.minimum(*ends), np.maximum(*ends), pairs.distance))
        found += len(pairs.first)
        if found > MOST_PAIRS * len(originals):
            near_search = "too many pairs"
            break
    near = NearPairs(*(np.concatenate(column) for column in zip(*parts, strict=True)))
    order = np.lexsort((near.second, near.first, near.distance))
    return NearPairs(*(column[order] for column in near)), near_search


def connect(count: int, first: NDArray[np.int64], second: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return for each of `count` numbers the smallest number that pairs connect it with.

    Args:
        count: of the numbers, which begin with 0.
        first: (n,) one number of each pair.
        second: (n,) the other one.
    """
    smallest = np.arange(count)
    while True:
        lower = np.minimum(smallest[first], smallest[second])
        before = smallest.copy()
        for ends in (first, second):
            np.minimum.at(smallest, before[ends], lower)
            np.minimum.at(smallest, ends, lower)
        smallest = smallest[smallest]
        if np.array_equal(smallest, before):
            return smallest
