"""Which image belongs to training, validation or test.

The images of a class are ordered by a hash of the seed and of their paths inside the dataset, and
the splits are ranges of this order. So a dataset may grow: one more image shifts the images behind
it by one rank, and only the images at the ends of the ranges move to another split.
"""

import hashlib
from collections.abc import Callable, Mapping, Sequence
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
) -> dict[str, NDArray[np.int64]]:
    """Return the indices of the images of each split, in the order in which they are written.

    The arguments and errors are as for `assign_splits`.
    """
    assigned = assign_splits(labels, official, paths, classes, settings)
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

    Args:
        labels: (N,) indices into `classes`.
        official: (N,) indices into `SPLITS`, or `UNASSIGNED`.
        paths: returns the paths inside the dataset of the images with the given indices.
        classes: their names.
        settings: the section `preprocess` of params.yaml.

    Returns:
        (N,) indices into `SPLITS`, or `LEFT_OUT`.

    Raises:
        PipelineError: a class has too few images to be in every split, or in every fold.
    """
    folds = settings.fold_and_folds
    has_test, has_validation = (
        folds is None and bool((official == split).any()) for split in (_TEST, _VALIDATION)
    )
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
    counts = {
        split: np.bincount(labels[splits == code], minlength=len(classes)).tolist()
        for code, split in enumerate(SPLITS)
    }
    check_splits(
        {split: dict(zip(classes, count, strict=True)) for split, count in counts.items()},
        counted="images",
    )
    return splits


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
                    " add images, or change preprocess.validation_frac, test_frac or max_per_class"
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
