"""Images, labels and identities as TFRecord shards: the one door between the stages.

A folder of records holds `info.json` (`RecordsInfo`) and, for each split, shards
`<split>-00000-of-00003.tfrecord`. A folder of augmented records holds `info.json`
(`AugmentedInfo`) and, for each copy of the training split, shards of the same names under
`copy-01/`, ...: the n-th record of a copy's shard is the variant of the n-th of the original's.
"""

import math
import mmap
import struct
import zlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal, NamedTuple, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from imgpipe import tfrecord
from imgpipe.errors import PipelineError
from imgpipe.files import read_json, write_json
from imgpipe.normalization import Normalization
from imgpipe.params import Framing, Section, check
from imgpipe.png import decode_png, encode_png

# What one record holds; said in info.json for readers that do not have this code.
FIELDS = {
    "identity": "bytes: UTF-8 text that leads back to the file the image came from",
    "image": "bytes: uint8 pixels, rows from the top, columns from the left, channels last;"
    " or a PNG file of them, where record_encoding is png",
    "label": "int64: index into classes",
}

RecordEncoding = Literal["raw", "png"]

InfoT = TypeVar("InfoT", bound=Section)

_INFO_FILE = "info.json"
_MOST_AT_ONCE = 512
_BYTES_AT_ONCE = 4 << 20  # memory of this size is used again, instead of asked for anew
_MOST_OPEN_FILES = 128
_FRAMING_BYTES = 128  # of a record beside its pixels, with an identity of usual length


class Shard(Section):
    """One TFRecord file."""

    file: str
    examples: int


class SplitInfo(Section):
    """The records of one split."""

    examples: int
    per_class: dict[str, int]
    shards: list[Shard]


class RecordsInfo(Section):
    """Everything a reader needs to know about a folder of records."""

    dataset: str
    classes: list[str]
    framing: Framing
    normalization: Normalization
    record_encoding: RecordEncoding
    record_fields: dict[str, str]
    splits: dict[str, SplitInfo]

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """(H, W, C) of every image."""
        return self.framing.image_shape


class AugmentedInfo(Section):
    """The augmented copies of a training split."""

    copies: int
    record_fields: dict[str, str]
    shards: list[Shard]


@dataclass(frozen=True)
class Examples:
    """Some records: images (N, H, W, C) uint8, labels (N,) int64, and N identities."""

    images: NDArray[np.uint8]
    labels: NDArray[np.int64]
    identities: list[str]


def read_info(folder: Path) -> RecordsInfo:
    """Read the description of a folder of records."""
    return _read_info(RecordsInfo, folder)


def read_augmented_info(folder: Path) -> AugmentedInfo:
    """Read the description of a folder of augmented records."""
    return _read_info(AugmentedInfo, folder)


def _read_info(model: type[InfoT], folder: Path) -> InfoT:
    path = folder / _INFO_FILE
    return check(model, read_json(path), path.as_posix())


def write_info(folder: Path, info: RecordsInfo | AugmentedInfo) -> None:
    """Write the description of a folder of records."""
    write_json(folder / _INFO_FILE, info.model_dump())


def name_shard(split: str, number: int, count: int) -> str:
    """Return the name of the `number`-th of a split's `count` shards, counted from 0."""
    return f"{split}-{number:05d}-of-{count:05d}.tfrecord"


def copy_folder(copy: int) -> str:
    """Return the folder of the `copy`-th augmented copy, counted from 1."""
    return f"copy-{copy:02d}"


def count_shards(examples: int, image_shape: Sequence[int], shard_size_mib: int) -> int:
    """Return into how many shards of at most about `shard_size_mib` the examples go.

    Counted as if their images were not compressed.
    """
    record_bytes = math.prod(image_shape) + _FRAMING_BYTES
    return max(1, math.ceil(examples * record_bytes / (shard_size_mib << 20)))


def write_shard(
    path: Path,
    examples: Iterable[tuple[NDArray[np.uint8], int, str]],
    encoding: RecordEncoding,
) -> None:
    """Write (image, label, identity) triples as one shard, in their order."""
    with path.open("wb") as stream:
        for image, label, identity in examples:
            features: dict[str, bytes | int] = {
                "image": encode_png(image) if encoding == "png" else image.tobytes(),
                "label": label,
                "identity": identity.encode(),
            }
            tfrecord.write_record(stream, tfrecord.encode_example(features))


def read_shard(path: Path, info: RecordsInfo) -> Iterator[Examples]:
    """Read a shard in batches of at most 512 records and 4 MiB, in their order.

    `info` describes the records that the shard belongs to, or of which it holds augmented copies.

    Raises:
        PipelineError: the file is damaged, or a record is not as `FIELDS` says.
    """
    at_once = max(1, min(_MOST_AT_ONCE, _BYTES_AT_ONCE // math.prod(info.image_shape)))
    images = np.empty((at_once, *info.image_shape), dtype=np.uint8)
    labels: list[int] = []
    identities: list[str] = []
    for record in _read(path, info):
        images[len(labels)] = record.image
        labels.append(record.label)
        identities.append(record.identity)
        if len(labels) == at_once:
            yield Examples(images, np.array(labels, dtype=np.int64), identities)
            images, labels, identities = np.empty_like(images), [], []
    if labels:
        yield Examples(images[: len(labels)], np.array(labels, dtype=np.int64), identities)


@dataclass(frozen=True)
class ShardIndex:
    """What is in a shard but its images, and where those are."""

    path: Path
    labels: NDArray[np.int64]
    """(N,)."""
    identities: list[str]
    spans: NDArray[np.int64]
    """(N, 2): where in the file the content of each image begins, and where it ends."""


def index_shard(
    path: Path, info: RecordsInfo, images: NDArray[np.uint8] | None = None
) -> ShardIndex:
    """Read a shard, check all of it, and tell what is where.

    Args:
        path: the shard.
        info: describes the records that it belongs to, or of which it holds augmented copies.
        images: (N, H, W, C), to be filled with the images, of which no more than N are taken.

    Raises:
        PipelineError: the file is damaged, or a record is not as `FIELDS` says.
    """
    labels, identities, spans = [], [], []
    for number, record in enumerate(_read(path, info)):
        labels.append(record.label)
        identities.append(record.identity)
        spans.append(record.span)
        if images is not None and number < len(images):
            images[number] = record.image
    return ShardIndex(
        path,
        np.array(labels, dtype=np.int64),
        identities,
        np.array(spans, dtype=np.int64).reshape(-1, 2),
    )


class _Record(NamedTuple):
    image: NDArray[np.uint8]
    """(H, W, C); of a raw record it is the payload's memory."""
    label: int
    identity: str
    span: tuple[int, int]
    """Where in the file the content of the image begins, and where it ends."""


def _read(path: Path, info: RecordsInfo) -> Iterator[_Record]:
    decoder = tfrecord.ExampleDecoder()
    for number, (start, payload) in enumerate(tfrecord.read_records(path)):
        try:
            example = decoder.decode(payload)
            content, label, identity = example["image"], example["label"], example["identity"]
            if isinstance(content, int) or not isinstance(label, int) or isinstance(identity, int):
                raise ValueError("a field has the wrong type")
            image = _decode_image(content, info)
            first, end = decoder.locate(payload, "image")
            record = _Record(image, label, str(identity, "utf-8"), (start + first, start + end))
        except (KeyError, ValueError, IndexError, struct.error, zlib.error) as error:
            raise PipelineError(
                f"{path.as_posix()}: record {number}: expected {', '.join(FIELDS)} with an image"
                f" of {info.image_shape}; {type(error).__name__}: {error}"
            ) from None
        yield record


def _decode_image(content: memoryview, info: RecordsInfo) -> NDArray[np.uint8]:
    if info.record_encoding == "png":
        return decode_png(content).reshape(info.image_shape)
    return np.frombuffer(content, dtype=np.uint8).reshape(info.image_shape)


class Images(Protocol):
    """N images, (N, H, W, C) uint8, of which some are taken by their numbers.

    An array is one; `StoredImages` is another.
    """

    @property
    def shape(self) -> tuple[int, ...]:
        """(N, H, W, C)."""

    def __getitem__(self, numbers: NDArray[np.integer[Any]], /) -> NDArray[np.uint8]:
        """Return the images of these numbers, (B, H, W, C)."""


class StoredImages:
    """The images of shards that stay in their files, numbered through all of them.

    The files are mapped into memory, so that what the system has room for stays in its cache, and
    taking a raw image is copying it. Each takes 16 bytes of memory beyond that.
    """

    def __init__(self, shards: Sequence[ShardIndex], info: RecordsInfo) -> None:
        """Take them from these shards, which `info` describes."""
        self._paths = [shard.path for shard in shards]
        self._info = info
        self._map = lru_cache(maxsize=_MOST_OPEN_FILES)(_map_file)
        self._ends = np.cumsum([len(shard.spans) for shard in shards])  # of the numbers in each
        self._starts, self._stops = np.concatenate([shard.spans for shard in shards]).T.copy()

    @property
    def shape(self) -> tuple[int, ...]:
        """(N, H, W, C)."""
        return len(self._starts), *self._info.image_shape

    def __getitem__(self, numbers: NDArray[np.integer[Any]], /) -> NDArray[np.uint8]:
        """Return the images of these numbers, (B, H, W, C)."""
        images = np.empty((len(numbers), *self._info.image_shape), dtype=np.uint8)
        contents = (
            self._map(self._paths[file])[start:stop]
            for file, start, stop in zip(
                np.searchsorted(self._ends, numbers, side="right").tolist(),
                self._starts[numbers].tolist(),
                self._stops[numbers].tolist(),
                strict=True,
            )
        )
        if self._info.record_encoding == "png":
            for image, content in zip(images, contents, strict=True):
                image[...] = _decode_image(content, self._info)
        else:  # with no array for each image, which would take as long as copying it
            pixels, size_bytes = images.reshape(-1).data, math.prod(self._info.image_shape)
            for number, content in enumerate(contents):
                pixels[number * size_bytes : (number + 1) * size_bytes] = content
        return images


def _map_file(path: Path) -> memoryview:
    with path.open("rb") as stream:
        return memoryview(mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ))


def read_split(folder: Path, info: RecordsInfo, split: str) -> Iterator[Examples]:
    """Read all records of one split, in the order of the shards."""
    for shard in info.splits[split].shards:
        yield from read_shard(folder / shard.file, info)
