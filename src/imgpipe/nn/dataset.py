"""Shards → `tf.data`."""

import math
import re
from collections.abc import Sequence
from pathlib import Path

import tensorflow as tf

from imgpipe.errors import PipelineError
from imgpipe.records import AugmentedInfo, RecordsInfo, Shard, copy_folder

_BATCH_RECORDS = 1024


def load_split(folder: Path, info: RecordsInfo, split: str) -> tuple[tf.Tensor, tf.Tensor]:
    """Load one split: images (N, H, W, C) uint8 and labels (N,) int64, in the records' order."""
    return _load_shards(folder, info.splits[split].shards, info)


def load_variants(
    records: Path, info: RecordsInfo, augmented: Path, augmented_info: AugmentedInfo
) -> tuple[tf.Tensor, tf.Tensor]:
    """Load the training images and their augmented copies.

    Returns:
        images (V, N, H, W, C) uint8, variant 0 the originals, and labels (N,) int64.
    """
    original, labels = load_split(records, info, "train")
    copies = [
        _load_shards(augmented / copy_folder(copy), augmented_info.shards, info)[0]
        for copy in range(1, augmented_info.copies + 1)
    ]
    return tf.stack([original, *copies]), labels


def _load_shards(
    folder: Path, shards: Sequence[Shard], info: RecordsInfo
) -> tuple[tf.Tensor, tf.Tensor]:
    fields = {
        "image": tf.io.FixedLenFeature([], tf.string),
        "label": tf.io.FixedLenFeature([], tf.int64),
    }

    def parse(payloads: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        parsed = tf.io.parse_example(payloads, fields)
        if info.record_encoding == "png":
            images = tf.map_fn(tf.io.decode_png, parsed["image"], fn_output_signature=tf.uint8)
        else:
            images = tf.io.decode_raw(parsed["image"], tf.uint8)
        return tf.reshape(images, [-1, *info.image_shape]), parsed["label"]

    parts = []
    for shard in shards:
        path = (folder / shard.file).as_posix()
        batches = tf.data.TFRecordDataset(path).batch(_BATCH_RECORDS)
        try:
            parts += batches.map(parse, num_parallel_calls=2)
        except tf.errors.OpError as error:
            reason = re.sub(r"\{\{.*?\}\} | \[Op:.*", "", error.message.splitlines()[0])
            raise PipelineError(f"{path}: {reason}") from None
    images, labels = (tf.concat(column, axis=0) for column in zip(*parts, strict=True))
    examples = sum(shard.examples for shard in shards)
    if len(labels) != examples:
        raise PipelineError(
            f"{folder.as_posix()}: info.json says {examples} examples; found {len(labels)}"
        )
    return images, labels


def training_batches(
    images: tf.Tensor, labels: tf.Tensor, *, batch_size: int, epoch: int, seed: int
) -> tf.data.Dataset:
    """Return one epoch of batches: every training image once, in one of its variants.

    Order and variants are a function of (seed, epoch) alone. Image i of N comes in variant
    (epoch + i) mod V, so that V epochs show each image in each of its V variants, and an epoch
    costs the same however many there are.

    Args:
        images: (V, N, H, W, C) uint8.
        labels: (N, ...), in the form that the loss takes.
    """
    variants, examples = images.shape[:2]
    flat = tf.reshape(images, [variants * examples, *images.shape[2:]])
    keys = tf.random.stateless_uniform(
        [examples], seed=[seed, epoch], minval=None, maxval=None, dtype=tf.int64
    )
    order = tf.argsort(keys, stable=True)

    def gather(index: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        variant = (index + epoch) % variants
        return tf.gather(flat, variant * examples + index), tf.gather(labels, index)

    batches = tf.data.Dataset.from_tensor_slices(order).batch(batch_size)
    return batches.map(gather, num_parallel_calls=1, deterministic=True).prefetch(2)


def count_steps(examples: int, batch_size: int) -> int:
    """Return the number of batches that hold every example once."""
    return math.ceil(examples / batch_size)


def ordered_batches(images: tf.Tensor, labels: tf.Tensor, batch_size: int) -> tf.data.Dataset:
    """Return every example once, in order."""
    return tf.data.Dataset.from_tensor_slices((images, labels)).batch(batch_size).prefetch(2)
