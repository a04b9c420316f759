"""Raw images → records: each is brought to one shape and written, or left out as unreadable."""

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from imgpipe.core.errors import UnreadableImageError
from imgpipe.parallel import map_shards
from imgpipe.preprocessing.decoding import decode_and_resize
from imgpipe.preprocessing.raw_datasets import RawDataset
from imgpipe.records.info import Shard, SplitInfo
from imgpipe.records.normalization import count_pixels
from imgpipe.records.shards import count_shards, name_shard, write_shard
from imgpipe.settings.preprocess import Preprocess


@dataclass(frozen=True)
class ShardContent:
    """What writing one shard has shown."""

    shard: Shard
    labels: NDArray[np.int64]
    """Of the images written."""
    digests: NDArray[np.uint64]
    """A hash of each image written."""
    pixel_counts: NDArray[np.int64]
    """(C, 256), see `count_pixels`; zeros where the normalisation does not ask for them."""
    bad_files: dict[str, str]
    """Why an image could not be read, by its identity."""


def convert_splits(
    source: RawDataset,
    indices_of_split: Mapping[str, NDArray[np.int64]],
    folder: Path,
    settings: Preprocess,
) -> dict[str, list[ShardContent]]:
    """Write the images of each split as shards, in the order of the indices.

    An image that cannot be read is left out.
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
    contents = iter(
        map_shards(
            partial(convert_shard, source, settings),
            tasks,
            label="preprocess",
            count_images=lambda task: len(task[1]),
            in_process_up_to=len(shards_of_split),  # a shard a split: not much to do
        )
    )
    return {
        split: [next(contents) for _ in range(count)] for split, count in shards_of_split.items()
    }


def convert_shard(
    source: RawDataset, settings: Preprocess, task: tuple[Path, NDArray[np.int64]]
) -> ShardContent:
    """Write the images of the given indices as one shard."""
    path, indices = task
    labels: list[int] = []
    digests: list[bytes] = []
    pixel_counts = np.zeros((settings.channels, 256), dtype=np.int64)
    bad_files: dict[str, str] = {}

    def examples() -> Iterator[tuple[NDArray[np.uint8], int, str]]:
        labelled = zip(
            indices.tolist(),
            source.identities(indices),
            source.labels[indices].tolist(),
            strict=True,
        )
        for index, identity, label in labelled:
            try:
                image = decode_and_resize(source.read(index), settings)
            except UnreadableImageError as error:
                bad_files[identity] = str(error)
                continue
            if settings.normalization == "standardize":
                np.add(pixel_counts, count_pixels(image), out=pixel_counts)
            labels.append(label)
            digests.append(hashlib.sha256(image.tobytes()).digest()[:8])
            yield image, label, identity

    shard = write_shard(path, examples())
    return ShardContent(
        shard=shard,
        labels=np.array(labels, dtype=np.int64),
        digests=np.frombuffer(b"".join(digests), dtype="<u8"),
        pixel_counts=pixel_counts,
        bad_files=bad_files,
    )


def describe_split(shards: Sequence[ShardContent], classes: Sequence[str]) -> SplitInfo:
    """Return the description of a split from what has been written."""
    per_class = sum(np.bincount(shard.labels, minlength=len(classes)) for shard in shards)
    return SplitInfo(
        examples=int(np.sum(per_class)),
        per_class=dict(zip(classes, np.asarray(per_class).tolist(), strict=True)),
        shards=[content.shard for content in shards],
    )


def count_duplicates(first: Sequence[ShardContent], second: Sequence[ShardContent]) -> int:
    """Return how many images of the second split are, pixel for pixel, in the first one too."""
    digests = [np.concatenate([shard.digests for shard in split]) for split in (first, second)]
    return int(np.isin(digests[1], digests[0]).sum())
