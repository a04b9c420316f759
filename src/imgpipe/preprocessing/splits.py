"""Which image belongs to training, validation or test.

The images of a class are ordered by a hash of the seed and of their paths inside the dataset, and
the splits are ranges of this order. So a dataset may grow: one more image shifts the images behind
it by one rank, and only the images at the ends of the ranges move to another split. Images of a
group stay together: then the groups are ordered, and a split is a choice of whole groups.
"""

import hashlib
from collections.abc import Callable, Mapping, Sequence
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from imgpipe.console.messages import format_count
from imgpipe.core.errors import PipelineError
from imgpipe.preprocessing.groups import (
    SortedImages,
    choose_groups,
    count_groups,
    sort_by_group,
)
from imgpipe.settings.preprocess import Preprocess

SPLITS = ("train", "validation", "test")
UNASSIGNED = -1  # the dataset has no official split for the image
LEFT_OUT = -2  # above `max_per_class`, or in an official test split during cross-validation
_TRAIN = SPLITS.index("train")
_VALIDATION = SPLITS.index("validation")
_TEST = SPLITS.index("test")

Paths = Callable[[NDArray[np.int64]], list[str]]
"""Returns the paths inside the dataset of the images with the given indices."""

Stream = Literal["split", "order", "fold"]
"""What a hash decides: the hashes of different streams are independent."""

_DIGEST_BYTES = 8
_PATHS_AT_ONCE = 1 << 12


def choose_splits(
    labels: NDArray[np.int64],
    official: NDArray[np.int8],
    paths: Paths,
    classes: Sequence[str],
    settings: Preprocess,
    groups: NDArray[np.int64] | None = None,
) -> dict[str, NDArray[np.int64]]:
    """Return the indices of the images of each split, in the order in which they are written.

    The arguments and errors are as for `assign_splits`.
    """
    assigned = assign_splits(labels, official, paths, classes, settings, groups)
    return {
        split: shuffle_split(np.flatnonzero(assigned == code), paths, settings.seed)
        for code, split in enumerate(SPLITS)
    }


def assign_splits(
    labels: NDArray[np.int64],
    official: NDArray[np.int8],
    paths: Paths,
    classes: Sequence[str],
    settings: Preprocess,
    groups: NDArray[np.int64] | None = None,
) -> NDArray[np.int8]:
    """Assign each image to a split: stratified by class, seeded, disjoint.

    An official split stays as it is. The splits that are missing are drawn class by class. The
    rank of an image is its place among the images of its class in the order of the hashes of their
    paths; images with equal hashes stay in the order of the dataset.

    - Test: the first ranks, `test_frac` of the images outside an official validation split.
    - `max_per_class` then limits the other images, to the next ranks. It never limits the test
      split, so that scores can be compared for any number of training images. An official
      validation split is limited for itself.
    - Validation: of these images, the next ranks, `validation_frac` of them.
    - Training: the ranks after validation.

    With a `test_fold` such as 2/5, the images outside an official test split, which is left out,
    are cut into five folds, which are blocks of ranks. The second fold is the test split. Then
    come the ranks after this fold; after the last rank comes the first one. So the validation
    splits of the folds are disjoint, unless they are larger than a fold.

    If one image is added to a class or removed from it, no image of another class moves to another
    split. Of the other images of the class at most two move, one at each end of the validation
    split; with `max_per_class` at most three, because the end of the training split moves, too.
    With a `test_fold` at most two move into or out of the test split, and at most four move at all;
    with `max_per_class` at most six.

    With `groups`, the same holds for groups in the place of images, as near as their sizes allow:

    - The groups are ordered by the smallest hash of their images. The images of a class have the
      order of their groups, and in a group the order of their hashes.
    - Test, validation, and each fold after the other: `choose_groups` chooses from this order the
      groups whose images are nearest to the numbers above. The last fold and training are the rest.
    - `max_per_class` limits to the first images in this order; this may leave out a part of a
      group.
    - If one image is added, its group may get another place, and so another split. The other images
      that move are fewer than some times the size of the largest group. This does not depend on the
      number of images.

    Args:
        labels: (N,) indices into `classes`.
        official: (N,) indices into `SPLITS`, or `UNASSIGNED`.
        paths: returns the paths inside the dataset of the images with the given indices.
        classes: their names.
        settings: the section `preprocess` of params.yaml.
        groups: (N,) numbers; images with equal numbers stay in one split. None if there are no
            groups.

    Returns:
        (N,) indices into `SPLITS`, or `LEFT_OUT`.

    Raises:
        PipelineError: a class has too few images or groups to be in every split, or in every fold;
            or official splits separate the images of a group.
    """
    if groups is None:
        splits = _assign_images(labels, official, paths, classes, settings)
    else:
        splits = _assign_groups(labels, official, paths, classes, settings, groups)
    counts = {
        split: np.bincount(labels[splits == code], minlength=len(classes)).tolist()
        for code, split in enumerate(SPLITS)
    }
    check_splits(
        {split: dict(zip(classes, count, strict=True)) for split, count in counts.items()},
        counted="images",
    )
    return splits


def _assign_images(
    labels: NDArray[np.int64],
    official: NDArray[np.int8],
    paths: Paths,
    classes: Sequence[str],
    settings: Preprocess,
) -> NDArray[np.int8]:
    folds = settings.fold_and_folds
    has_test, has_validation = _find_official(official, settings)
    limit = settings.max_per_class or None
    splits = np.full(len(labels), LEFT_OUT, dtype=np.int8)
    ends = np.bincount(labels, minlength=len(classes)).cumsum()
    images_of_class = np.split(np.argsort(labels, kind="stable"), ends[:-1])
    for name, images in zip(classes, images_of_class, strict=True):
        ranked = _sort_by_hash(images, paths, settings.seed, "split")
        group = official[ranked]
        if folds:
            free = ranked[group != _TEST]
            start, count = _locate_fold(name, len(free), *folds, settings.seed)
            free = np.roll(free, -start)
        else:
            free = ranked[(group == _TRAIN) | (group == UNASSIGNED)]
            count = 0 if has_test else _count_share(settings.test_frac, len(free))
            splits[ranked[group == _TEST]] = _TEST
            splits[ranked[group == _VALIDATION][:limit]] = _VALIDATION
        splits[free[:count]] = _TEST
        free = free[count:][:limit]
        count = 0 if has_validation else _count_share(settings.validation_frac, len(free))
        splits[free[:count]] = _VALIDATION
        splits[free[count:]] = _TRAIN
    return splits


def _assign_groups(
    labels: NDArray[np.int64],
    official: NDArray[np.int8],
    paths: Paths,
    classes: Sequence[str],
    settings: Preprocess,
    groups: NDArray[np.int64],
) -> NDArray[np.int8]:
    """Assign whole groups, by the rule of `assign_splits`."""
    folds = settings.fold_and_folds
    has_test, has_validation = _find_official(official, settings)
    hashes = hash_paths(paths, np.arange(len(labels)), settings.seed, "split")
    ranked = sort_by_group(hashes, groups)
    splits = np.full(len(labels), LEFT_OUT, dtype=np.int8)

    def choose(some: SortedImages, frac: float, *, later: int) -> NDArray[np.bool_]:
        counts = np.bincount(labels[some.images], minlength=len(classes)).tolist()
        return choose_groups(some, labels, [_count_share(frac, count) for count in counts], later)

    if folds:
        free = ranked.select(official[ranked.images] != _TEST)
        _check_groups(labels, free, classes, folds[1], "folds")
        test, free = _separate_fold(labels, free, classes, *folds, settings.seed)
        splits[test.images] = _TEST
    else:
        _check_official(official, groups, paths)
        splits[official == _TEST] = _TEST
        kept = _limit(labels, ranked.select(official[ranked.images] == _VALIDATION), settings)
        splits[kept.images] = _VALIDATION
        free = ranked.select(np.isin(official[ranked.images], (_TRAIN, UNASSIGNED)))
        drawn = 3 - has_test - has_validation
        _check_groups(labels, free, classes, drawn, "splits")
        if not has_test:
            chosen = choose(free, settings.test_frac, later=drawn - 1)
            splits[free.images[chosen]] = _TEST
            free = free.select(~chosen)
    free = _limit(labels, free, settings)
    splits[free.images] = _TRAIN
    if not has_validation:
        chosen = choose(free, settings.validation_frac, later=1)
        splits[free.images[chosen]] = _VALIDATION
    return splits


def _find_official(official: NDArray[np.int8], settings: Preprocess) -> tuple[bool, bool]:
    """Return whether an official test split is used, and an official validation split."""
    if settings.fold_and_folds:
        return False, False
    return bool((official == _TEST).any()), bool((official == _VALIDATION).any())


def _separate_fold(
    labels: NDArray[np.int64],
    free: SortedImages,
    classes: Sequence[str],
    fold: int,
    folds: int,
    seed: int,
) -> tuple[SortedImages, SortedImages]:
    """Return the images of a fold; and all others, first these of the folds after this fold.

    All folds up to this one are chosen in turn, each from the groups that the folds before left.
    """
    counts = np.bincount(labels[free.images], minlength=len(classes)).tolist()
    rest, before = free, []
    found = np.zeros(len(classes), dtype=np.int64)
    for number in range(1, fold + 1):
        ends = [
            sum(_locate_fold(name, count, number, folds, seed))
            for name, count in zip(classes, counts, strict=True)
        ]
        if number == folds:
            chosen = np.ones(len(rest.images), dtype=np.bool_)
        else:
            targets = (np.array(ends) - found).tolist()
            chosen = choose_groups(rest, labels, targets, later=folds - number)
        part, rest = rest.select(chosen), rest.select(~chosen)
        found += np.bincount(labels[part.images], minlength=len(classes))
        before.append(part)
    *before, part = before
    others = [rest, *before]
    return part, SortedImages(
        np.concatenate([some.images for some in others]),
        np.concatenate([some.groups for some in others]),
    )


def _limit(labels: NDArray[np.int64], some: SortedImages, settings: Preprocess) -> SortedImages:
    """Return the first `max_per_class` images of each class."""
    if not settings.max_per_class:
        return some
    of_class = labels[some.images]
    by_class = np.argsort(of_class, kind="stable")
    starts = np.searchsorted(of_class[by_class], of_class[by_class])
    kept = np.zeros(len(by_class), dtype=np.bool_)
    kept[by_class] = np.arange(len(by_class)) - starts < settings.max_per_class
    return some.select(kept)


def _check_groups(
    labels: NDArray[np.int64],
    free: SortedImages,
    classes: Sequence[str],
    parts: int,
    counted: Literal["splits", "folds"],
) -> None:
    """Check that each class has a group for each split, or for each fold."""
    found = count_groups(labels[free.images], free.groups, len(classes))
    for name, count in zip(classes, found, strict=True):
        if 0 < count < parts:  # a class without images is reported elsewhere
            raise PipelineError(
                f"class {name!r} has {format_count(count, 'group')} of images for {parts}"
                f" {counted}; the images of a group, and copies of an image, stay in one split: add"
                " other images, or change preprocess.groups or duplicates"
            )


def _check_official(official: NDArray[np.int8], groups: NDArray[np.int64], paths: Paths) -> None:
    """Check that the images of a group are in one official split, or are all to be divided."""
    part = np.where(official == UNASSIGNED, _TRAIN, official)
    _, first, group = np.unique(groups, return_index=True, return_inverse=True)
    separated = np.flatnonzero(part != part[first][group])
    if len(separated):
        other = int(separated[0])
        pair = np.array([first[group[other]], other])
        names, found = paths(pair), [SPLITS[code] for code in part[pair]]
        raise PipelineError(
            f"{names[0]} and {names[1]} belong to one group, but are in the splits {found[0]} and"
            f" {found[1]} of the dataset; move one of the two, or change preprocess.groups"
        )


def _count_share(frac: float, images: int) -> int:
    """Return how many images are a share of them. One image more adds 0 or 1."""
    return max(1, round(frac * images))


def _locate_fold(name: str, images: int, fold: int, folds: int, seed: int) -> tuple[int, int]:
    """Return the first rank of a fold of one class, and the number of its images.

    The sizes of the folds differ by at most 1. The larger folds are consecutive; after the last
    fold comes the first one. If the class grows by one image, one fold grows by one,
    so that each end of each fold moves by at most one rank. The hash of the seed and the name
    decides which fold is the first of the larger ones, so that the folds of many small classes have
    similar sizes in total.

    Raises:
        PipelineError: there are fewer images than folds.
    """
    if images < folds:
        raise PipelineError(
            f"class {name!r} has {images} images for {folds} folds; add images, or"
            " lower the number of folds"
        )
    first_larger = int.from_bytes(_hash(name, seed, "fold"), "little") % folds
    is_larger = (np.arange(folds) - first_larger) % folds < images % folds
    sizes = images // folds + is_larger
    return int(sizes[: fold - 1].sum()), int(sizes[fold - 1])


def check_splits(
    images: Mapping[str, Mapping[str, int]], *, counted: Literal["images", "readable images"]
) -> None:
    """Check, by the number of images of each split and class, that each split has each class."""
    for split, per_class in images.items():
        for name, count in per_class.items():
            if count == 0:
                found = sum(per_class_of_split[name] for per_class_of_split in images.values())
                raise PipelineError(
                    f"class {name!r} has no image for the {split} split, of {found} {counted};"
                    " add images, or change preprocess.validation_frac, test_frac or max_per_class;"
                    " duplicates and two_labels can leave images out, too"
                )


def shuffle_split(indices: NDArray[np.int64], paths: Paths, seed: int) -> NDArray[np.int64]:
    """Return the indices of one split in a random order, so that every shard mixes classes.

    Images are sorted by a hash of the seed and their path; `assign_splits` uses another hash.
    Images with equal hashes stay in their order.
    """
    return _sort_by_hash(indices, paths, seed, "order")


def _sort_by_hash(
    indices: NDArray[np.int64], paths: Paths, seed: int, stream: Stream
) -> NDArray[np.int64]:
    return indices[np.argsort(hash_paths(paths, indices, seed, stream), kind="stable")]


def hash_paths(
    paths: Paths, indices: NDArray[np.int64], seed: int, stream: Stream
) -> NDArray[np.uint64]:
    """Return hashes of the seed, the stream and the paths of images.

    They take 8 bytes an image: the paths are asked for some at a time. The chance that any two of
    a million images have the same hash is 3e-8.

    Returns:
        (n,) the BLAKE2b digests of 8 bytes of "SEED STREAM PATH", as little-endian numbers.
    """
    hashes = np.empty(len(indices), dtype="<u8")
    for start in range(0, len(indices), _PATHS_AT_ONCE):
        some = slice(start, start + _PATHS_AT_ONCE)
        digests = b"".join(_hash(path, seed, stream) for path in paths(indices[some]))
        hashes[some] = np.frombuffer(digests, dtype="<u8")
    return hashes


def _hash(text: str, seed: int, stream: Stream) -> bytes:
    return hashlib.blake2b(f"{seed} {stream} {text}".encode(), digest_size=_DIGEST_BYTES).digest()
