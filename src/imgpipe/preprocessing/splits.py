"""Which image belongs to training, validation or test."""

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from imgpipe.core.errors import PipelineError
from imgpipe.settings.preprocess import Preprocess

SPLITS = ("train", "validation", "test")
UNASSIGNED = -1  # where the dataset leaves the choice of the split
LEFT_OUT = -2  # of an official test split, which cross-validation never looks at
_TRAIN = SPLITS.index("train")

_CHOICE_STREAM, _ORDER_STREAM = 1, 2  # keep the random numbers of the two apart


def cap_per_class(
    labels: NDArray[np.int64], splits: NDArray[np.int8], max_per_class: int, seed: int
) -> NDArray[np.int64]:
    """Choose at most `max_per_class` images of each class in each official split (0: all of them).

    Returns the indices chosen, ascending; which ones depends on nothing but the arguments.
    """
    if max_per_class == 0:
        return np.arange(len(labels))
    chosen = [
        _shuffled(np.flatnonzero((labels == label) & (splits == split)), seed, int(label))[
            :max_per_class
        ]
        for label in np.unique(labels)
        for split in np.unique(splits)
    ]
    return np.sort(np.concatenate(chosen))


def assign_splits(
    labels: NDArray[np.int64],
    official: NDArray[np.int8],
    classes: Sequence[str],
    settings: Preprocess,
) -> NDArray[np.int8]:
    """Give each image a split: stratified by class, seeded, disjoint.

    Official test and validation splits are kept. Where there is no official test split, `test_frac`
    of each class's other images become one; where there is no official validation split,
    `validation_frac` of what is left become one; the remaining ones train. Each class's choice
    depends on that class alone.

    With a `test_fold` such as 2/5, the images outside the official test split are dealt into five
    folds, the second of which is the test split; an official test split is left out.

    Args:
        labels: (N,) indices into `classes`.
        official: (N,) indices into `SPLITS`, or `UNASSIGNED`.

    Returns:
        (N,) indices into `SPLITS`, or `LEFT_OUT`.

    Raises:
        PipelineError: a class has too few images to be in every split, or in every fold.
    """
    splits = official.copy()
    if settings.fold_and_folds:
        splits = _choose_test_fold(
            labels, official, classes, *settings.fold_and_folds, settings.seed
        )
    missing = [
        (SPLITS.index(split), frac)
        for split, frac in (("test", settings.test_frac), ("validation", settings.validation_frac))
        if not (splits == SPLITS.index(split)).any()
    ]
    for label in range(len(classes)):
        for split, frac in missing:
            free = (splits == UNASSIGNED) | (splits == _TRAIN)
            candidates = np.flatnonzero((labels == label) & free)
            count = max(1, round(frac * len(candidates)))
            splits[_shuffled(candidates, settings.seed, label)[:count]] = split
        splits[(labels == label) & (splits == UNASSIGNED)] = _TRAIN
    check_splits(
        {
            split: dict(
                zip(
                    classes,
                    np.bincount(labels[splits == code], minlength=len(classes)).tolist(),
                    strict=True,
                )
            )
            for code, split in enumerate(SPLITS)
        }
    )
    return splits


def _choose_test_fold(
    labels: NDArray[np.int64],
    official: NDArray[np.int8],
    classes: Sequence[str],
    test_fold: int,
    folds: int,
    seed: int,
) -> NDArray[np.int8]:
    """Make one stratified fold the test split; leave the images of the other folds unassigned."""
    splits = np.where(official == SPLITS.index("test"), LEFT_OUT, UNASSIGNED).astype(np.int8)
    dealt = 0
    for label, name in enumerate(classes):
        hand = _shuffled(np.flatnonzero((labels == label) & (splits == UNASSIGNED)), seed, label)
        if len(hand) < folds:
            raise PipelineError(
                f"class {name!r} has {len(hand)} images for {folds} folds; add images, or"
                " lower the number of folds"
            )
        # Each class goes on where the one before it has ended, so that folds are of equal size.
        fold = (dealt + np.arange(len(hand))) % folds
        splits[hand[fold == test_fold - 1]] = SPLITS.index("test")
        dealt += len(hand)
    return splits


def check_splits(images: Mapping[str, Mapping[str, int]]) -> None:
    """Check that every class has an image in every split.

    Args:
        images: how many there are, by split and class.

    Raises:
        PipelineError: there is none.
    """
    for split, per_class in images.items():
        for name, count in per_class.items():
            if count == 0:
                found = sum(per_class_there[name] for per_class_there in images.values())
                raise PipelineError(
                    f"class {name!r} has no image for the {split} split, of {found} that can be"
                    " read; add images, or change preprocess.validation_frac, test_frac or"
                    " max_per_class"
                )


def shuffle_split(indices: NDArray[np.int64], split: str, seed: int) -> NDArray[np.int64]:
    """Return the indices of one split in a random order, so that every shard mixes classes."""
    generator = np.random.default_rng([seed, _ORDER_STREAM, SPLITS.index(split)])
    return generator.permutation(indices)


def _shuffled(indices: NDArray[np.int64], seed: int, label: int) -> NDArray[np.int64]:
    return np.random.default_rng([seed, _CHOICE_STREAM, label]).permutation(indices)
