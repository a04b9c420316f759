import hashlib
import time
import tracemalloc
from collections import Counter
from itertools import combinations
from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from imgpipe.core.errors import PipelineError
from imgpipe.preprocessing.splits import (
    LEFT_OUT,
    SPLITS,
    UNASSIGNED,
    assign_splits,
    check_splits,
    choose_splits,
    hash_paths,
    shuffle_split,
)
from imgpipe.settings.preprocess import Preprocess

SETTINGS = Preprocess(
    height_px=8,
    width_px=8,
    channels=1,
    fit="stretch",
    interpolation="bilinear",
    normalization="rescale",
    validation_frac=0.1,
    test_frac=0.2,
    test_fold="none",
    groups="none",
    max_per_class=0,
    duplicates="keep",
    duplicate_distance=17,
    two_labels="keep",
    max_bad_frac=0.0,
    shard_size_mib=1,
    seed=7,
)


def change(**changes: Any) -> Preprocess:
    return SETTINGS.model_copy(update=changes)


def numbers(indices: np.ndarray) -> list[str]:
    """The paths of a dataset whose images have only numbers."""
    return [str(index) for index in indices.tolist()]


TRAIN, VALIDATION, TEST = map(SPLITS.index, ("train", "validation", "test"))


def codes(*counts: tuple[int, int]) -> np.ndarray:
    return np.concatenate([np.full(count, code, dtype=np.int8) for code, count in counts])


def test_without_official_splits_the_shares_hold_in_every_class() -> None:
    labels = np.array([0] * 100 + [1] * 50)
    splits = assign_splits(labels, codes((UNASSIGNED, 150)), numbers, ["a", "b"], SETTINGS)
    for label, expected in ((0, (72, 8, 20)), (1, (36, 4, 10))):
        of_class = splits[labels == label]
        assert tuple((of_class == split).sum() for split in range(3)) == expected


def test_an_official_test_split_stays_as_it_is() -> None:
    labels = np.tile([0, 1], 60)
    official = codes((TRAIN, 100), (TEST, 20))
    splits = assign_splits(labels, official, numbers, ["a", "b"], SETTINGS)
    assert ((splits == TEST) == (official == TEST)).all()
    assert (splits == VALIDATION).sum() == 10


def test_a_missing_test_split_comes_from_the_official_training_split() -> None:
    labels = np.tile([0, 1], 60)
    official = codes((TRAIN, 100), (VALIDATION, 20))
    splits = assign_splits(labels, official, numbers, ["a", "b"], SETTINGS)
    assert ((splits == VALIDATION) == (official == VALIDATION)).all()
    assert (splits == TEST).sum() == 20


@pytest.mark.parametrize("test_fold", ["none", "3/7"])
def test_another_class_does_not_change_the_splits_of_the_others(test_fold: str) -> None:
    labels = np.array([0] * 40 + [1] * 40)
    settings = change(test_fold=test_fold)
    both = assign_splits(labels, codes((UNASSIGNED, 80)), numbers, ["a", "b"], settings)
    alone = assign_splits(labels[:40], codes((UNASSIGNED, 40)), numbers, ["a"], settings)
    assert (both[:40] == alone).all()


def test_another_seed_gives_other_splits() -> None:
    labels = np.zeros(100, dtype=np.int64)
    official = codes((UNASSIGNED, 100))
    first, again, other = (
        assign_splits(labels, official, numbers, ["a"], change(seed=seed)) for seed in (1, 1, 2)
    )
    assert (first == again).all()
    assert (first != other).any()


def test_the_error_for_too_few_images_says_what_to_do() -> None:
    labels = np.array([0] * 10 + [1] * 2)
    with pytest.raises(PipelineError) as caught:
        assign_splits(labels, codes((UNASSIGNED, 12)), numbers, ["cat", "dog"], SETTINGS)
    assert str(caught.value).startswith(
        "class 'dog' has no image for the train split, of 2 images; add images, or"
    )


def test_three_images_of_a_class_are_enough() -> None:
    splits = assign_splits(
        np.zeros(3, dtype=np.int64), codes((UNASSIGNED, 3)), numbers, ["a"], SETTINGS
    )
    assert sorted(splits) == [TRAIN, VALIDATION, TEST]


@given(
    counts=st.lists(st.integers(3, 60), min_size=1, max_size=6),
    validation_frac=st.floats(0.01, 0.4),
    test_frac=st.floats(0.01, 0.4),
    seed=st.integers(0, 2**31 - 1),
)
def test_every_image_is_in_exactly_one_split_and_every_class_in_every_split(
    counts: list[int], validation_frac: float, test_frac: float, seed: int
) -> None:
    labels = np.repeat(np.arange(len(counts)), counts)
    classes = [str(label) for label in range(len(counts))]
    chosen = change(validation_frac=validation_frac, test_frac=test_frac, seed=seed)
    splits = assign_splits(labels, codes((UNASSIGNED, len(labels))), numbers, classes, chosen)
    assert set(splits) == {TRAIN, VALIDATION, TEST}
    for label, count in enumerate(counts):
        of_class = splits[labels == label]
        test = (of_class == TEST).sum()
        assert abs(test - test_frac * count) <= 1
        assert abs((of_class == VALIDATION).sum() - validation_frac * (count - test)) <= 1
        assert (of_class == TRAIN).sum() >= 1


def test_the_cap_holds_for_each_class_and_split_but_not_for_the_test_split() -> None:
    labels = np.tile([0, 1, 2], 60)
    official = codes((TRAIN, 90), (VALIDATION, 60), (TEST, 30))
    capped = assign_splits(labels, official, numbers, ["a", "b", "c"], change(max_per_class=5))
    assert (capped[capped != LEFT_OUT] == official[capped != LEFT_OUT]).all()
    for label in range(3):
        assert Counter(capped[labels == label].tolist()) == {
            TRAIN: 5, VALIDATION: 5, TEST: 10, LEFT_OUT: 40
        }  # fmt: skip


def test_chosen_splits_hold_the_whole_official_test_split() -> None:
    labels = np.tile([0, 1], 60)
    official = codes((TRAIN, 80), (TEST, 40))
    chosen = choose_splits(labels, official, numbers, ["a", "b"], change(max_per_class=10))
    assert sorted(chosen["test"]) == list(range(80, 120))
    assert list(chosen) == list(SPLITS)
    assert len(chosen["train"]) + len(chosen["validation"]) == 20
    assert set(chosen["train"]) | set(chosen["validation"]) < set(range(80))


def test_the_test_split_is_a_share_of_all_images_and_validation_a_share_of_the_rest() -> None:
    labels = np.tile([0, 1], 60)
    settings = change(max_per_class=10)
    chosen = choose_splits(labels, codes((UNASSIGNED, 120)), numbers, ["a", "b"], settings)
    assert {split: len(indices) for split, indices in chosen.items()} == {
        "train": 18, "validation": 2, "test": 24
    }  # fmt: skip


@given(
    official=st.sampled_from(
        [(UNASSIGNED,), (TRAIN, VALIDATION), (TRAIN, TEST), (TRAIN, VALIDATION, TEST)]
    ),
    counts=st.lists(st.integers(6, 40), min_size=1, max_size=4),
    test_fold=st.sampled_from(["none", "1/2", "2/3", "4/4"]),
    validation_frac=st.floats(0.01, 0.3),
    test_frac=st.floats(0.01, 0.3),
    max_per_class=st.integers(2, 30),
    seed=st.integers(0, 2**31 - 1),
)
def test_the_cap_limits_training_and_validation_and_never_changes_the_test_split(
    official: tuple[int, ...],
    counts: list[int],
    test_fold: str,
    validation_frac: float,
    test_frac: float,
    max_per_class: int,
    seed: int,
) -> None:
    dataset = [
        (label, split)
        for split in official
        for label, count in enumerate(counts)
        for _ in range(count)
    ]
    labels, splits = np.random.default_rng(seed).permutation(dataset).T
    settings = change(
        validation_frac=validation_frac, test_frac=test_frac, test_fold=test_fold, seed=seed
    )
    every, capped = (
        choose_splits(
            labels,
            splits.astype(np.int8),
            numbers,
            [str(label) for label in range(len(counts))],
            settings.model_copy(update={"max_per_class": cap}),
        )
        for cap in (0, max_per_class)
    )
    assert capped["test"].tolist() == every["test"].tolist()
    candidates = set(every["train"]) | set(every["validation"])
    assert set(capped["train"]) | set(capped["validation"]) <= candidates
    assert not set(capped["train"]) & set(capped["validation"])
    own_validation = VALIDATION in official and test_fold == "none"
    for label in range(len(counts)):
        train, validation = (
            int((labels[capped[split]] == label).sum()) for split in ("train", "validation")
        )
        assert max(train, validation) <= max_per_class
        assert own_validation or train + validation <= max_per_class


def test_the_error_after_reading_counts_only_readable_images() -> None:
    images = {"train": {"cat": 3, "dog": 1}, "validation": {"cat": 1, "dog": 0}}
    with pytest.raises(PipelineError) as caught:
        check_splits(images, counted="readable images")
    assert str(caught.value).startswith(
        "class 'dog' has no image for the validation split, of 1 readable images; add images, or"
    )


def test_shuffling_keeps_the_images_and_mixes_the_classes() -> None:
    indices = np.arange(200)
    shuffled = shuffle_split(indices, numbers, seed=1)
    assert sorted(shuffled) == list(indices)
    assert set(np.sort(shuffled[:50] // 100)) == {0, 1}
    assert (shuffled != shuffle_split(indices, numbers, seed=2)).any()


def test_the_order_of_two_images_is_the_same_in_every_split() -> None:
    some = shuffle_split(np.arange(0, 200, 3), numbers, seed=1)
    every = shuffle_split(np.arange(200), numbers, seed=1)
    assert [index for index in every.tolist() if index % 3 == 0] == some.tolist()


def folds_of(labels: np.ndarray, official: np.ndarray, folds: int) -> list[np.ndarray]:
    """The splits of the images, for each fold in turn."""
    return [
        assign_splits(labels, official, numbers, ["a", "b"], change(test_fold=f"{fold}/{folds}"))
        for fold in range(1, folds + 1)
    ]


def test_every_image_is_tested_on_in_exactly_one_fold() -> None:
    labels = np.array([0] * 103 + [1] * 51)
    splits = folds_of(labels, codes((UNASSIGNED, 154)), 5)
    assert (np.sum([part == TEST for part in splits], axis=0) == 1).all()
    for part in splits:
        for label, images in ((0, 103), (1, 51)):
            test, validation = (
                int(((labels == label) & (part == split)).sum()) for split in (TEST, VALIDATION)
            )
            assert abs(test - images / 5) < 1  # stratified
            assert validation == round(0.1 * (images - test))


def test_folds_are_dealt_without_the_official_test_split() -> None:
    labels = np.array([0, 1] * 60)
    official = codes((TRAIN, 80), (VALIDATION, 20), (TEST, 20))
    for part in folds_of(labels, official, 4):
        assert ((part == LEFT_OUT) == (official == TEST)).all()
        for label in (0, 1):
            assert (part[labels == label] == TEST).sum() in (12, 13)
        assert (part == VALIDATION).sum() == 8  # 0.1 of the 38 or 37 images left of each class


def test_a_fold_depends_only_on_the_seed() -> None:
    labels, official = np.array([0, 1] * 50), codes((UNASSIGNED, 100))
    first, again = folds_of(labels, official, 3), folds_of(labels, official, 3)
    assert all((one == other).all() for one, other in zip(first, again, strict=True))
    other = assign_splits(labels, official, numbers, ["a", "b"], change(test_fold="1/3", seed=8))
    assert (other != first[0]).any()


def test_a_class_too_small_for_the_folds_is_named() -> None:
    labels = np.array([0] * 30 + [1] * 4)
    with pytest.raises(PipelineError, match="class 'b' has 4 images for 5 folds"):
        assign_splits(labels, codes((UNASSIGNED, 34)), numbers, ["a", "b"], change(test_fold="2/5"))


# A dataset that grows. Photographs are named by their paths, such as "oak/3.jpg".


def divide(photos: list[str], settings: Preprocess) -> dict[str, list[str]]:
    """The photographs of each split, in the order in which they are written."""
    classes = sorted({photo.split("/")[0] for photo in photos})
    labels = np.array([classes.index(photo.split("/")[0]) for photo in photos])
    chosen = choose_splits(
        labels,
        codes((UNASSIGNED, len(photos))),
        lambda indices: [photos[index] for index in indices],
        classes,
        settings,
    )
    return {split: [photos[index] for index in indices] for split, indices in chosen.items()}


def split_of(photos: list[str], settings: Preprocess) -> dict[str, str]:
    """The split of each photograph that is in one."""
    return {
        photo: split for split, found in divide(photos, settings).items() for photo in found
    }  # fmt: skip


PHOTOS = st.builds(
    lambda counts, batch: [
        f"{name}/{batch}-{number}.jpg" for name, count in counts.items() for number in range(count)
    ],
    st.dictionaries(st.sampled_from(["elm", "oak", "pine"]), st.integers(12, 60), min_size=1),
    st.integers(0, 999),
)
SCHEMES = st.builds(
    change,
    validation_frac=st.floats(0.01, 0.4),
    test_frac=st.floats(0.01, 0.4),
    test_fold=st.sampled_from(["none", "none", "1/2", "2/3", "1/4", "4/4"]),
    max_per_class=st.one_of(st.just(0), st.integers(4, 60)),
    seed=st.integers(0, 2**31 - 1),
)


@given(photos=PHOTOS, scheme=SCHEMES, new=st.integers(0, 999))
def test_one_photograph_more_or_less_moves_few_others_of_its_class(
    photos: list[str], scheme: Preprocess, new: int
) -> None:
    added = f"{photos[0].split('/')[0]}/new-{new}.jpg"
    without, grown = split_of(photos, scheme), split_of([*photos, added], scheme)
    moved = [photo for photo in photos if without.get(photo) != grown.get(photo)]
    assert {photo.split("/")[0] for photo in moved} <= {added.split("/")[0]}
    across_test = [
        photo for photo in moved if "test" in (without.get(photo), grown.get(photo))
    ]  # fmt: skip
    if scheme.test_fold == "none":
        assert len(moved) <= (3 if scheme.max_per_class else 2)
        assert len(across_test) <= 1
    else:
        assert len(moved) <= (6 if scheme.max_per_class else 4)
        assert len(across_test) <= 2


@given(photos=PHOTOS, scheme=SCHEMES)
def test_the_counts_are_exact(photos: list[str], scheme: Preprocess) -> None:
    divided = divide(photos, scheme)
    for name, images in Counter(photo.split("/")[0] for photo in photos).items():
        test, validation, train = (
            sum(photo.startswith(f"{name}/") for photo in divided[split])
            for split in ("test", "validation", "train")
        )
        if scheme.fold_and_folds:
            assert test in (
                images // scheme.fold_and_folds[1],
                -(-images // scheme.fold_and_folds[1]),
            )
        else:
            assert test == max(1, round(scheme.test_frac * images))
        kept = min(images - test, scheme.max_per_class or images)
        assert validation == max(1, round(scheme.validation_frac * kept))
        assert train == kept - validation


@given(photos=PHOTOS, scheme=SCHEMES, data=st.data())
def test_the_order_of_the_listing_changes_nothing(
    photos: list[str], scheme: Preprocess, data: st.DataObject
) -> None:
    assert divide(data.draw(st.permutations(photos)), scheme) == divide(photos, scheme)


@given(photos=PHOTOS, scheme=SCHEMES, larger=st.integers(1, 60))
def test_a_smaller_cap_keeps_a_subset_of_a_larger_cap(
    photos: list[str], scheme: Preprocess, larger: int
) -> None:
    assume(scheme.max_per_class)
    small = divide(photos, scheme)
    cap = scheme.max_per_class + larger
    large = divide(photos, scheme.model_copy(update={"max_per_class": cap}))
    assert small["test"] == large["test"]
    assert set(small["validation"]) <= set(large["validation"])
    assert {*small["validation"], *small["train"]} <= {*large["validation"], *large["train"]}


@given(photos=PHOTOS, scheme=SCHEMES, folds=st.integers(2, 6))
def test_folds_are_disjoint_and_cover_all_images(
    photos: list[str], scheme: Preprocess, folds: int
) -> None:
    divided = [
        divide(photos, scheme.model_copy(update={"test_fold": f"{fold}/{folds}"}))
        for fold in range(1, folds + 1)
    ]
    assert sorted(photo for part in divided for photo in part["test"]) == sorted(photos)
    for part in divided:
        every = [photo for found in part.values() for photo in found]
        assert len(set(every)) == len(every)
    smallest = min(Counter(photo.split("/")[0] for photo in photos).values()) // folds
    per_class = [Counter(photo.split("/")[0] for photo in part["validation"]) for part in divided]
    if max(max(counts.values()) for counts in per_class) <= smallest:
        for first, second in combinations(divided, 2):
            assert not set(first["validation"]) & set(second["validation"])


def test_folds_of_many_small_classes_have_similar_sizes() -> None:
    labels = np.repeat(np.arange(1000), 6)
    classes = [f"class {label}" for label in range(1000)]
    sizes = [
        int(
            (
                assign_splits(labels, codes((UNASSIGNED, 6000)), numbers, classes, settings) == TEST
            ).sum()
        )
        for settings in (change(test_fold=f"{fold}/5") for fold in range(1, 6))
    ]
    # Of each class one of the five folds has two images. The standard deviation of a size is 12.6.
    assert sum(sizes) == 6000
    assert all(abs(size - 1200) < 40 for size in sizes)


def test_one_more_image_makes_one_fold_larger_by_one() -> None:
    def sizes(images: int) -> np.ndarray:
        labels = np.zeros(images, dtype=np.int64)
        official = codes((UNASSIGNED, images))
        scheme = [change(test_fold=f"{fold}/7") for fold in range(1, 8)]
        splits = [assign_splits(labels, official, numbers, ["a"], each) for each in scheme]
        return np.array([(part == TEST).sum() for part in splits])

    for images in range(7, 30):
        assert sorted(sizes(images + 1) - sizes(images)) == [0] * 6 + [1]


def test_a_new_training_image_of_official_splits_moves_no_test_image() -> None:
    labels, official = np.zeros(150, dtype=np.int64), codes((TEST, 50), (TRAIN, 100))
    before = assign_splits(labels[:-1], official[:-1], numbers, ["a"], SETTINGS)
    after = assign_splits(labels, official, numbers, ["a"], SETTINGS)[:-1]
    assert ((after == TEST) == (official[:-1] == TEST)).all()
    assert (before != after).sum() <= 1


def test_the_ranks_are_those_of_the_digests() -> None:
    """The rule in full, so that others can repeat it."""
    photos = [f"elm/{number}.jpg" for number in range(30)]

    def rank(stream: str, photo: str) -> int:
        digest = hashlib.blake2b(f"7 {stream} {photo}".encode(), digest_size=8).digest()
        return int.from_bytes(digest, "little")

    ranked = sorted(photos, key=lambda photo: rank("split", photo))
    expected = {"train": ranked[8:], "validation": ranked[6:8], "test": ranked[:6]}
    assert divide(photos, SETTINGS) == {
        split: sorted(part, key=lambda photo: rank("order", photo))
        for split, part in expected.items()
    }
    (found,) = hash_paths(lambda _: ["elm/1.jpg"], np.arange(1), 7, "split")
    assert found == 5848335076907194588


def test_images_with_one_path_stay_in_the_order_of_the_dataset() -> None:
    """For example the members of two archives with one name."""
    chosen = choose_splits(
        np.zeros(10, dtype=np.int64),
        codes((UNASSIGNED, 10)),
        lambda indices: ["a/1.jpg"] * len(indices),
        ["a"],
        SETTINGS,
    )
    assert {split: indices.tolist() for split, indices in chosen.items()} == {
        "train": [3, 4, 5, 6, 7, 8, 9], "validation": [2], "test": [0, 1]
    }  # fmt: skip


def test_the_time_does_not_grow_with_the_square_of_the_number_of_images() -> None:
    """Ten times as many images take about ten times as long; with the square, 100 times."""

    def measure(images: int) -> float:
        labels = np.arange(images) % 10
        official = codes((UNASSIGNED, images))
        classes = [str(label) for label in range(10)]
        start_s = time.process_time()
        choose_splits(labels, official, numbers, classes, SETTINGS)
        return time.process_time() - start_s

    few, many = (min(measure(images) for _ in range(3)) for images in (7_000, 70_000))
    assert many < 40 * few


def test_many_images_take_little_memory() -> None:
    asked: list[int] = []

    def paths(indices: np.ndarray) -> list[str]:
        asked.append(len(indices))
        return numbers(indices)

    tracemalloc.start()
    try:
        hash_paths(paths, np.arange(70_000), 1, "order")
        _, peak_bytes = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert sum(asked) == 70_000
    assert max(asked) <= 5000
    assert peak_bytes < 16 * 70_000 + (1 << 20)  # the indices, the hashes, and one piece
