"""Images of a group stay in one split; everything else as for single images, as near as can be."""

import time
from collections import Counter
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from support import find_error

from imgpipe.preprocessing.groups import NO_GROUP, find_groups
from imgpipe.preprocessing.splits import (
    LEFT_OUT,
    SPLITS,
    UNASSIGNED,
    assign_splits,
    choose_splits,
)
from imgpipe.settings.params import load_params
from imgpipe.settings.preprocess import Preprocess

TRAIN, VALIDATION, TEST = map(SPLITS.index, ("train", "validation", "test"))
SETTINGS = load_params().preprocess


def change(**changes: Any) -> Preprocess:
    return SETTINGS.model_copy(update=changes)


# A photograph is named "class/group/number"; with one class for each group, or with several.
def assign(photos: list[str], settings: Preprocess, official: int = UNASSIGNED) -> np.ndarray:
    parts = [photo.split("/") for photo in photos]
    classes = sorted({part[0] for part in parts})
    names = sorted({part[1] for part in parts})
    return assign_splits(
        np.array([classes.index(part[0]) for part in parts]),
        np.full(len(photos), official, dtype=np.int8),
        lambda indices: [photos[index] for index in indices],
        classes,
        settings,
        np.array([names.index(part[1]) for part in parts]),
    )


def name_photos(sizes: dict[str, list[int]], batch: int) -> list[str]:
    """Photographs of groups of these sizes, by class; each group has one class."""
    return [
        f"{name}/{name}{batch}-{group}/{number}"
        for name, groups in sizes.items()
        for group, size in enumerate(groups)
        for number in range(size)
    ]


def sizes_by_class(least: int) -> st.SearchStrategy[dict[str, list[int]]]:
    return st.dictionaries(
        st.sampled_from(["elm", "oak", "pine"]),
        st.lists(st.integers(1, 9), min_size=least, max_size=25),
        min_size=1,
    )


SEEDS = st.integers(0, 2**31 - 1)
PHOTOS = st.builds(name_photos, sizes_by_class(6), st.integers(0, 999))


# Groups with images of several classes, as a patient with two findings.
def mix_groups(images: int, seed: int) -> list[str]:
    random = np.random.default_rng(seed)
    pairs = zip(random.integers(0, 2, images), random.integers(0, 60, images), strict=True)
    return [f"{('elm', 'oak')[label]}/{group}/{n}" for n, (label, group) in enumerate(pairs)]


MIXED = st.builds(mix_groups, st.integers(150, 300), SEEDS)
SCHEMES = st.builds(
    change,
    validation_frac=st.floats(0.05, 0.4),
    test_frac=st.floats(0.05, 0.4),
    test_fold=st.sampled_from(["none", "none", "1/2", "2/3", "4/4"]),
    seed=SEEDS,
)


@given(photos=PHOTOS | MIXED, scheme=SCHEMES, cap=st.sampled_from([0, 0, 20]))
def test_no_group_is_in_two_splits(photos: list[str], scheme: Preprocess, cap: int) -> None:
    splits = assign(photos, scheme)
    if cap and min(Counter(photo.split("/")[0] for photo in photos).values()) > 2 * cap:
        splits = assign(photos, scheme.model_copy(update={"max_per_class": cap}))
    found = {
        (photo.split("/")[1], split)
        for photo, split in zip(photos, splits.tolist(), strict=True)
        if split != LEFT_OUT
    }
    assert len(found) == len({group for group, _ in found})


@given(photos=PHOTOS, scheme=SCHEMES)
def test_the_sizes_are_as_near_as_the_groups_allow(photos: list[str], scheme: Preprocess) -> None:
    splits = assign(photos, scheme)
    for name, images in Counter(photo.split("/")[0] for photo in photos).items():
        largest = max(
            Counter(
                photo for photo in (p.rpartition("/")[0] for p in photos) if name in photo
            ).values()
        )
        test, validation, train = (
            sum(
                split == code and photo.startswith(name)
                for photo, split in zip(photos, splits, strict=True)
            )
            for code in (TEST, VALIDATION, TRAIN)
        )
        folds = scheme.fold_and_folds
        share = images / folds[1] if folds else scheme.test_frac * images
        assert abs(test - share) <= largest + 1
        assert abs(validation - scheme.validation_frac * (images - test)) <= largest + 1
        assert train + validation + test == images


@given(sizes=sizes_by_class(9), scheme=SCHEMES, data=st.data())
def test_with_enough_single_images_the_sizes_are_exact(
    sizes: dict[str, list[int]], scheme: Preprocess, data: st.DataObject
) -> None:
    singles = {name: [*groups, *[1] * (6 * sum(groups))] for name, groups in sizes.items()}
    photos = name_photos(singles, data.draw(st.integers(0, 999)))
    splits = assign(photos, scheme)
    alone = assign([p.replace("/", ":").replace(":", "/", 1) + "/1" for p in photos], scheme)
    for name in sizes:
        of_class = np.array([photo.startswith(name) for photo in photos])
        assert Counter(splits[of_class].tolist()) == Counter(alone[of_class].tolist())


@given(
    counts=st.lists(st.integers(6, 40), min_size=1, max_size=4),
    official=st.sampled_from([(UNASSIGNED,), (TRAIN, TEST), (TRAIN, VALIDATION, TEST)]),
    scheme=SCHEMES,
    cap=st.sampled_from([0, 5]),
    seed=SEEDS,
)
def test_groups_of_one_image_change_nothing(
    counts: list[int], official: tuple[int, ...], scheme: Preprocess, cap: int, seed: int
) -> None:
    labels = np.repeat(np.arange(len(counts)), counts)
    random = np.random.default_rng(seed)
    labels = np.concatenate([random.permutation(labels) for _ in official])
    parts = np.repeat(np.array(official, dtype=np.int8), len(labels) // len(official))
    arguments = (
        labels,
        parts,
        lambda indices: [f"{index}.jpg" for index in indices],
        [f"class {label}" for label in range(len(counts))],
        scheme.model_copy(update={"max_per_class": cap}),
    )
    single = choose_splits(*arguments, groups=random.permutation(len(labels)))
    assert {split: found.tolist() for split, found in single.items()} == {
        split: found.tolist() for split, found in choose_splits(*arguments).items()
    }


@given(photos=PHOTOS | MIXED, scheme=SCHEMES, data=st.data())
def test_the_order_of_the_listing_changes_nothing(
    photos: list[str], scheme: Preprocess, data: st.DataObject
) -> None:
    order = data.draw(st.permutations(range(len(photos))))
    shuffled = assign([photos[index] for index in order], scheme)
    assert shuffled.tolist() == assign(photos, scheme)[order].tolist()


@given(photos=PHOTOS, scheme=SCHEMES, new=st.integers(0, 999), is_new_group=st.booleans())
def test_one_photograph_more_moves_few_others(
    photos: list[str], scheme: Preprocess, new: int, is_new_group: bool
) -> None:
    name, group, _ = photos[0].split("/")
    added = f"{name}/{f'new-{new}' if is_new_group else group}/new-{new}"
    before, after = assign(photos, scheme), assign([*photos, added], scheme)[:-1]
    moved = [photo for photo, one, two in zip(photos, before, after, strict=True) if one != two]
    assert {photo.split("/")[0] for photo in moved} <= {name}
    largest = max(Counter(photo.rpartition("/")[0] for photo in [*photos, added]).values())
    assert len(moved) <= 12 * largest


def test_the_number_that_moves_does_not_grow_with_the_dataset() -> None:
    """On average over many new photographs: about one group."""

    def count_moved(groups: int) -> float:
        photos = name_photos({"elm": [5] * groups}, 0)
        before = assign(photos, SETTINGS)
        moved = [
            int((assign([*photos, f"elm/new{new}/1"], SETTINGS)[:-1] != before).sum())
            for new in range(10)
        ]
        return float(np.mean(moved))

    assert count_moved(50) <= 15
    assert count_moved(500) <= 15


@given(sizes=sizes_by_class(6), folds=st.integers(3, 6), seed=SEEDS)
def test_every_image_is_tested_on_in_exactly_one_fold(
    sizes: dict[str, list[int]], folds: int, seed: int
) -> None:
    photos = name_photos(sizes, 0)
    splits = [
        assign(photos, change(test_fold=f"{fold}/{folds}", seed=seed))
        for fold in range(1, folds + 1)
    ]
    assert (np.sum([part == TEST for part in splits], axis=0) == 1).all()
    assert all((one != other).any() for one, other in pairwise(splits))


def test_groups_of_several_classes_keep_the_shares_of_each_class() -> None:
    """200 patients with 1 to 8 images, of which some show a second finding."""
    random = np.random.default_rng(1)
    photos = [
        f"{'rare' if random.random() < 0.1 else 'usual'}/patient{patient}/{number}"
        for patient in range(200)
        for number in range(random.integers(1, 9))
    ]
    splits = assign(photos, SETTINGS)
    for name in ("rare", "usual"):
        of_class = np.array([photo.startswith(name) for photo in photos])
        assert abs((splits[of_class] == TEST).sum() - 0.2 * of_class.sum()) <= 1
        assert abs((splits[of_class] == VALIDATION).sum() - 0.08 * of_class.sum()) <= 2


PATHS = ["cats/p1_1.jpg", "cats/p2_1.jpg", "dogs/p1_2.jpg", "dogs/other.jpg", "dogs/more.jpg"]


def groups_by(setting: str, column: np.ndarray | None = None) -> list[list[str]] | None:
    found = find_groups(setting, column, lambda some: [PATHS[i] for i in some], len(PATHS))
    if found is None:
        return None
    together = [
        [path for path, group in zip(PATHS, found, strict=True) if group == number]
        for number in found
    ]
    return [group for number, group in enumerate(together) if group not in together[:number]]


def test_a_pattern_finds_the_groups_in_whole_paths(capsys: pytest.CaptureFixture[str]) -> None:
    """Images of two classes may be a group. An image that does not match is a group alone."""
    assert groups_by(r".*/(p\d)_.*") == [
        ["cats/p1_1.jpg", "dogs/p1_2.jpg"], ["cats/p2_1.jpg"], ["dogs/other.jpg"], ["dogs/more.jpg"]
    ]  # fmt: skip
    assert capsys.readouterr().out == (
        "preprocess: 2 groups of images that stay in one split; 2 images in no group\n"
    )
    for without_text in (r".*/(?:(p\d)_.*|.*)", r".*/(p\d|)_?.*"):
        assert groups_by(without_text) == groups_by(r".*/(p\d)_.*")
    assert find_error(groups_by, r"(p\d)").startswith(
        r"params.yaml: preprocess.groups: '(p\\d)' matches no path of the dataset, such as"
        " 'cats/p1_1.jpg'; it must"
    )


def test_a_column_has_the_groups() -> None:
    assert groups_by("none", np.zeros(5, dtype=np.int64)) is None
    assert groups_by("column", np.array([7, NO_GROUP, 7, NO_GROUP, 3])) == groups_by(r".*/(p1)_.*")
    assert find_error(groups_by, "column").startswith(
        "params.yaml: preprocess.groups: column, but the dataset has no table of labels with"
    )


def test_a_group_that_does_not_fit_is_chosen_if_it_brings_the_sizes_nearer() -> None:
    """The shares are 19.6 images, and then 7.7 of the others."""
    splits = assign(name_photos({"elm": [7] * 14}, 0), SETTINGS)
    assert Counter(splits.tolist()) == {TRAIN: 70, VALIDATION: 7, TEST: 21}


def test_three_groups_of_a_class_are_enough() -> None:
    splits = assign(name_photos({"elm": [50, 1, 1], "oak": [4, 4, 4]}, 0), SETTINGS)
    assert Counter(splits[:52].tolist()) == {TRAIN: 50, VALIDATION: 1, TEST: 1}
    assert Counter(splits[52:].tolist()) == {TRAIN: 4, VALIDATION: 4, TEST: 4}


@pytest.mark.parametrize(("fold", "parts"), [("none", "3 splits"), ("1/4", "4 folds")])
def test_a_class_with_too_few_groups_is_named(fold: str, parts: str) -> None:
    photos = name_photos({"elm": [9] * 5, "oak": [30, 30]}, 0)
    assert find_error(assign, photos, change(test_fold=fold)) == (
        f"class 'oak' has 2 groups of images for {parts}; the images of a group, and copies of an"
        " image, stay in one split: add other images, or change preprocess.groups or duplicates"
    )


def test_official_splits_that_separate_a_group_are_refused() -> None:
    official = np.array([TRAIN, UNASSIGNED, TRAIN, TEST, TRAIN, TEST], dtype=np.int8)
    message = find_error(
        assign_splits,
        np.array([0, 0, 1, 1, 0, 0]),
        official,
        lambda indices: [f"{index}.jpg" for index in indices],
        ["elm", "oak"],
        SETTINGS,
        np.array([7, 7, 5, 5, 1, 2]),
    )
    assert message.startswith(
        "2.jpg and 3.jpg belong to one group, but are in the splits train and test of the dataset;"
    )


def test_the_time_does_not_grow_with_the_square_of_the_number_of_groups() -> None:
    def measure(groups: int) -> float:
        photos = [f"{group % 10}/{group}/{number}" for group in range(groups) for number in (1, 2)]
        labels = np.arange(len(photos)) // 2 % 10
        start_s = time.process_time()
        assign_splits(
            labels,
            np.full(len(photos), UNASSIGNED, dtype=np.int8),
            lambda indices: [photos[index] for index in indices],
            [str(name) for name in range(10)],
            change(test_fold="3/5"),
            np.arange(len(photos)) // 2,
        )
        return time.process_time() - start_s

    few, many = (min(measure(groups) for _ in range(3)) for groups in (3_000, 30_000))
    assert many < 40 * few
