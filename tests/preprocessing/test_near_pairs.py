"""The search for near hashes, against the comparison of all pairs."""

import tracemalloc

import numpy as np
import pytest
from numpy.typing import NDArray

from imgpipe.preprocessing.near_pairs import find_near_pairs


def make_hashes(count: int, seed: int = 0) -> NDArray[np.uint64]:
    """Return random hashes; a quarter are others with up to 40 changed bits."""
    generator = np.random.default_rng(seed)
    bits = generator.integers(0, 2, (count, 128), dtype=np.uint8)
    for row in range(0, count // 4):
        bits[row] = bits[-1 - row]
        bits[row, generator.choice(128, row % 41, replace=False)] ^= 1
    return np.packbits(bits, axis=1).view("<u8")


def compare_all(hashes: NDArray[np.uint64], distance: int) -> set[tuple[int, int, int]]:
    return {
        (first, second, found)
        for second in range(len(hashes))
        for first, found in enumerate(
            np.bitwise_count(hashes[:second] ^ hashes[second]).sum(axis=1).tolist()
        )
        if found <= distance
    }


@pytest.mark.parametrize("distance", [0, 1, 5, 7, 8, 15, 17, 24])
def test_each_near_pair_is_found_once(distance: int) -> None:
    hashes = make_hashes(400)
    hashes[300:310] = hashes[5]  # equal hashes
    found = [
        pair
        for pairs in find_near_pairs(hashes, distance)
        for pair in zip(*(column.tolist() for column in pairs), strict=True)
    ]
    assert len(found) == len(set(found))
    assert set(found) == compare_all(hashes, distance)
    assert len(found) > 50


def test_few_hashes() -> None:
    for count in (0, 1):
        assert not list(find_near_pairs(make_hashes(4)[:count], 17))


def test_the_memory_does_not_grow_with_the_square_of_the_hashes() -> None:
    """Of 6,000 equal first bands, all 18 million pairs are candidates: 400 MB at once."""
    hashes = make_hashes(6_000)
    hashes.view("<u2")[:, 0] = 7
    tracemalloc.start()
    found = sum(len(pairs.first) for pairs in find_near_pairs(hashes, 0))
    _, peak_bytes = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert found >= 1500 // 41
    assert peak_bytes < 64 << 20
