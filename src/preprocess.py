"""Stage 2, preprocess: turn the fetched files into TFRecord shards for train, validation and test.

Reads   `preprocess` in params.yaml, the dataset's entry in data/catalog.yaml, data/raw
Writes  data/records: shards and info.json, which describes them and the normalisation;
        metrics/data.json: images in each split, exact duplicates across splits
Costs   one pass over the images, in parallel; memory does not grow with their number
"""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from itertools import combinations
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from imgpipe.catalog import load_entry
from imgpipe.errors import run_script
from imgpipe.files import replace_directory, scratch_directory, write_json
from imgpipe.images import conform
from imgpipe.normalization import PixelSums, fit_normalization
from imgpipe.parallel import map_shards
from imgpipe.params import Preprocess, load_params
from imgpipe.records import (
    FIELDS,
    RecordsInfo,
    Shard,
    SplitInfo,
    count_shards,
    name_shard,
    write_info,
    write_shard,
)
from imgpipe.sources import Source, open_source
from imgpipe.splits import SPLITS, assign_splits, cap_per_class, shuffle_split

RAW = Path("data/raw")
RECORDS = Path("data/records")
METRICS = Path("metrics/data.json")
SCRATCH = Path("data/scratch.partial")


@dataclass(frozen=True)
class Content:
    """What writing a shard or a split has shown: sums of its pixels, and a hash of each image."""

    sums: PixelSums
    digests: NDArray[np.bytes_]


def convert_shard(
    source: Source, settings: Preprocess, task: tuple[Path, NDArray[np.int64]]
) -> Content:
    """Write the images of the given indices as one shard."""
    path, indices = task
    sums, digests = [], []

    def examples() -> Iterator[tuple[NDArray[np.uint8], int, str]]:
        for index in indices.tolist():
            image = conform(source.read(index), settings.image_shape, settings.interpolation)
            sums.append(PixelSums.of_image(image))
            digests.append(hashlib.blake2b(image.tobytes(), digest_size=16).digest())
            yield image, int(source.labels[index]), source.identity(index)

    write_shard(path, examples())
    return Content(PixelSums.merge(sums), np.array(digests, dtype="S16"))


def convert_split(
    folder: Path,
    source: Source,
    split: str,
    indices: NDArray[np.int64],
    classes: list[str],
    settings: Preprocess,
) -> tuple[SplitInfo, Content]:
    """Write the images of one split as shards, in the order of the indices."""
    count = count_shards(len(indices), settings.image_shape, settings.shard_size_mib)
    parts = {
        name_shard(split, number, count): part
        for number, part in enumerate(np.array_split(indices, count))
    }
    contents = map_shards(
        partial(convert_shard, source, settings),
        [(folder / name, part) for name, part in parts.items()],
        label=f"preprocess {split}",
    )
    per_class = np.bincount(source.labels[indices], minlength=len(classes)).tolist()
    info = SplitInfo(
        examples=len(indices),
        per_class=dict(zip(classes, per_class, strict=True)),
        shards=[Shard(file=name, examples=len(part)) for name, part in parts.items()],
    )
    sums = PixelSums.merge(content.sums for content in contents)
    return info, Content(sums, np.concatenate([content.digests for content in contents]))


def main() -> None:
    params = load_params()
    settings = params.preprocess
    entry = load_entry(params.dataset)
    infos: dict[str, SplitInfo] = {}
    contents: dict[str, Content] = {}
    with replace_directory(RECORDS) as folder, scratch_directory(SCRATCH) as scratch:
        source = open_source(entry, RAW, scratch)
        kept = cap_per_class(source.labels, source.splits, settings.max_per_class, settings.seed)
        assigned = assign_splits(source.labels[kept], source.splits[kept], entry.classes, settings)
        for split in SPLITS:
            indices = shuffle_split(kept[assigned == split], split, settings.seed)
            infos[split], contents[split] = convert_split(
                folder, source, split, indices, entry.classes, settings
            )
        info = RecordsInfo(
            dataset=params.dataset,
            classes=entry.classes,
            image_shape=list(settings.image_shape),
            normalization=fit_normalization(settings.normalization, contents["train"].sums),
            record_fields=FIELDS,
            splits=infos,
        )
        write_info(folder, info)

    counts = {split: infos[split].examples for split in SPLITS}
    duplicates = {
        f"duplicates_{first}_{second}": int(
            np.isin(contents[second].digests, contents[first].digests).sum()
        )
        for first, second in combinations(SPLITS, 2)
    }
    write_json(METRICS, {**counts, "classes": len(entry.classes), **duplicates})
    listing = ", ".join(f"{count} {split}" for split, count in counts.items())
    print(
        f"preprocess: {params.dataset}, {sum(counts.values())} images of"
        f" {' x '.join(map(str, settings.image_shape))} in {len(entry.classes)} classes: {listing};"
        f" {sum(duplicates.values())} duplicates across splits"
    )


if __name__ == "__main__":
    run_script(main)
