"""Raw images → records: each image is resized and written, or reported as unreadable."""

import hashlib
import os
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ValidationError

from imgpipe.console.messages import report
from imgpipe.core.dvc_tmp import delete_unused, entry_path
from imgpipe.core.errors import PipelineError
from imgpipe.core.files import replace_file
from imgpipe.core.libraries import find_installed
from imgpipe.parallel.cluster import RECORD_LIBRARIES
from imgpipe.parallel.shards import map_shards
from imgpipe.parallel.task import Task
from imgpipe.preprocessing.image_facts import FactCollector, ImageFacts
from imgpipe.preprocessing.raw_datasets import RawDataset
from imgpipe.records.info import Shard, name_shard
from imgpipe.records.normalization import count_pixels
from imgpipe.records.npz_file import open_npz, write_npz
from imgpipe.records.shards import count_shards, write_shard
from imgpipe.settings.preprocess import Preprocess

_KIND = "shards"  # of files under .dvc/tmp


@dataclass(frozen=True)
class ConvertedShard:
    """A written shard, and facts about its images."""

    shard: Shard
    per_class: NDArray[np.int64]
    """(number of classes,), the number of images of each class in the shard."""
    pixel_counts: NDArray[np.int64]
    """(C, 256), see `count_pixels`; zeros if the normalization does not need them."""
    facts: ImageFacts
    """About the readable images of the shard, and about its unreadable files."""


def find_finished_shards(
    raw: Path, raw_format: BaseModel, settings: Preprocess, sources: Mapping[str, str]
) -> Path | None:
    """Return the folder for finished shards of this conversion; None outside a DVC repository.

    DVC deletes outputs before it runs a stage, so finished shards are kept elsewhere.

    The raw files count by their sizes and times of change, the source files by their SHA-256.
    """
    files = {path.name: path.stat() for path in sorted(raw.glob("*"))}
    determined_by = {
        "raw": {name: [found.st_size, found.st_mtime_ns] for name, found in files.items()},
        "format": raw_format.model_dump(),
        "preprocess": settings.model_dump(),
        "sources": dict(sources),
        "libraries": find_installed(RECORD_LIBRARIES),
    }
    return entry_path(_KIND, determined_by)


def delete_finished_shards(finished: Path | None) -> None:
    """Delete the folder of a conversion that is complete, and folders older than 30 days."""
    if finished:
        shutil.rmtree(finished, ignore_errors=True)
    delete_unused(_KIND)


def convert_splits(
    dataset: RawDataset,
    indices_of_split: Mapping[str, NDArray[np.int64]],
    folder: Path,
    settings: Preprocess,
    finished: Path | None = None,
) -> dict[str, list[ConvertedShard]]:
    """Write the images of each split as shards, in the order of the indices.

    An image that cannot be read is left out. The folder `finished`, if any, keeps finished shards
    after an interruption. It is on the disk of the shards, and its name must be a function of the
    raw data, settings and code.

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
    if finished and (count := sum(_facts_path(finished / path.name).exists() for path, _ in tasks)):
        report(f"preprocess: {count:,} of {len(tasks):,} shards are from an interrupted run")
    converted = iter(
        map_shards(
            partial(convert_shard, dataset, settings, finished),
            [Task((path, part), path.name, len(part)) for path, part in tasks],
            label="preprocess",
            in_process_up_to=len(shards_of_split),  # with one shard a split there is little work
        )
    )
    return {
        split: [next(converted) for _ in range(count)] for split, count in shards_of_split.items()
    }


def convert_shard(
    dataset: RawDataset,
    settings: Preprocess,
    finished: Path | None,
    task: tuple[Path, NDArray[np.int64]],
) -> ConvertedShard:
    """Write the images of the given indices as one shard, or take the shard from `finished`."""
    path, indices = task
    if finished is None:
        return _write_shard(dataset, settings, path, indices)
    kept = finished / path.name
    converted = _load_finished(kept)
    if converted is None:
        converted = _write_shard(dataset, settings, kept, indices)
        _save_facts(kept, converted)
    try:
        os.link(kept, path)
    except OSError:  # no hard links here, or another worker has made the link
        with replace_file(path, shared=True) as partial_path:
            shutil.copyfile(kept, partial_path)
    return converted


def _write_shard(
    dataset: RawDataset, settings: Preprocess, path: Path, indices: NDArray[np.int64]
) -> ConvertedShard:
    per_class = np.zeros(len(dataset.classes), dtype=np.int64)
    pixel_counts = np.zeros((settings.channels, 256), dtype=np.int64)
    collector = FactCollector(dataset, settings)

    def convert() -> Iterator[tuple[NDArray[np.uint8], int, str]]:
        for image, label, identity in collector.decode(indices):
            if settings.normalization == "standardize":
                np.add(pixel_counts, count_pixels(image), out=pixel_counts)
            per_class[label] += 1
            yield image, label, identity

    shard = write_shard(path, convert())
    return ConvertedShard(shard, per_class, pixel_counts, collector.collect())


def _facts_path(shard: Path) -> Path:
    """Return the path of the facts about a shard; they are written when the shard is finished."""
    return shard.with_name(f"{shard.name}.npz")


def _save_facts(shard: Path, converted: ConvertedShard) -> None:
    """Write the facts about a finished shard, which `_load_finished` reads."""
    arrays = {
        "description": np.array(converted.shard.model_dump_json()),
        "per_class": converted.per_class,
        "pixel_counts": converted.pixel_counts,
        **converted.facts.to_arrays(),
    }
    write_npz(_facts_path(shard), arrays, shared=True)


def _load_finished(shard: Path) -> ConvertedShard | None:
    """Return the facts about a finished shard, or None if it must be written again."""
    try:
        with open_npz(_facts_path(shard), "facts", "preprocess") as arrays:
            converted = ConvertedShard(
                shard=Shard.model_validate_json(str(arrays["description"])),
                per_class=arrays["per_class"],
                pixel_counts=arrays["pixel_counts"],
                facts=ImageFacts.from_arrays(arrays),
            )
        with shard.open("rb") as stream:
            digest = hashlib.file_digest(stream, "sha256").hexdigest()
    except (PipelineError, OSError, ValidationError):
        return None
    return converted if digest == converted.shard.sha256 else None
