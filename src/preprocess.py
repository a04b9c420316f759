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
class ShardContent:
    """What writing a shard has shown: exact sums of its pixels, and a hash of each image."""

    sums: PixelSums
    digests: NDArray[np.bytes_]


def convert_shard(
    source: Source, settings: Preprocess, task: tuple[Path, NDArray[np.int64]]
) -> ShardContent:
    """Write the images of the given indices as one shard."""
    path, indices = task
    shape = (settings.height_px, settings.width_px, settings.channels)
    sums, digests = [], []

    def examples() -> Iterator[tuple[NDArray[np.uint8], int, str]]:
        for index in indices.tolist():
            image = conform(source.read(index), shape, settings.interpolation)
            sums.append(PixelSums.of_image(image))
            digests.append(hashlib.blake2b(image.tobytes(), digest_size=16).digest())
            yield image, int(source.labels[index]), source.identity(index)

    write_shard(path, examples())
    return ShardContent(PixelSums.merge(sums), np.array(digests, dtype="S16"))


def main() -> None:
    params = load_params()
    settings = params.preprocess
    entry = load_entry(params.dataset)
    shape = [settings.height_px, settings.width_px, settings.channels]
    splits: dict[str, SplitInfo] = {}
    contents: dict[str, list[ShardContent]] = {}
    with replace_directory(RECORDS) as folder, scratch_directory(SCRATCH) as scratch:
        source = open_source(entry, RAW, scratch)
        kept = cap_per_class(source.labels, source.splits, settings.max_per_class, settings.seed)
        assigned = assign_splits(source.labels[kept], source.splits[kept], entry.classes, settings)
        for split in SPLITS:
            indices = shuffle_split(kept[assigned == split], split, settings.seed)
            count = count_shards(len(indices), shape, settings.shard_size_mib)
            parts = np.array_split(indices, count)
            names = [name_shard(split, number, count) for number in range(count)]
            contents[split] = map_shards(
                partial(convert_shard, source, settings),
                [(folder / name, part) for name, part in zip(names, parts, strict=True)],
                label=f"preprocess {split}",
            )
            per_class = np.bincount(source.labels[indices], minlength=len(entry.classes)).tolist()
            splits[split] = SplitInfo(
                examples=len(indices),
                per_class=dict(zip(entry.classes, per_class, strict=True)),
                shards=[
                    Shard(file=name, examples=len(part))
                    for name, part in zip(names, parts, strict=True)
                ],
            )
        info = RecordsInfo(
            dataset=params.dataset,
            classes=entry.classes,
            image_shape=shape,
            normalization=fit_normalization(
                settings.normalization, PixelSums.merge(part.sums for part in contents["train"])
            ),
            record_fields=FIELDS,
            splits=splits,
        )
        write_info(folder, info)

    counts = {split: splits[split].examples for split in SPLITS}
    digests = {
        split: np.concatenate([part.digests for part in contents[split]]) for split in SPLITS
    }
    duplicates = {
        f"duplicates_{first}_{second}": int(np.isin(digests[second], digests[first]).sum())
        for first, second in combinations(SPLITS, 2)
    }
    write_json(METRICS, {**counts, "classes": len(entry.classes), **duplicates})
    listing = ", ".join(f"{count} {split}" for split, count in counts.items())
    print(
        f"preprocess: {params.dataset}, {sum(counts.values())} images of"
        f" {' x '.join(map(str, shape))} in {len(entry.classes)} classes: {listing};"
        f" {sum(duplicates.values())} duplicates across splits"
    )


if __name__ == "__main__":
    run_script(main)
