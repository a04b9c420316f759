"""All pairs of hashes that differ in few bits, without comparing each hash with all others.

The bits are cut into bands. If two hashes differ in at most d bits, then in at least one band they
differ in few bits: with 8 bands, band i in at most (d - i) // 8 bits, because otherwise they would
differ in more than d bits in all. So for each band and each choice of so few bits, only hashes are
compared whose bands are equal after these bits are inverted (Norouzi et al., 2012, Fast Search in
Hamming Space with Multi-Index Hashing).
"""

from collections.abc import Iterator
from itertools import combinations
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

_BAND_BITS = 16
_PAIRS_AT_ONCE = 1 << 18


class NearPairs(NamedTuple):
    """Some pairs of hashes: the numbers of both, and in how many bits they differ, each (n,)."""

    first: NDArray[np.int64]
    second: NDArray[np.int64]
    """Greater than the first number."""
    distance: NDArray[np.int64]


def find_near_pairs(hashes: NDArray[np.uint64], distance: int) -> Iterator[NearPairs]:
    """Yield all pairs of hashes that differ in at most `distance` bits, each pair once.

    Memory is in proportion to the number of hashes. Time is in proportion to its square, divided by
    about 200 if the hashes are spread well.

    Args:
        hashes: (N, 2), 128 bits each.
        distance: the largest number of different bits.
    """
    bands = np.ascontiguousarray(hashes, dtype="<u8").view("<u2")
    count = bands.shape[1]
    radii = [(distance - band) // count for band in range(count)]
    for band, radius in enumerate(radii):
        for first, second in _find_candidates(bands[:, band], radius):
            found = _count_bits(hashes, first, second)
            near = found <= distance
            first, second, found = first[near], second[near], found[near]
            is_new = np.ones(len(first), dtype=np.bool_)
            for earlier in range(band):  # an earlier band has yielded the pair
                is_new &= (
                    _count_bits(bands[:, earlier : earlier + 1], first, second) > (radii[earlier])
                )
            first, second = first[is_new], second[is_new]
            if len(first):
                yield NearPairs(np.minimum(first, second), np.maximum(first, second), found[is_new])


def _find_candidates(
    keys: NDArray[np.uint16], radius: int
) -> Iterator[tuple[NDArray[np.int64], NDArray[np.int64]]]:
    """Yield all pairs of keys (N,) that differ in at most `radius` bits, some at a time."""
    order = np.argsort(keys, kind="stable")
    sorted_keys = keys[order].astype(np.int64)
    ends = np.bincount(sorted_keys, minlength=1 << _BAND_BITS).cumsum()
    starts = np.append(0, ends[:-1])
    places = np.arange(len(keys))
    for changed in range(radius + 1):
        for bits in combinations(range(_BAND_BITS), changed):
            others = sorted_keys ^ sum(1 << bit for bit in bits)
            # Each pair from one side only: from the smaller key, or, of equal keys, the first one.
            begin = starts[others] if bits else places + 1
            counts = np.where(others >= sorted_keys, ends[others] - begin, 0)
            for left, right in _expand(begin, counts):
                yield order[left], order[right]


def _expand(
    begin: NDArray[np.int64], counts: NDArray[np.int64]
) -> Iterator[tuple[NDArray[np.int64], NDArray[np.int64]]]:
    """Yield the pairs of each place p with begin[p], begin[p] + 1, ..., `counts[p]` of them."""
    places = np.flatnonzero(counts)
    done = np.append(0, counts[places].cumsum())
    for start in range(0, int(done[-1]), _PAIRS_AT_ONCE):
        pair = np.arange(start, min(start + _PAIRS_AT_ONCE, int(done[-1])))
        row = np.searchsorted(done, pair, side="right") - 1
        yield places[row], begin[places[row]] + pair - done[row]


def _count_bits(
    values: NDArray[np.unsignedinteger], first: NDArray[np.int64], second: NDArray[np.int64]
) -> NDArray[np.int64]:
    """Return in how many bits the rows of `values` (N, columns) differ, for each pair (n,)."""
    differences = np.bitwise_count(values[first] ^ values[second])
    return np.asarray(differences.sum(axis=1, dtype=np.int64))
