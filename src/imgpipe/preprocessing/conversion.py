"""Raw images → records: each image is resized and written, or reported as unreadable."""

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from imgpipe.core.errors import UnreadableImageError
from imgpipe.parallel import map_shards
from imgpipe.preprocessing.decoding import decode_and_resize
from imgpipe.preprocessing.raw_datasets import RawDataset
from imgpipe.records.info import Shard
from imgpipe.records.normalization import count_pixels
from imgpipe.records.shards import count_shards, name_shard, write_shard
from imgpipe.settings.preprocess import Preprocess


@dataclass(frozen=True)
class ConvertedShard:
    """A written shard, and facts about its images."""

    shard: Shard
    labels: NDArray[np.int64]
    """(N,), of the images in the shard."""
    digests: NDArray[np.uint64]
    """(N,), a hash of the pixels of each image in the shard."""
    pixel_counts: NDArray[np.int64]
    """(C, 256), see `count_pixels`; zeros if the normalization does not need them."""
    bad_files: dict[str, str]
    """For the identity of each image that could not be read, the reason."""


def convert_splits(
    dataset: RawDataset,
    indices_of_split: Mapping[str, NDArray[np.int64]],
    folder: Path,
    settings: Preprocess,
) -> dict[str, list[ConvertedShard]]:
    """Write the images of each split as shards, in the order of the indices.

    An image that cannot be read is left out.

    Args:
        dataset: the raw images.
        indices_of_split: the indices of the images of each split.
        folder: where the shards go.
        settings: the section `preprocess` of params.yaml.

    Raises:
        PipelineError: a worker process died.
    """
    tasks = []
    shards_of_split = {}
    for split, indices in indices_of_split.items():
        count = count_shards(len(indices), settings.image_shape, settings.shard_size_mib)
        shards_of_split[split] = count
        tasks += [
            (folder / name_shard(split, number, count), part)
            for number, part in enumerate(np.array_split(indices, count))
        ]
    converted = iter(
        map_shards(
            partial(convert_shard, dataset, settings),
            tasks,
            label="preprocess",
            count_images=lambda task: len(task[1]),
            name_shard=lambda task: task[0].name,
            in_process_up_to=len(shards_of_split),  # with one shard a split there is little work
        )
    )
    return {
        split: [next(converted) for _ in range(count)] for split, count in shards_of_split.items()
    }


def convert_shard(
    dataset: RawDataset, settings: Preprocess, task: tuple[Path, NDArray[np.int64]]
) -> ConvertedShard:
    """Write the images of the given indices as one shard."""
    path, indices = task
    conversion = _Conversion(dataset, settings)
    shard = write_shard(path, conversion.convert(indices))
    return conversion.describe(shard)


class _Conversion:
    """The conversion of the images of one shard, one after another, and their counts."""

    def __init__(self, dataset: RawDataset, settings: Preprocess) -> None:
        self._dataset = dataset
        self._settings = settings
        self._labels: list[int] = []
        self._digests: list[bytes] = []
        self._pixel_counts = np.zeros((settings.channels, 256), dtype=np.int64)
        self._bad_files: dict[str, str] = {}

    def convert(self, indices: NDArray[np.int64]) -> Iterator[tuple[NDArray[np.uint8], int, str]]:
        """Yield image, label and identity of each image that can be read."""
        labels = self._dataset.labels[indices].tolist()
        identities = self._dataset.identities(indices)
        for index, label, identity in zip(indices.tolist(), labels, identities, strict=True):
            try:
                image = decode_and_resize(self._dataset.read(index), self._settings)
            except UnreadableImageError as error:
                self._bad_files[identity] = str(error)
            else:
                self._count(image, label)
                yield image, label, identity

    def _count(self, image: NDArray[np.uint8], label: int) -> None:
        if self._settings.normalization == "standardize":
            self._pixel_counts += count_pixels(image)
        self._labels.append(label)
        self._digests.append(hashlib.sha256(image.tobytes()).digest()[:8])

    def describe(self, shard: Shard) -> ConvertedShard:
        """Return the shard with the facts about the images that `convert` yielded."""
        return ConvertedShard(
            shard=shard,
            labels=np.array(self._labels, dtype=np.int64),
            digests=np.frombuffer(b"".join(self._digests), dtype="<u8"),
            pixel_counts=self._pixel_counts,
            bad_files=self._bad_files,
        )
