"""Which image belongs to training, validation or test."""

from collections.abc import Mapping, Sequence
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from imgpipe.core.errors import PipelineError
from imgpipe.settings.preprocess import Preprocess

SPLITS = ("train", "validation", "test")
UNASSIGNED = -1  # the dataset has no official split for the image
LEFT_OUT = -2  # the image is in an official test split, which cross-validation does not use
_TRAIN = SPLITS.index("train")
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
    kept = cap_per_class(labels, official, settings.max_per_class, settings.seed)
    assigned = assign_splits(labels[kept], official[kept], classes, settings)
    return {
        split: shuffle_split(kept[assigned == code], split, settings.seed)
        for code, split in enumerate(SPLITS)
    }


def cap_per_class(
    labels: NDArray[np.int64], official: NDArray[np.int8], max_per_class: int, seed: int
) -> NDArray[np.int64]:
    """Choose at most `max_per_class` images of each class in each official split (0: all of them).

    An official test split stays whole, so that its scores can be compared for any number of
    training images. The choice depends on nothing but the arguments.

    Returns:
        the indices of the chosen images, ascending.
    """
    if max_per_class == 0:
        return np.arange(len(labels))
    chosen = [np.flatnonzero(official == _TEST)]
    for label in np.unique(labels):
        for split in np.unique(official[official != _TEST]):
            candidates = np.flatnonzero((labels == label) & (official == split))
            chosen.append(_shuffled(candidates, seed, int(label))[:max_per_class])
    return np.sort(np.concatenate(chosen))


def assign_splits(
    labels: NDArray[np.int64],
    official: NDArray[np.int8],
    classes: Sequence[str],
    settings: Preprocess,
) -> NDArray[np.int8]:
    """Assign each image to a split: stratified by class, seeded, disjoint.

    Official test and validation splits stay as they are. If there is no official test split, it is
    drawn: `test_frac` of the images of each class. If there is no official validation split, it is
    drawn from the rest: `validation_frac` of each class. The other images are for training. The
    images drawn of a class depend on this class only.

    With a `test_fold` such as 2/5, the images outside the official test split are dealt into five
    folds, the second of which is the test split; an official test split is left out.

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
    counts = {
        split: np.bincount(labels[splits == code], minlength=len(classes)).tolist()
        for code, split in enumerate(SPLITS)
    }
    check_splits(
        {split: dict(zip(classes, count, strict=True)) for split, count in counts.items()},
        counted="images",
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
