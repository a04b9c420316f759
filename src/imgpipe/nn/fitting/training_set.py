"""The examples of one training: original images, augmented copies and validation images.

The inputs of a network are images, (H, W, C) uint8. The inputs of the output layer of a pretrained
network are features, (F,) float32.
"""

import hashlib
import json
import math
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import psutil
from numpy.typing import NDArray

from imgpipe.console.messages import format_bytes, report
from imgpipe.core.environment import read_whole_number
from imgpipe.core.errors import PipelineError
from imgpipe.records.folders import AugmentedRecords, Records
from imgpipe.records.info import RecordsInfo
from imgpipe.records.shards import StoredShard
from imgpipe.records.stored_images import Inputs, LabeledInputs, StoredImages

# Larger images are read from their files when they are needed: an array would be one more copy, and
# the first use of new memory is slow. For smaller images, finding an image in a file costs as much
# as copying the image, so an array is faster.
_SMALL_IMAGE_BYTES = 1 << 14
_CONTAINER_LIMIT_FILE = Path("/sys/fs/cgroup/memory.max")
_BOOTSTRAP_STREAM = 4  # makes these random numbers differ from the numbers of other stages


class TrainingSet:
    """Training examples, each in V variants, and validation examples.

    Variant 0 of an example is its original image, the others are its augmented copies. In epoch e
    (counted from 0), example i is shown in variant (e + i) mod V. So V epochs show each example in
    each variant, and an epoch costs the same for every V.

    Attributes:
        labels: (N,) int64, of the training examples.
        variants: V.
        sample: (N,) int64, the index of the image of each training example; in a bootstrap sample,
            an image may occur several times.
        validation: the validation examples.
        digest: a SHA-256 of everything that a training depends on here.
    """

    def __init__(
        self,
        inputs: Inputs,
        labels: NDArray[np.int64],
        validation: LabeledInputs,
        *,
        bootstrap_seed: int | None = None,
        digest: str = "",
    ) -> None:
        """Combine inputs in memory, or in files, to a training set.

        Args:
            inputs: (V * N, ...), all inputs of variant 0, then all of variant 1, ...
            labels: (N,) int64, of variant 0.
            validation: see the attribute.
            bootstrap_seed: if given, train on the sample that `draw_bootstrap` draws with it.
            digest: see the attribute.
        """
        self._inputs = inputs
        self._originals = len(labels)
        self.variants = inputs.shape[0] // len(labels)
        self.sample = (
            np.arange(len(labels))
            if bootstrap_seed is None
            else draw_bootstrap(len(labels), bootstrap_seed)
        )
        self.labels = labels[self.sample]
        self.validation = validation
        self.digest = digest

    @property
    def examples(self) -> int:
        """Number of training examples, N: an epoch shows each once."""
        return len(self.labels)

    @property
    def input_shape(self) -> tuple[int, ...]:
        """Shape of every input: (H, W, C) or (F,)."""
        return self._inputs.shape[1:]

    @property
    def input_dtype(self) -> np.dtype[Any]:
        """Type of every input: uint8 or float32."""
        return self._inputs.dtype

    def take(self, examples: NDArray[np.int64], epoch: int) -> NDArray[Any]:
        """Return the inputs (B, ...) of some training examples in the variant of an epoch."""
        variant = (examples + epoch) % self.variants
        return self._inputs[variant * self._originals + self.sample[examples]]


ReadShards = Callable[[Sequence[StoredShard]], LabeledInputs]
"""Reads shards as one sequence of examples."""


def open_training_set(
    records: Records,
    augmented: AugmentedRecords,
    bootstrap_seed: int | None,
    read: ReadShards | None = None,
) -> TrainingSet:
    """Read the training split, its augmented copies and the validation split.

    Small images are decoded into arrays if all of them fit in memory. Other images stay in their
    files. These files are mapped into memory, so that the system caches them if it has room. The
    result of the training is the same.

    `read` reads other inputs than images from the shards, such as features.

    Raises:
        PipelineError: a shard is damaged, or differs from its description in `info.json`; or the
            copies are not copies of the training split.
    """
    originals, validation = records.shards("train"), records.shards("validation")
    copies = [shard for shards in augmented.copies for shard in shards]
    read = read or _image_reader([*originals, *copies, *validation], records.info)
    inputs, labels = read([*originals, *copies])
    examples = sum(shard.examples for shard in originals)
    expected = np.tile(labels[:examples], 1 + augmented.info.copies)
    if not np.array_equal(labels, expected):
        raise PipelineError(
            f"{augmented.folder.as_posix()}: expected {augmented.info.copies} copies of the"
            f" {examples} training examples in {records.folder.as_posix()}; found others;"
            " run `dvc repro augment`"
        )
    return TrainingSet(
        inputs,
        labels[:examples],
        read(validation),
        bootstrap_seed=bootstrap_seed,
        digest=_digest(records.info, [originals, copies, validation]),
    )


def is_faster_in_memory(info: RecordsInfo) -> bool:
    """Return whether taking images from an array is much faster than from their files."""
    return math.prod(info.image_shape) < _SMALL_IMAGE_BYTES


def fits_in_memory(size_bytes: int) -> bool:
    """Return whether images of this size may be kept in memory.

    Images may take half of the memory of the machine, or of the container if its limit is lower. If
    the environment variable IMGPIPE_MEMORY_MIB is set, images may take that size instead.

    Raises:
        PipelineError: IMGPIPE_MEMORY_MIB is not a whole number.
    """
    limit_mib = read_whole_number("IMGPIPE_MEMORY_MIB", least=0)
    if limit_mib is not None:
        return size_bytes <= limit_mib << 20
    memory_bytes: int = psutil.virtual_memory().total
    with suppress(OSError, ValueError):  # no such file, or "max": no limit
        memory_bytes = min(memory_bytes, int(_CONTAINER_LIMIT_FILE.read_text()))
    return size_bytes <= memory_bytes // 2


def draw_bootstrap(examples: int, seed: int) -> NDArray[np.int64]:
    """Draw a bootstrap sample, (N,): the indices of N examples, drawn with replacement.

    Source: Breiman (1996), Bagging predictors, doi:10.1007/BF00058655.
    """
    return np.random.default_rng([seed, _BOOTSTRAP_STREAM]).integers(examples, size=examples)


def balance_classes(labels: NDArray[np.int64]) -> dict[int, float]:
    """Return weights that give each class in `labels` the same total, with mean 1 over examples."""
    present, examples = np.unique(labels, return_counts=True)
    weights = len(labels) / (len(present) * examples)
    return dict(zip(present.tolist(), weights.tolist(), strict=True))


def _image_reader(shards: Sequence[StoredShard], info: RecordsInfo) -> ReadShards:
    """Return a reader of images: into arrays if that is faster and all shards fit in memory."""
    size_bytes = sum(shard.examples for shard in shards) * math.prod(info.image_shape)
    in_memory = is_faster_in_memory(info)
    if in_memory and not fits_in_memory(size_bytes):
        report(
            f"train: the images stay in their files: {format_bytes(size_bytes)} would take too much"
            " memory"
        )
        in_memory = False
    return partial(_read, info=info, in_memory=in_memory)


def _read(shards: Sequence[StoredShard], info: RecordsInfo, *, in_memory: bool) -> LabeledInputs:
    """Read shards of several folders as one sequence of examples."""
    count = sum(shard.examples for shard in shards)
    images = np.empty((count, *info.image_shape), dtype=np.uint8) if in_memory else None
    indices, start = [], 0
    for shard in shards:
        end = start + shard.examples
        target = None if images is None else images[start:end]
        # Of millions of images, identities would take gigabytes; training needs none.
        indices.append(replace(shard.index(target), identities=[]))
        start = end
    labels = np.concatenate([index.labels for index in indices])
    return LabeledInputs(StoredImages(indices, info) if images is None else images, labels)


def _digest(info: RecordsInfo, parts: Sequence[Sequence[StoredShard]]) -> str:
    content = [
        info.classes,
        info.image_shape,
        info.normalization.model_dump(),
        [[shard.description.sha256 for shard in part] for part in parts],
    ]
    return hashlib.sha256(json.dumps(content).encode()).hexdigest()
