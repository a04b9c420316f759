"""Records → `tf.data`. Images stay NumPy arrays, from which each batch takes what it needs.

A tensor of all of them would be a second copy, and a slow one to make.
"""

import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from imgpipe.errors import PipelineError
from imgpipe.records import AugmentedInfo, RecordsInfo, Shard, copy_folder, read_shard

_BOOTSTRAP_STREAM = 4  # keeps its random numbers apart from those of the stages before


def load_split(
    folder: Path, info: RecordsInfo, split: str
) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """Load one split: images (N, H, W, C) and labels (N,), in the records' order.

    Raises:
        PipelineError: a shard is damaged, or holds another number of records than `info` says.
    """
    shards = info.splits[split].shards
    images = np.empty((info.splits[split].examples, *info.image_shape), dtype=np.uint8)
    return images, _read_into(images, folder, shards, info)


def load_variants(
    records: Path, info: RecordsInfo, augmented: Path, augmented_info: AugmentedInfo
) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """Load the training images and their augmented copies.

    Returns:
        images (V, N, H, W, C), variant 0 the originals, and labels (N,).

    Raises:
        PipelineError: as `load_split`.
    """
    train = info.splits["train"]
    variants = np.empty(
        (1 + augmented_info.copies, train.examples, *info.image_shape), dtype=np.uint8
    )
    labels = _read_into(variants[0], records, train.shards, info)
    for copy in range(1, 1 + augmented_info.copies):
        _read_into(variants[copy], augmented / copy_folder(copy), augmented_info.shards, info)
    return variants, labels


def _read_into(
    images: NDArray[np.uint8], folder: Path, shards: Sequence[Shard], info: RecordsInfo
) -> NDArray[np.int64]:
    """Fill `images` with those of the shards; return the labels."""
    labels = np.empty(len(images), dtype=np.int64)
    start = 0
    for shard in shards:
        for batch in read_shard(folder / shard.file, info):
            end = start + len(batch.labels)
            if end <= len(images):
                images[start:end], labels[start:end] = batch.images, batch.labels
            start = end
    if start != len(images):
        raise PipelineError(
            f"{folder.as_posix()}: info.json says {len(images)} examples; found {start}"
        )
    return labels


def draw_bootstrap(
    variants: NDArray[np.uint8], labels: NDArray[np.int64], seed: int
) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """Draw as many images as there are, with replacement, each in all its variants.

    Source: Breiman (1996), Bagging predictors, doi:10.1007/BF00058655.

    Args:
        variants: (V, N, H, W, C).
        labels: (N,).
    """
    examples = len(labels)
    drawn = np.random.default_rng([seed, _BOOTSTRAP_STREAM]).integers(examples, size=examples)
    return variants[:, drawn], labels[drawn]


def training_batches(
    images: NDArray[np.uint8],
    labels: NDArray[np.int64 | np.float32],
    *,
    batch_size: int,
    epoch: int,
    seed: int,
) -> tf.data.Dataset:
    """Return one epoch of batches: every training image once, in one of its variants.

    Order and variants are a function of (seed, epoch) alone. Image i of N comes in variant
    (epoch + i) mod V, so that V epochs show each image in each of its V variants, and an epoch
    costs the same however many there are.

    Args:
        images: (V, N, H, W, C).
        labels: (N, ...), in the form that the loss takes.
    """
    variants, examples = images.shape[:2]
    keys = tf.random.stateless_uniform(
        [examples], seed=[seed, epoch], minval=None, maxval=None, dtype=tf.int64
    )
    order = tf.argsort(keys, stable=True)

    def take(index: NDArray[np.int32]) -> tuple[NDArray[np.uint8], NDArray[np.int64 | np.float32]]:
        return images[(index + epoch) % variants, index], labels[index]

    def batch(index: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        of_images, of_labels = tf.numpy_function(
            take, [index], [tf.uint8, tf.as_dtype(labels.dtype)], stateful=False
        )
        return (
            tf.ensure_shape(of_images, [None, *images.shape[2:]]),
            tf.ensure_shape(of_labels, [None, *labels.shape[1:]]),
        )

    batches = tf.data.Dataset.from_tensor_slices(order).batch(batch_size)
    return batches.map(batch, num_parallel_calls=1, deterministic=True).prefetch(2)


def count_steps(examples: int, batch_size: int) -> int:
    """Return the number of batches that hold every example once."""
    return math.ceil(examples / batch_size)


def ordered_batches(
    images: NDArray[np.uint8],
    labels: NDArray[np.int64 | np.float32],
    weights: NDArray[np.float64] | None,
    batch_size: int,
) -> tf.data.Dataset:
    """Return every example once, in order, with its weight if there are weights."""
    columns = (images, labels) if weights is None else (images, labels, weights)
    return tf.data.Dataset.from_tensor_slices(columns).batch(batch_size).prefetch(2)
