"""Which images are copies, and what each policy does with these."""

from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from support import change_params, find_error

from imgpipe.preprocessing.copies import Copies, connect, find_copies
from imgpipe.preprocessing.copy_policy import choose_images, find_splits, join_groups, needs_facts
from imgpipe.preprocessing.image_facts import ImageFacts
from imgpipe.preprocessing.splits import LEFT_OUT, SPLITS, UNASSIGNED
from imgpipe.settings.preprocess import Preprocess

TRAIN, VALIDATION, TEST = range(len(SPLITS))
A, B, C, D = (np.random.default_rng(3).integers(0, 2**64, (4, 2), dtype=np.uint64)).tolist()


def change_bits(value: Sequence[int], count: int) -> list[int]:
    """Return a hash that differs in so many bits."""
    return [value[0] ^ ((1 << count) - 1), value[1]]


def make_facts(digests: Sequence[int], hashes: Sequence[Sequence[int]]) -> ImageFacts:
    return ImageFacts(
        indices=np.arange(len(digests)),
        digests=np.array(digests, dtype=np.uint64),
        hashes=np.array(hashes, dtype=np.uint64).reshape(-1, 2),
        sizes=np.full((len(digests), 2), 100, dtype=np.int32),
        formats=Counter(),
        misnamed=Counter(),
        misnamed_files={},
        bad_files={},
    )


class Dataset:
    """The part of a `RawDataset` that the policies read."""

    def __init__(self, labels: Sequence[int], splits: Sequence[int] | None = None) -> None:
        self.classes = ["cat", "dog"]
        self.labels = np.array(labels)
        self.splits = np.array(splits or [UNASSIGNED] * len(labels), dtype=np.int8)

    def identities(self, indices: NDArray[np.int64]) -> list[str]:
        return [f"{index}.jpg" for index in indices.tolist()]


def find_pairs(copies: Copies) -> list[tuple[int, ...]]:
    return list(zip(*(column.tolist() for column in copies.near), strict=True))


def test_copies_have_equal_pixels_or_near_hashes() -> None:
    facts = make_facts([5, 7, 5, 8, 9, 7, 4], [A, B, A, change_bits(B, 17), C, B, D])
    copies = find_copies(facts, 17)
    assert copies.originals.tolist() == [0, 1, 0, 3, 4, 1, 6]
    assert find_pairs(copies) == [(1, 3, 17)]  # without image 5, which has the pixels of image 1
    assert copies.groups.tolist() == [0, 1, 0, 1, 4, 1, 6]
    assert copies.near_search == "complete"
    assert find_pairs(find_copies(facts, 16)) == []
    assert find_copies(facts, 16).groups.tolist() == [0, 1, 0, 3, 4, 1, 6]
    assert find_copies(facts, 0).near_search == "off"


def test_near_pairs_are_in_the_order_of_their_distance() -> None:
    hashes = [A, change_bits(A, 9), B, change_bits(B, 2), A, [0, 0], [0, 0]]
    copies = find_copies(make_facts(range(7), hashes), 17)
    assert find_pairs(copies) == [(0, 4, 0), (2, 3, 2), (0, 1, 9)]  # not both hashes without detail
    assert copies.groups.tolist() == [0, 0, 2, 2, 0, 5, 6]


def test_a_chain_of_near_images_is_one_group() -> None:
    chain = [change_bits(A, 10 * step) for step in range(6)]
    copies = find_copies(make_facts(range(6), chain[::-1]), 17)
    assert copies.groups.tolist() == [0] * 6


def test_the_search_stops_if_nearly_all_images_are_alike() -> None:
    bits = np.zeros((200, 128), dtype=np.uint8)
    bits[:, 40:] = 1
    bits[np.arange(200), np.arange(200) % 128] ^= 1
    bits[100:, 5] ^= 1
    hashes = np.packbits(bits, axis=1).view("<u8").tolist()
    copies = find_copies(make_facts([*range(199), 0], hashes), 17)
    assert copies.near_search == "too many pairs"
    assert copies.groups.tolist() == [*range(199), 0]  # exact copies only
    settings = make_settings(duplicates="drop")
    message = find_error(choose_images, Dataset([0] * 200), make_facts([0], [A]), copies, settings)
    assert "duplicate_distance: 0" in message


def test_small_images_have_exact_copies_only() -> None:
    copies = find_copies(make_facts([1, 1, 2], []), 17)
    assert copies.near_search == "small images"
    assert copies.groups.tolist() == [0, 0, 2]


@pytest.mark.parametrize("seed", range(20))
def test_connected_numbers_have_one_smallest_number(seed: int) -> None:
    generator = np.random.default_rng(seed)
    first, second = generator.integers(0, 60, (2, 40))
    expected = list(range(60))
    for left, right in zip(first.tolist(), second.tolist(), strict=True):
        lower, upper = sorted((expected[left], expected[right]))
        expected = [lower if number == upper else number for number in expected]
    assert connect(60, first, second).tolist() == expected


def make_settings(**values: Any) -> Preprocess:
    return change_params(
        **{f"preprocess__{key}": value for key, value in values.items()}
    ).preprocess


def choose(dataset: Dataset, facts: ImageFacts, **values: Any) -> tuple[list[int], Any]:
    copies = find_copies(facts, 17)
    used, groups = choose_images(dataset, facts, copies, make_settings(**values))  # type: ignore[arg-type]
    return used.tolist(), None if groups is None else groups.tolist()


PLANTED = make_facts([1, 2, 1, 3, 4, 5], [A, B, A, change_bits(A, 5), C, D])


def test_one_split_groups_copies_and_drop_uses_one() -> None:
    dataset = Dataset([0, 0, 0, 0, 1, 1])
    assert choose(dataset, PLANTED, duplicates="one_split") == (
        [0, 1, 2, 3, 4, 5], [0, 1, 0, 0, 2, 3]
    )  # fmt: skip
    assert choose(dataset, PLANTED, duplicates="drop") == ([0, 1, 4, 5], None)


def test_an_official_test_split_stays_and_its_copies_are_left_out() -> None:
    splits = [TRAIN, TRAIN, TEST, VALIDATION, TRAIN, TEST]
    dataset = Dataset([0, 0, 0, 0, 1, 1], splits)
    for duplicates in ("one_split", "drop"):
        assert choose(dataset, PLANTED, duplicates=duplicates) == ([1, 2, 4, 5], None)
    # With folds the official test split is left out, so its copies would be lost.
    assert choose(dataset, PLANTED, duplicates="drop", test_fold="1/2") == ([0, 1, 4, 5], None)
    splits[2] = TRAIN
    dataset = Dataset([0, 0, 0, 0, 1, 1], splits)
    assert choose(dataset, PLANTED, duplicates="one_split")[0] == [1, 3, 4, 5]


def test_a_picture_with_two_labels() -> None:
    dataset = Dataset([0, 0, 0, 1, 1, 1])
    assert choose(dataset, PLANTED, two_labels="drop") == ([1, 4, 5], None)
    used, groups = choose(dataset, PLANTED, duplicates="drop")  # one copy for each label
    assert used == [0, 1, 3, 4, 5]
    assert groups == [0, 1, 0, 2, 3]
    copies = find_copies(PLANTED, 17)
    assert find_error(
        choose_images, dataset, PLANTED, copies, make_settings(two_labels="stop")
    ) == (
        "1 picture with two labels: 0.jpg (cat) and 3.jpg (dog); delete the wrong ones, or set"
        " preprocess.two_labels to drop or keep"
    )
    same = Dataset([0, 1, 0, 0, 1, 1])
    assert choose(same, PLANTED, two_labels="stop") == ([0, 1, 2, 3, 4, 5], None)


def test_unreadable_images_are_used_as_they_are() -> None:
    """`preprocess` lists them; here they have no facts."""
    facts = make_facts([1, 1], [A, A])
    facts.indices[:] = [1, 3]
    assert choose(Dataset([0] * 5), facts, duplicates="drop") == ([0, 1, 2, 4], None)


def test_two_divisions_are_joined() -> None:
    first, second = np.array([0, 0, 1, 2, 3]), np.array([7, 5, 5, 1, 1])
    joined = join_groups(first, second)
    assert joined is not None
    assert joined.tolist() == [0, 0, 0, 3, 3]
    assert join_groups(None, second) is second
    assert join_groups(first, None) is first
    assert join_groups(None, None) is None


def test_the_splits_of_images() -> None:
    indices = {"train": np.array([4, 0]), "validation": np.array([2]), "test": np.array([1])}
    found = find_splits(indices, 5, np.array([0, 1, 2, 3]))
    assert found.tolist() == [TRAIN, TEST, VALIDATION, LEFT_OUT]


def test_pixels_are_needed_before_the_splits_only_for_a_policy() -> None:
    assert not needs_facts(make_settings())
    assert needs_facts(make_settings(duplicates="one_split"))
    assert needs_facts(make_settings(two_labels="stop"))
