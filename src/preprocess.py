"""Stage 2, preprocess: turn the fetched files into TFRecord shards for train, validation and test.

Reads   `preprocess` in params.yaml, the dataset's entry in data/catalog.yaml, data/raw
Writes  data/records: shards and info.json, which describes them and the normalisation;
        metrics/data.json: images in each split, exact duplicates across splits, and the files
        that could not be read, with the reason
Costs   one pass over the images, in parallel; memory does not grow with their number
"""

from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np

from imgpipe.core.errors import PipelineError
from imgpipe.core.files import replace_directory, scratch_directory, write_json
from imgpipe.core.stage import run_stage
from imgpipe.datasets.catalog import load_entry
from imgpipe.preprocessing.conversion import convert_splits, count_duplicates, describe_split
from imgpipe.preprocessing.raw_datasets import open_dataset
from imgpipe.preprocessing.splits import (
    SPLITS,
    assign_splits,
    cap_per_class,
    check_splits,
    shuffle_split,
)
from imgpipe.records.info import FIELDS, FORMAT_VERSION, RecordsInfo, write_info
from imgpipe.records.normalization import fit_normalization
from imgpipe.settings.params import Params, load_params
from imgpipe.settings.preprocess import Preprocess

RAW = Path("data/raw")
RECORDS = Path("data/records")
DATA_METRICS = Path("metrics/data.json")
_SHOWN_BAD_FILES = 3


def check_bad_files(bad_files: dict[str, str], images: int, settings: Preprocess) -> None:
    """Check that no more images than `max_bad_frac` could not be read."""
    if len(bad_files) <= settings.max_bad_frac * images:
        return
    shown = [f"{identity}: {reason}" for identity, reason in sorted(bad_files.items())]
    more = f"; and {len(shown) - _SHOWN_BAD_FILES} more" if len(shown) > _SHOWN_BAD_FILES else ""
    raise PipelineError(
        f"{len(bad_files)} of {images} images cannot be read, more than the share of"
        f" {settings.max_bad_frac} that preprocess.max_bad_frac allows:"
        f" {'; '.join(shown[:_SHOWN_BAD_FILES])}{more}; mend or remove them, or allow more"
    )


def main(params: Params) -> None:
    settings = params.preprocess
    entry = load_entry(params.dataset)
    scratch_path = RECORDS.with_name("scratch.partial")
    with replace_directory(RECORDS) as folder, scratch_directory(scratch_path) as scratch:
        source = open_dataset(entry, RAW, scratch)
        kept = cap_per_class(source.labels, source.splits, settings.max_per_class, settings.seed)
        assigned = assign_splits(source.labels[kept], source.splits[kept], source.classes, settings)
        indices_of_split = {
            split: shuffle_split(kept[assigned == code], split, settings.seed)
            for code, split in enumerate(SPLITS)
        }
        shards_of_split = convert_splits(source, indices_of_split, folder, settings)
        bad_files = {
            identity: reason
            for shards in shards_of_split.values()
            for shard in shards
            for identity, reason in shard.bad_files.items()
        }
        check_bad_files(bad_files, len(kept), settings)
        infos = {
            split: describe_split(shards, source.classes)
            for split, shards in shards_of_split.items()
        }
        check_splits({split: info.per_class for split, info in infos.items()})
        pixel_counts = np.sum([shard.pixel_counts for shard in shards_of_split["train"]], axis=0)
        info = RecordsInfo(
            format_version=FORMAT_VERSION,
            dataset=params.dataset,
            classes=source.classes,
            image_spec=settings.image_spec,
            normalization=fit_normalization(settings.normalization, pixel_counts),
            record_fields=FIELDS,
            splits=infos,
        )
        write_info(folder, info)

    counts = {split: infos[split].examples for split in SPLITS}
    duplicates = {
        pair: count_duplicates(shards_of_split[pair[0]], shards_of_split[pair[1]])
        for pair in combinations(SPLITS, 2)
    }
    write_json(
        DATA_METRICS,
        {
            "duplicate_images": sum(duplicates.values()),
            "bad_images": len(bad_files),
            # As lists: `dvc metrics` would make a column of each value of a mapping.
            "splits": [{"split": split, "images": images} for split, images in counts.items()],
            "duplicates": [
                {"splits": pair, "images": images} for pair, images in duplicates.items()
            ],
            "bad_files": [
                {"file": name, "reason": reason} for name, reason in sorted(bad_files.items())
            ],
        },
    )
    listing = ", ".join(f"{count} {split}" for split, count in counts.items())
    print(
        f"preprocess: {params.dataset}, {sum(counts.values())} images of"
        f" {' x '.join(map(str, settings.image_shape))} in {len(source.classes)} classes:"
        f" {listing};"
        f" {sum(duplicates.values())} duplicates across splits, {len(bad_files)} bad files"
    )


def uses(params: Params) -> dict[str, Any]:
    return {
        "dataset": params.dataset,
        "preprocess": params.preprocess,
        f"{params.dataset}.format": load_entry(params.dataset).format,
    }


if __name__ == "__main__":
    run_stage(
        main,
        load_params=load_params,
        uses=uses,
        libraries=(
            "config",
            "arrays",
            "images",
        ),
        description=__doc__,
    )
