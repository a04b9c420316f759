"""Records → `tf.data`, in batches of which each takes the images that it needs.

The images are in an array, decoded once, or stay in their files where memory has no room for them;
the batches are the same. A tensor of all of them would be a second copy, and a slow one to make.
"""

import hashlib
import math
import os
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from imgpipe.errors import PipelineError
from imgpipe.params import read_whole_number
from imgpipe.records import (
    AugmentedInfo,
    Images,
    RecordsInfo,
    Shard,
    StoredImages,
    copy_folder,
    read_shard,
)

# Of the values of an image that a network is shown; in its layers there are many times as many.
_VALUES_AT_ONCE = 1 << 22
_MOST_EVALUATED_AT_ONCE = 512
_BOOTSTRAP_STREAM = 4  # keeps its random numbers apart from those of the stages before
_CONTAINER_LIMIT_FILE = Path("/sys/fs/cgroup/memory.max")


def fits_in_memory(size_bytes: int) -> bool:
    """Return whether images of this size may be kept in memory.

    They may take half of what the machine, or the container, has; or as much as the environment
    variable IMGPIPE_MEMORY_MIB says.

    Raises:
        PipelineError: IMGPIPE_MEMORY_MIB is no whole number.
    """
    limit_mib = read_whole_number("IMGPIPE_MEMORY_MIB", least=0)
    if limit_mib is not None:
        return size_bytes <= limit_mib << 20
    memory_bytes = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    with suppress(OSError, ValueError):  # no such file; or "max", for no limit
        memory_bytes = min(memory_bytes, int(_CONTAINER_LIMIT_FILE.read_text()))
    return size_bytes <= memory_bytes // 2


class Records:
    """Some folders of shards, read one after another as if they were one.

    For training, that of the records and those of their augmented copies: image n of variant v has
    the number v * N + n.
    """

    def __init__(self, info: RecordsInfo, folders: Sequence[tuple[Path, Sequence[Shard]]]) -> None:
        """Name them; nothing is read. `info` describes the records, or what they are copies of."""
        self._info = info
        self._folders = folders
        self.examples = sum(shard.examples for _, shards in folders for shard in shards)

    @property
    def size_bytes(self) -> int:
        """Of all images, decoded."""
        return self.examples * math.prod(self._info.image_shape)

    def digest(self) -> str:
        """Return a SHA-256 of all that is in the shards."""
        digest = hashlib.sha256()
        for path in self._paths():
            with path.open("rb") as stream:
                digest.update(hashlib.file_digest(stream, "sha256").digest())
        return digest.hexdigest()

    def open(self, *, in_memory: bool) -> tuple[Images, NDArray[np.int64]]:
        """Read all shards, and return images (N, H, W, C) and labels (N,) in their order.

        Args:
            in_memory: whether the images are kept; if not, they are read anew when they are taken.

        Raises:
            PipelineError: a shard is damaged, or `info.json` tells of another number of records.
        """
        shape = (self.examples, *self._info.image_shape)
        images = np.empty(shape, dtype=np.uint8) if in_memory else None
        labels = np.empty(self.examples, dtype=np.int64)
        start = 0
        for folder, shards in self._folders:
            first, expected = start, sum(shard.examples for shard in shards)
            for shard in shards:
                for batch in read_shard(folder / shard.file, self._info):
                    end = start + len(batch.labels)
                    if end <= first + expected:
                        labels[start:end] = batch.labels
                        if images is not None:
                            images[start:end] = batch.images
                    start = end
            if start - first != expected:
                raise PipelineError(
                    f"{folder.as_posix()}: info.json says {expected} examples;"
                    f" found {start - first}"
                )
        return (StoredImages(self._paths(), self._info) if images is None else images), labels

    def _paths(self) -> list[Path]:
        return [folder / shard.file for folder, shards in self._folders for shard in shards]


def name_split(folder: Path, info: RecordsInfo, split: str) -> Records:
    """Return the records of one split."""
    return Records(info, [(folder, info.splits[split].shards)])


def name_variants(
    records: Path, info: RecordsInfo, augmented: Path, augmented_info: AugmentedInfo
) -> Records:
    """Return the training records and their augmented copies, variant 0 the originals."""
    copies = range(1, 1 + augmented_info.copies)
    return Records(
        info,
        [
            (records, info.splits["train"].shards),
            *((augmented / copy_folder(copy), augmented_info.shards) for copy in copies),
        ],
    )


def draw_bootstrap(examples: int, seed: int) -> NDArray[np.int64]:
    """Draw as many examples as there are, with replacement; return their numbers, (N,).

    Source: Breiman (1996), Bagging predictors, doi:10.1007/BF00058655.
    """
    return np.random.default_rng([seed, _BOOTSTRAP_STREAM]).integers(examples, size=examples)


class TrainingBatches:
    """Epochs of batches: in each, every training example once, in one of its variants.

    Order and variants are a function of (seed, epoch) alone. Example i of N comes in variant
    (epoch + i) mod V, so that V epochs show each example in each of its V variants, and an epoch
    costs the same however many there are.
    """

    def __init__(
        self,
        images: Images,
        numbers: NDArray[np.int64],
        labels: NDArray[np.int64 | np.float32],
        *,
        batch_size: int,
        seed: int,
    ) -> None:
        """Prepare them.

        Args:
            images: all that there are.
            numbers: (V, N), of the images: those of each example in each variant.
            labels: (N, ...), in the form that the loss takes.
        """
        self._numbers = numbers
        self._seed = seed
        self._epoch = 0
        self._order = np.arange(len(labels))

        def take(step: np.int64) -> tuple[NDArray[np.uint8], NDArray[np.int64 | np.float32]]:
            index = self._order[step * batch_size : (step + 1) * batch_size]
            variant = (index + self._epoch) % len(numbers)
            return images[numbers[variant, index]], labels[index]

        def batch(step: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
            of_images, of_labels = tf.numpy_function(
                take, [step], [tf.uint8, tf.as_dtype(labels.dtype)]
            )
            return (
                tf.ensure_shape(of_images, [None, *images.shape[1:]]),
                tf.ensure_shape(of_labels, [None, *labels.shape[1:]]),
            )

        steps = tf.data.Dataset.range(count_steps(len(labels), batch_size))
        # Built once: for short epochs, building it anew would take longer than all else beside
        # the arithmetic.
        self._batches = steps.map(batch, num_parallel_calls=1, deterministic=True).prefetch(2)

    def of_epoch(self, epoch: int) -> tf.data.Dataset:
        """Return the batches of one epoch, counted from 0; those of the one before must be over."""
        keys = tf.random.stateless_uniform(
            [len(self._order)], seed=[self._seed, epoch], minval=None, maxval=None, dtype=tf.int64
        )
        self._order = tf.argsort(keys, stable=True).numpy()
        self._epoch = epoch
        return self._batches


def count_steps(examples: int, batch_size: int) -> int:
    """Return the number of batches that hold every example once."""
    return math.ceil(examples / batch_size)


def evaluation_batch_size(image_shape: Sequence[int]) -> int:
    """Return how many images (H, W, C) a network is shown at once when it only answers."""
    return max(1, min(_MOST_EVALUATED_AT_ONCE, _VALUES_AT_ONCE // math.prod(image_shape)))


def ordered_batches(images: Images, *columns: NDArray[Any]) -> tf.data.Dataset:
    """Return every image once, in order, each batch with what the columns (N, ...) have for it."""

    def with_images(numbers: tf.Tensor, *others: tf.Tensor) -> tuple[tf.Tensor, ...]:
        taken = tf.numpy_function(lambda numbers: images[numbers], [numbers], tf.uint8)
        return tf.ensure_shape(taken, [None, *images.shape[1:]]), *others

    numbered = tf.data.Dataset.from_tensor_slices((np.arange(images.shape[0]), *columns))
    batches = numbered.batch(evaluation_batch_size(images.shape[1:]))
    return batches.map(with_images, num_parallel_calls=1, deterministic=True).prefetch(2)
