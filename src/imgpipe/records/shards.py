"""Write and read shards: TFRecord files of images, labels and identities."""

import hashlib
import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from imgpipe.core.errors import PipelineError
from imgpipe.core.files import replace_file
from imgpipe.records import tfrecord
from imgpipe.records.info import FIELDS, RecordsInfo, Shard

_LARGEST_BATCH = 512
_BATCH_BYTES = 4 << 20  # for larger arrays the system gives new memory each time, which is slow
_RECORD_OVERHEAD_BYTES = 128  # label, framing, checksums and an identity of usual length


@dataclass(frozen=True)
class RecordBatch:
    """Some records: images (N, H, W, C) uint8, labels (N,) int64, and N identities."""

    images: NDArray[np.uint8]
    labels: NDArray[np.int64]
    identities: list[str]


def count_shards(examples: int, image_shape: Sequence[int], shard_size_mib: int) -> int:
    """Return the number of shards of at most about `shard_size_mib` that hold the examples."""
    record_bytes = math.prod(image_shape) + _RECORD_OVERHEAD_BYTES
    return max(1, math.ceil(examples * record_bytes / (shard_size_mib << 20)))


def write_shard(path: Path, examples: Iterable[tuple[NDArray[np.uint8], int, str]]) -> Shard:
    """Write (image, label, identity) triples as one shard, in their order.

    Returns:
        the description of the shard for `info.json`.
    """
    digest, count = hashlib.sha256(), 0
    # A slow worker of a cluster may still write after the scheduler gave the shard to another one.
    with replace_file(path, shared=True) as partial, partial.open("wb") as stream:
        for image, label, identity in examples:
            payload = tfrecord.encode_example(
                {"image": image.reshape(-1).data, "label": label, "identity": identity.encode()}
            )
            for part in tfrecord.frame_record(payload):
                stream.write(part)
                digest.update(part)
            count += 1
    return Shard(file=path.name, examples=count, sha256=digest.hexdigest())


@dataclass(frozen=True)
class ShardIndex:
    """Labels and identities of a shard, and where its images are in the file."""

    path: Path
    labels: NDArray[np.int64]
    """(N,)."""
    identities: list[str]
    image_ranges: NDArray[np.int64]
    """(N, 2): first byte of each image in the file, and the byte after its last."""


@dataclass(frozen=True)
class StoredShard:
    """A shard in a folder."""

    path: Path
    description: Shard
    """From `info.json`."""
    info: RecordsInfo
    """Describes the records, or the records that the shard holds augmented copies of."""

    @property
    def examples(self) -> int:
        """The number of records."""
        return self.description.examples

    def read(self) -> Iterator[RecordBatch]:
        """Read the shard in batches of at most 512 records and 4 MiB, in their order.

        Raises:
            PipelineError: the file is missing, damaged, cut, or differs from its description, or a
                record does not have the fields of `FIELDS`. Batches before the damage may have
                been yielded.
        """
        image_shape = self.info.image_shape
        batch_size = max(1, min(_LARGEST_BATCH, _BATCH_BYTES // math.prod(image_shape)))
        images = np.empty((batch_size, *image_shape), dtype=np.uint8)
        labels: list[int] = []
        identities: list[str] = []
        for record in _read(self):
            images[len(labels)] = record.image
            labels.append(record.label)
            identities.append(record.identity)
            if len(labels) == batch_size:
                yield RecordBatch(images, np.array(labels, dtype=np.int64), identities)
                images, labels, identities = np.empty_like(images), [], []
        if labels:
            yield RecordBatch(images[: len(labels)], np.array(labels, dtype=np.int64), identities)

    def index(self, images: NDArray[np.uint8] | None = None) -> ShardIndex:
        """Validate the shard; return its labels, identities and image byte ranges.

        If given, `images` (N, H, W, C) is filled with the images.

        Raises:
            PipelineError: as `read`.
        """
        labels, identities, image_ranges = [], [], []
        for number, record in enumerate(_read(self)):
            labels.append(record.label)
            identities.append(record.identity)
            image_ranges.append(record.image_range)
            if images is not None and number < len(images):
                images[number] = record.image
        return ShardIndex(
            self.path,
            np.array(labels, dtype=np.int64),
            identities,
            np.array(image_ranges, dtype=np.int64).reshape(-1, 2),
        )


class _Record(NamedTuple):
    image: NDArray[np.uint8]
    """(H, W, C), a view of the payload."""
    label: int
    identity: str
    image_range: tuple[int, int]


def _read(stored: StoredShard) -> Iterator[_Record]:
    """Yield the records of a shard; check its number of records and its hash at the end."""
    path, shard, info = stored.path, stored.description, stored.info
    decoder = tfrecord.ExampleDecoder()
    digest, count = hashlib.sha256(), 0
    for start, payload in tfrecord.read_records(path, digest.update):
        try:
            example, image_range = decoder.decode(payload, "image")
            content, label, identity = example["image"], example["label"], example["identity"]
            if isinstance(content, int) or not isinstance(label, int) or isinstance(identity, int):
                raise ValueError("a field has the wrong type")
            if label >= len(info.classes):  # a negative label is decoded as a large one
                raise ValueError(f"label {label} of {len(info.classes)} classes")
            record = _Record(
                np.frombuffer(content, dtype=np.uint8).reshape(info.image_shape),
                label,
                str(identity, "utf-8"),
                (start + image_range[0], start + image_range[1]),
            )
        except (KeyError, ValueError, IndexError) as error:
            raise PipelineError(
                f"{path.as_posix()}: record {count}: expected {', '.join(FIELDS)} with an image"
                f" of {info.image_shape}; {type(error).__name__}: {error}"
            ) from None
        count += 1
        yield record
    if count != shard.examples:
        raise PipelineError(
            f"{path.as_posix()}: expected {shard.examples} records, as info.json says; found"
            f" {count}; run `dvc repro`"
        )
    if shard.sha256 != digest.hexdigest():
        raise PipelineError(
            f"{path.as_posix()}: expected SHA-256 {shard.sha256}, as info.json says; found"
            f" {digest.hexdigest()}; run `dvc repro`"
        )
