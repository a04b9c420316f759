from collections import Counter
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from imgpipe.core.errors import PipelineError
from imgpipe.preprocessing.splits import (
    LEFT_OUT,
    SPLITS,
    UNASSIGNED,
    assign_splits,
    cap_per_class,
    check_splits,
    choose_splits,
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
    max_per_class=0,
    max_bad_frac=0.0,
    shard_size_mib=1,
    seed=7,
)


def change(**changes: Any) -> Preprocess:
    return SETTINGS.model_copy(update=changes)


TRAIN, VALIDATION, TEST = range(3)


def codes(*counts: tuple[int, int]) -> np.ndarray:
    return np.concatenate([np.full(count, code, dtype=np.int8) for code, count in counts])


def test_the_codes_are_places_in_the_list_of_splits() -> None:
    assert (SPLITS[TRAIN], SPLITS[VALIDATION], SPLITS[TEST]) == ("train", "validation", "test")
    assert UNASSIGNED not in range(3)


def test_without_official_splits_the_shares_hold_in_every_class() -> None:
    labels = np.array([0] * 100 + [1] * 50)
    splits = assign_splits(labels, codes((UNASSIGNED, 150)), ["a", "b"], SETTINGS)
    for label, expected in ((0, (72, 8, 20)), (1, (36, 4, 10))):
        of_class = splits[labels == label]
        assert tuple((of_class == split).sum() for split in range(3)) == expected


def test_an_official_test_split_stays_as_it_is() -> None:
    labels = np.tile([0, 1], 60)
    official = codes((TRAIN, 100), (TEST, 20))
    splits = assign_splits(labels, official, ["a", "b"], SETTINGS)
    assert ((splits == TEST) == (official == TEST)).all()
    assert (splits == VALIDATION).sum() == 10


def test_a_missing_test_split_comes_from_the_official_training_split() -> None:
    labels = np.tile([0, 1], 60)
    official = codes((TRAIN, 100), (VALIDATION, 20))
    splits = assign_splits(labels, official, ["a", "b"], SETTINGS)
    assert ((splits == VALIDATION) == (official == VALIDATION)).all()
    assert (splits == TEST).sum() == 20


def test_another_class_leaves_the_first_ones_as_they_were() -> None:
    labels = np.array([0] * 40 + [1] * 40)
    both = assign_splits(labels, codes((UNASSIGNED, 80)), ["a", "b"], SETTINGS)
    alone = assign_splits(labels[:40], codes((UNASSIGNED, 40)), ["a"], SETTINGS)
    assert (both[:40] == alone).all()


def test_the_seed_decides() -> None:
    labels = np.zeros(100, dtype=np.int64)
    official = codes((UNASSIGNED, 100))
    first, again, other = (
        assign_splits(labels, official, ["a"], change(seed=seed)) for seed in (1, 1, 2)
    )
    assert (first == again).all()
    assert (first != other).any()


def test_too_few_images_say_what_to_do() -> None:
    labels = np.array([0] * 10 + [1] * 2)
    with pytest.raises(PipelineError) as caught:
        assign_splits(labels, codes((UNASSIGNED, 12)), ["cat", "dog"], SETTINGS)
    assert str(caught.value).startswith(
        "class 'dog' has no image for the train split, of 2 images; add images, or"
    )


def test_three_images_are_enough() -> None:
    splits = assign_splits(np.zeros(3, dtype=np.int64), codes((UNASSIGNED, 3)), ["a"], SETTINGS)
    assert sorted(splits) == [TRAIN, VALIDATION, TEST]


@settings(max_examples=50, deadline=None)
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
    splits = assign_splits(labels, codes((UNASSIGNED, len(labels))), classes, chosen)
    assert set(splits) == {TRAIN, VALIDATION, TEST}
    for label, count in enumerate(counts):
        of_class = splits[labels == label]
        test = (of_class == TEST).sum()
        assert abs(test - test_frac * count) <= 1
        assert abs((of_class == VALIDATION).sum() - validation_frac * (count - test)) <= 1
        assert (of_class == TRAIN).sum() >= 1


def test_the_cap_holds_for_each_class_and_split_but_not_for_the_test_split() -> None:
    labels = np.tile([0, 1, 2], 70)
    splits = codes((TRAIN, 90), (VALIDATION, 60), (TEST, 30), (UNASSIGNED, 30))
    capped = cap_per_class(labels, splits, 5, seed=1)
    assert (capped[capped != LEFT_OUT] == splits[capped != LEFT_OUT]).all()
    for label in range(3):
        assert Counter(capped[labels == label].tolist()) == {
            TRAIN: 5, VALIDATION: 5, TEST: 10, UNASSIGNED: 5, LEFT_OUT: 45
        }  # fmt: skip


def test_chosen_splits_hold_the_whole_official_test_split() -> None:
    labels = np.tile([0, 1], 60)
    official = codes((TRAIN, 80), (TEST, 40))
    chosen = choose_splits(labels, official, ["a", "b"], change(max_per_class=10))
    assert sorted(chosen["test"]) == list(range(80, 120))
    assert list(chosen) == list(SPLITS)
    assert len(chosen["train"]) + len(chosen["validation"]) == 20
    assert set(chosen["train"]) | set(chosen["validation"]) < set(range(80))


def test_a_drawn_test_split_is_a_share_of_all_images_and_validation_one_of_those_kept() -> None:
    labels = np.tile([0, 1], 60)
    settings = change(max_per_class=10)
    chosen = choose_splits(labels, codes((UNASSIGNED, 120)), ["a", "b"], settings)
    assert {split: len(indices) for split, indices in chosen.items()} == {
        "train": 18, "validation": 2, "test": 24
    }  # fmt: skip


@settings(max_examples=200, deadline=None)
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


def test_after_reading_the_error_counts_the_readable_images() -> None:
    images = {"train": {"cat": 3, "dog": 1}, "validation": {"cat": 1, "dog": 0}}
    with pytest.raises(PipelineError) as caught:
        check_splits(images, counted="readable images")
    assert str(caught.value).startswith(
        "class 'dog' has no image for the validation split, of 1 readable images; add images, or"
    )


def test_no_cap_keeps_everything() -> None:
    splits = codes((UNASSIGNED, 9))
    assert (cap_per_class(np.zeros(9, dtype=np.int64), splits, 0, seed=1) == splits).all()


def test_a_smaller_cap_keeps_a_part_of_what_a_larger_one_keeps() -> None:
    labels, splits = np.tile([0, 1], 50), codes((UNASSIGNED, 100))
    small, large = (
        set(np.flatnonzero(cap_per_class(labels, splits, cap, seed=3) != LEFT_OUT).tolist())
        for cap in (5, 20)
    )
    assert len(small) == 10
    assert small < large


def test_shuffling_keeps_the_images_and_mixes_the_classes() -> None:
    indices = np.arange(200)
    shuffled = shuffle_split(indices, "train", seed=1)
    assert sorted(shuffled) == list(indices)
    assert set(np.sort(shuffled[:50] // 100)) == {0, 1}
    assert (shuffled != shuffle_split(indices, "test", seed=1)).any()


def folds_of(labels: np.ndarray, official: np.ndarray, folds: int) -> list[np.ndarray]:
    """The splits of the images, for each fold in turn."""
    return [
        assign_splits(labels, official, ["a", "b"], change(test_fold=f"{fold}/{folds}"))
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
    sizes = [int((part == TEST).sum()) for part in splits]
    assert max(sizes) - min(sizes) <= 1


def test_folds_are_dealt_without_the_official_test_split() -> None:
    labels = np.array([0, 1] * 60)
    official = codes((TRAIN, 80), (VALIDATION, 20), (TEST, 20))
    for part in folds_of(labels, official, 4):
        assert ((part == LEFT_OUT) == (official == TEST)).all()
        assert (part == TEST).sum() == 25
        assert (part == VALIDATION).sum() == 8  # 0.1 of the 38 or 37 images left of each class


def test_a_fold_depends_on_the_seed_alone() -> None:
    labels, official = np.array([0, 1] * 50), codes((UNASSIGNED, 100))
    first, again = folds_of(labels, official, 3), folds_of(labels, official, 3)
    assert all((one == other).all() for one, other in zip(first, again, strict=True))
    other = assign_splits(labels, official, ["a", "b"], change(test_fold="1/3", seed=8))
    assert (other != first[0]).any()


def test_a_class_too_small_for_the_folds_is_named() -> None:
    labels = np.array([0] * 30 + [1] * 4)
    with pytest.raises(PipelineError, match="class 'b' has 4 images for 5 folds"):
        assign_splits(labels, codes((UNASSIGNED, 34)), ["a", "b"], change(test_fold="2/5"))
