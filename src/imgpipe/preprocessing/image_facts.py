"""Facts about each image that are found while its pixels are decoded: hashes, size, format."""

import hashlib
import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from functools import partial
from pathlib import PurePosixPath
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from imgpipe.core.errors import UnreadableImageError
from imgpipe.parallel.shards import map_shards
from imgpipe.parallel.task import Task
from imgpipe.preprocessing.decoding import FORMAT_OF_SUFFIX, decode_and_resize, find_shown_size
from imgpipe.preprocessing.image_hash import NO_HASH, can_hash, hash_image
from imgpipe.preprocessing.raw_datasets import RawDataset
from imgpipe.settings.image_spec import ImageSpec

MOST_NAMES = 100
"""Most names of a kind that are stored, so that memory and files stay small."""

_IMAGES_AT_ONCE = 64  # if images are at an address: the number of requests at a time
_IMAGES_OF_A_TASK = 256
_MANY_PICTURES = "MPO"  # a JPEG file with more pictures, as of phones


@dataclass(frozen=True)
class ImageFacts:
    """Facts about M readable images, and about files that cannot be read."""

    indices: NDArray[np.int64]
    """(M,) numbers in the dataset."""
    digests: NDArray[np.uint64]
    """(M,), a hash of the pixels of each image as resized."""
    hashes: NDArray[np.uint64]
    """(M, 2), see `hash_image`; (0, 2) if the resized images are too small for a hash."""
    sizes: NDArray[np.int32]
    """(M, 2), width and height in pixels of each file, as shown."""
    formats: Counter[str]
    """The number of images of each format and mode, such as "JPEG, RGB"."""
    misnamed: Counter[str]
    """The number of files of each format whose names have the ending of another format, or none."""
    misnamed_files: dict[str, str]
    """The format of the first such files, by identity."""
    bad_files: dict[str, str]
    """For the identity of each image that could not be read, the reason."""

    def to_arrays(self) -> dict[str, NDArray[Any]]:
        """Return arrays for a file, which `from_arrays` reads."""
        values = vars(self)
        texts = {name: value for name, value in values.items() if isinstance(value, dict)}
        arrays = {name: value for name, value in values.items() if name not in texts}
        return {**arrays, "texts": np.array(json.dumps(texts))}

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, NDArray[Any]]) -> "ImageFacts":
        """Return the facts that `to_arrays` wrote."""
        values: dict[str, Any] = json.loads(str(arrays["texts"]))
        values |= {name: Counter(values[name]) for name in ("formats", "misnamed")}
        values |= {field.name: arrays[field.name] for field in fields(cls) if field.name in arrays}
        return cls(**values)


def join_facts(parts: Sequence[ImageFacts]) -> ImageFacts:
    """Return the facts about the images of all parts, in the order of the dataset."""
    indices = np.concatenate([part.indices for part in parts])
    order = np.argsort(indices, kind="stable")
    hashes = np.concatenate([part.hashes for part in parts])
    misnamed = sorted(item for part in parts for item in part.misnamed_files.items())
    return ImageFacts(
        indices=indices[order],
        digests=np.concatenate([part.digests for part in parts])[order],
        hashes=hashes[order] if len(hashes) else hashes,
        sizes=np.concatenate([part.sizes for part in parts])[order],
        formats=sum((part.formats for part in parts), Counter()),
        misnamed=sum((part.misnamed for part in parts), Counter()),
        misnamed_files=dict(misnamed[:MOST_NAMES]),
        bad_files=dict(sorted(item for part in parts for item in part.bad_files.items())),
    )


class FactCollector:
    """Decodes images, and collects the facts about them."""

    def __init__(self, dataset: RawDataset, image_spec: ImageSpec) -> None:
        """Begin without images; they will be resized to `image_spec`."""
        self._dataset, self._image_spec = dataset, image_spec
        self._has_hashes = can_hash(image_spec.height_px, image_spec.width_px)
        self._indices: list[int] = []
        self._digests: list[bytes] = []
        self._hashes: list[NDArray[np.uint64]] = []
        self._sizes: list[tuple[int, int]] = []
        self._formats = Counter[str]()
        self._misnamed = Counter[str]()
        self._misnamed_files: dict[str, str] = {}
        self._bad_files: dict[str, str] = {}

    def decode(self, indices: NDArray[np.int64]) -> Iterator[tuple[NDArray[np.uint8], int, str]]:
        """Yield image (H, W, C), label and identity of each readable image of the given numbers."""
        for index, label, identity in prefetch_images(self._dataset, indices):
            try:
                picture = self._dataset.read(index)
                size = picture.size  # a decoder may reduce it
                image = decode_and_resize(picture, self._image_spec)
            except UnreadableImageError as error:
                self._bad_files[identity] = str(error)
                continue
            self._indices.append(index)
            self._digests.append(hashlib.sha256(image.data).digest()[:8])
            if self._has_hashes:
                # An enlarged image does not have more detail.
                self._hashes.append(hash_image(image) if can_hash(*size) else NO_HASH)
            self._sizes.append(find_shown_size(picture, size))
            self._note_format(picture, identity)
            yield image, label, identity

    def _note_format(self, picture: Image.Image, identity: str) -> None:
        if picture.format is None:  # of an array
            self._formats[picture.mode] += 1
            return
        found = "JPEG" if picture.format == _MANY_PICTURES else picture.format
        self._formats[f"{found}, {picture.mode}"] += 1
        if found != FORMAT_OF_SUFFIX.get(PurePosixPath(identity).suffix.lower()):
            self._misnamed[found] += 1
            if len(self._misnamed_files) < MOST_NAMES:
                self._misnamed_files[identity] = found

    def collect(self) -> ImageFacts:
        """Return the facts about all images so far."""
        return ImageFacts(
            indices=np.array(self._indices, dtype=np.int64),
            digests=np.frombuffer(b"".join(self._digests), dtype="<u8"),
            hashes=np.array(self._hashes, dtype=np.uint64).reshape(-1, 2),
            sizes=np.array(self._sizes, dtype=np.int32).reshape(-1, 2),
            formats=self._formats,
            misnamed=self._misnamed,
            misnamed_files=self._misnamed_files,
            bad_files=self._bad_files,
        )


def find_facts(dataset: RawDataset, image_spec: ImageSpec) -> ImageFacts:
    """Decode all images of a dataset, in parallel, and return the facts about them.

    Raises:
        PipelineError: a worker process died.
    """
    indices = np.arange(len(dataset.labels))
    parts = np.array_split(indices, max(1, len(indices) // _IMAGES_OF_A_TASK))
    found = map_shards(
        partial(_find_facts, dataset, image_spec),
        [Task(part, f"images from {part[0]}", len(part)) for part in parts],
        label="looking at images",
    )
    return join_facts(found)


def _find_facts(
    dataset: RawDataset, image_spec: ImageSpec, indices: NDArray[np.int64]
) -> ImageFacts:
    collector = FactCollector(dataset, image_spec)
    for _ in collector.decode(indices):
        pass
    return collector.collect()


def prefetch_images(
    dataset: RawDataset, indices: NDArray[np.int64]
) -> Iterator[tuple[int, int, str]]:
    """Yield index, label and identity of images whose files are there, or on their way."""
    for start in range(0, len(indices), _IMAGES_AT_ONCE):
        some = indices[start : start + _IMAGES_AT_ONCE]
        dataset.prefetch(some)
        labels, identities = dataset.labels[some].tolist(), dataset.identities(some)
        yield from zip(some.tolist(), labels, identities, strict=True)
