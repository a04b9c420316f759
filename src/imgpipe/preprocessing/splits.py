"""Which image belongs to training, validation or test."""

from collections.abc import Mapping, Sequence
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from imgpipe.core.errors import PipelineError
from imgpipe.settings.preprocess import Preprocess

SPLITS = ("train", "validation", "test")
UNASSIGNED = -1  # the dataset has no official split for the image
LEFT_OUT = -2  # above `max_per_class`, or in an official test split during cross-validation
_TRAIN = SPLITS.index("train")
_VALIDATION = SPLITS.index("validation")
_TEST = SPLITS.index("test")

_CHOICE_STREAM, _ORDER_STREAM = 1, 2  # keep the random numbers of the two apart


def choose_splits(
    labels: NDArray[np.int64],
    official: NDArray[np.int8],
    classes: Sequence[str],
    settings: Preprocess,
) -> dict[str, NDArray[np.int64]]:
    """Return the indices of the images of each split, in the order in which they are written.

    Args:
        labels: (N,) indices into `classes`.
        official: (N,) indices into `SPLITS`, or `UNASSIGNED`.
        classes: their names.
        settings: the section `preprocess` of params.yaml.

    Raises:
        PipelineError: a class has too few images to be in every split, or in every fold.
    """
    assigned = assign_splits(labels, official, classes, settings)
    return {
        split: shuffle_split(np.flatnonzero(assigned == code), split, settings.seed)
        for code, split in enumerate(SPLITS)
    }


def assign_splits(
    labels: NDArray[np.int64],
    official: NDArray[np.int8],
    classes: Sequence[str],
    settings: Preprocess,
) -> NDArray[np.int8]:
    """Assign each image to a split: stratified by class, seeded, disjoint.

    An official test split stays as it is. If there is none, it is drawn: `test_frac` of the images
    of each class. With a `test_fold` such as 2/5, the images outside the official test split are
    dealt into five folds, the second of which is the test split; an official test split is left
    out.

    Then `max_per_class` limits the other images, never the test split, so that scores can be
    compared for any number of training images. An official validation split stays as it is, up to
    this limit. If there is none, it is drawn: `validation_frac` of the images of each class. The
    other images are for training. The images drawn of a class depend on this class only.

    Args:
        labels: (N,) indices into `classes`.
        official: (N,) indices into `SPLITS`, or `UNASSIGNED`.
        classes: their names.
        settings: the section `preprocess` of params.yaml.

    Returns:
        (N,) indices into `SPLITS`, or `LEFT_OUT`.

    Raises:
        PipelineError: a class has too few images to be in every split, or in every fold.
    """
    if settings.fold_and_folds:
        splits = _choose_test_fold(
            labels, official, classes, *settings.fold_and_folds, settings.seed
        )
    else:
        splits = _draw_if_missing(_TEST, settings.test_frac, labels, official, settings.seed)
    splits = cap_per_class(labels, splits, settings.max_per_class, settings.seed)
    splits = _draw_if_missing(_VALIDATION, settings.validation_frac, labels, splits, settings.seed)
    splits[splits == UNASSIGNED] = _TRAIN
    counts = {
        split: np.bincount(labels[splits == code], minlength=len(classes)).tolist()
        for code, split in enumerate(SPLITS)
    }
    check_splits(
        {split: dict(zip(classes, count, strict=True)) for split, count in counts.items()},
        counted="images",
    )
    return splits


def cap_per_class(
    labels: NDArray[np.int64], splits: NDArray[np.int8], max_per_class: int, seed: int
) -> NDArray[np.int8]:
    """Leave out the images above `max_per_class` of each class in each group (0: none).

    The groups are the official training images, the official validation images, and the images
    without a split. The test split stays whole.

    Args:
        labels: (N,) indices of the classes.
        splits: (N,) indices into `SPLITS`, or `UNASSIGNED` or `LEFT_OUT`.
        max_per_class: the limit.
        seed: of the choice.

    Returns:
        (N,) `splits` with `LEFT_OUT` for the images above the limit.
    """
    capped = splits.copy()
    if max_per_class == 0:
        return capped
    for label in np.unique(labels):
        for group in (_TRAIN, _VALIDATION, UNASSIGNED):
            candidates = np.flatnonzero((labels == label) & (splits == group))
            capped[_shuffled(candidates, seed, int(label))[max_per_class:]] = LEFT_OUT
    return capped


def _draw_if_missing(
    split: int, frac: float, labels: NDArray[np.int64], splits: NDArray[np.int8], seed: int
) -> NDArray[np.int8]:
    """Draw a share of each class's training and unassigned images, if the split has no image."""
    drawn = splits.copy()
    if (splits == split).any():
        return drawn
    free = (splits == UNASSIGNED) | (splits == _TRAIN)
    for label in np.unique(labels):
        candidates = np.flatnonzero((labels == label) & free)
        count = max(1, round(frac * len(candidates)))
        drawn[_shuffled(candidates, seed, int(label))[:count]] = split
    return drawn


def _choose_test_fold(
    labels: NDArray[np.int64],
    official: NDArray[np.int8],
    classes: Sequence[str],
    test_fold: int,
    folds: int,
    seed: int,
) -> NDArray[np.int8]:
    """Make one stratified fold the test split; leave the images of the other folds unassigned."""
    splits = np.where(official == _TEST, LEFT_OUT, UNASSIGNED).astype(np.int8)
    dealt = 0
    for label, name in enumerate(classes):
        hand = _shuffled(np.flatnonzero((labels == label) & (splits == UNASSIGNED)), seed, label)
        if len(hand) < folds:
            raise PipelineError(
                f"class {name!r} has {len(hand)} images for {folds} folds; add images, or"
                " lower the number of folds"
            )
        # Each class begins at the fold where the class before it ended, so that sizes are equal.
        fold = (dealt + np.arange(len(hand))) % folds
        splits[hand[fold == test_fold - 1]] = _TEST
        dealt += len(hand)
    return splits


def check_splits(
    images: Mapping[str, Mapping[str, int]], *, counted: Literal["images", "readable images"]
) -> None:
    """Check that every class has an image in every split.

    Args:
        images: the number of images, by split and class.
        counted: which images these are, for the error.

    Raises:
        PipelineError: a class has no image in a split.
    """
    for split, per_class in images.items():
        for name, count in per_class.items():
            if count == 0:
                found = sum(per_class_of_split[name] for per_class_of_split in images.values())
                raise PipelineError(
                    f"class {name!r} has no image for the {split} split, of {found} {counted};"
                    " add images, or change preprocess.validation_frac, test_frac or max_per_class"
                )


def shuffle_split(indices: NDArray[np.int64], split: str, seed: int) -> NDArray[np.int64]:
    """Return the indices of one split in a random order, so that every shard mixes classes."""
    generator = np.random.default_rng([seed, _ORDER_STREAM, SPLITS.index(split)])
    return generator.permutation(indices)


def _shuffled(indices: NDArray[np.int64], seed: int, label: int) -> NDArray[np.int64]:
    return np.random.default_rng([seed, _CHOICE_STREAM, label]).permutation(indices)
