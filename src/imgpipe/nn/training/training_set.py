"""Records → `tf.data`, in batches of which each takes the images that it needs.

Small images, and those stored as PNG, are decoded once into an array, where memory has room for it.
Others stay in their files, which are mapped into memory, so that the system keeps what it has room
for. The batches are the same.
"""

import hashlib
import math
import os
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from imgpipe.core.environment import read_whole_number
from imgpipe.nn.common.batches import _ahead, count_steps
from imgpipe.records.info import AugmentedInfo, RecordsInfo, Shard, copy_folder
from imgpipe.records.shards import index_shard
from imgpipe.records.stored_images import Images, StoredImages

_BYTES_AT_ONCE = 1 << 20  # of training images that are taken together, if a batch is not larger


_BOOTSTRAP_STREAM = 4  # keeps its random numbers apart from those of the stages before


_SMALL_IMAGE_BYTES = 1 << 14


_CONTAINER_LIMIT_FILE = Path("/sys/fs/cgroup/memory.max")


def is_better_in_memory(info: RecordsInfo) -> bool:
    """Return whether taking images from an array is much faster than from their files.

    So it is where they are decoded each time, and where finding an image costs as much as copying
    it. Of others an array would be one more copy, and a slow one to make, for new memory is.
    """
    return math.prod(info.image_shape) < _SMALL_IMAGE_BYTES


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
        self._shards = [(folder, shard) for folder, shards in folders for shard in shards]
        self.examples = sum(shard.examples for _, shard in self._shards)

    @property
    def size_bytes(self) -> int:
        """Of all images, decoded."""
        return self.examples * math.prod(self._info.image_shape)

    def digest(self) -> str:
        """Return a SHA-256 of all that is in the shards."""
        digest = hashlib.sha256()
        for folder, shard in self._shards:
            with (folder / shard.file).open("rb") as stream:
                digest.update(hashlib.file_digest(stream, "sha256").digest())
        return digest.hexdigest()

    def open(self, *, in_memory: bool) -> tuple[Images, NDArray[np.int64]]:
        """Read all shards, and return images (N, H, W, C) and labels (N,) in their order.

        Args:
            in_memory: whether the images are decoded into an array; if not, they are taken from
                their files when they are wanted.

        Raises:
            PipelineError: a shard is damaged, or `info.json` tells of another number of records.
        """
        shape = (self.examples, *self._info.image_shape)
        images = np.empty(shape, dtype=np.uint8) if in_memory else None
        indices, start = [], 0
        for folder, shard in self._shards:
            end = start + shard.examples
            into = None if images is None else images[start:end]
            indices.append(index_shard(folder, shard, self._info, into))
            start = end
        labels = np.concatenate([index.labels for index in indices])
        return (StoredImages(indices, self._info) if images is None else images), labels


def name_split(folder: Path, info: RecordsInfo, split: str) -> Records:
    """Return the records of one split."""
    return Records(info, [(folder, info.splits[split].shards)])


def name_variants(
    records: Path, info: RecordsInfo, augmented: Path, augmented_info: AugmentedInfo
) -> Records:
    """Return the training records and their augmented copies, variant 0 the originals."""
    return Records(
        info,
        [
            (records, info.splits["train"].shards),
            *(
                (augmented / copy_folder(copy), shards)
                for copy, shards in enumerate(augmented_info.shards_of_copies, start=1)
            ),
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

        # Small batches are taken several at once, because each call of Python costs as much as
        # copying a hundred small images.
        at_once = max(1, _BYTES_AT_ONCE // (batch_size * math.prod(images.shape[1:])))
        taken = at_once * batch_size

        def take(part: np.int64) -> tuple[NDArray[np.uint8], NDArray[np.int64 | np.float32]]:
            index = self._order[part * taken : (part + 1) * taken]
            variant = (index + self._epoch) % len(numbers)
            return images[numbers[variant, index]], labels[index]

        def tensors(part: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
            of_images, of_labels = tf.numpy_function(
                take, [part], [tf.uint8, tf.as_dtype(labels.dtype)]
            )
            return (
                tf.ensure_shape(of_images, [None, *images.shape[1:]]),
                tf.ensure_shape(of_labels, [None, *labels.shape[1:]]),
            )

        parts = tf.data.Dataset.range(count_steps(len(labels), taken))
        batches = parts.map(tensors, num_parallel_calls=1, deterministic=True)
        if at_once > 1:
            batches = batches.rebatch(batch_size)
        batches = batches.apply(
            tf.data.experimental.assert_cardinality(count_steps(len(labels), batch_size))
        )
        # Built once: for short epochs, building it anew would take longer than all else beside
        # the arithmetic.
        self._batches = _ahead(batches)

    def of_epoch(self, epoch: int) -> tf.data.Dataset:
        """Return the batches of one epoch, counted from 0; those of the one before must be over."""
        keys = tf.random.stateless_uniform(
            [len(self._order)], seed=[self._seed, epoch], minval=None, maxval=None, dtype=tf.int64
        )
        self._order = tf.argsort(keys, stable=True).numpy()
        self._epoch = epoch
        return self._batches
