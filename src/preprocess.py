"""Stage 2, preprocess: convert the fetched files to TFRecord shards of training, validation, test.

Reads   `preprocess` in params.yaml, the dataset's entry in data/catalog.yaml, data/raw
Writes  data/records: shards, and info.json, which describes the shards and the normalization;
        metrics/data.json: images in each split, exact duplicates across splits, and the
        unreadable files with the reason
Costs   one pass over the images, in parallel; memory does not grow with their size. Shards that a
        killed run finished are under .dvc/tmp, and the next run uses them
"""

from contextlib import closing
from pathlib import Path
from typing import Any

from imgpipe.core.files import replace_directory, scratch_directory, write_json
from imgpipe.core.messages import format_count, report
from imgpipe.core.stage import run_stage
from imgpipe.datasets.catalog import load_entry
from imgpipe.preprocessing.conversion import (
    convert_splits,
    delete_finished_shards,
    find_finished_shards,
)
from imgpipe.preprocessing.description import check_bad_files, describe_records, report_data
from imgpipe.preprocessing.raw_datasets import open_dataset
from imgpipe.preprocessing.splits import choose_splits
from imgpipe.records.info import write_info
from imgpipe.settings.params import Params, load_params

RAW = Path("data/raw")
RECORDS = Path("data/records")
SCRATCH = Path("data/scratch.partial")
DATA_METRICS = Path("metrics/data.json")


def main(params: Params) -> None:
    settings = params.preprocess
    entry = load_entry(params.dataset)
    finished = find_finished_shards(RAW, entry.format, settings)
    with (
        replace_directory(RECORDS) as folder,
        scratch_directory(SCRATCH) as scratch,
        closing(open_dataset(entry, RAW, scratch)) as dataset,
    ):
        indices = choose_splits(
            dataset.labels, dataset.splits, dataset.paths, dataset.classes, settings
        )
        shards = convert_splits(dataset, indices, folder, settings, finished)
        found = report_data(shards)
        check_bad_files(found, settings.max_bad_frac)
        write_info(folder, describe_records(params.dataset, dataset.classes, shards, settings))
    write_json(DATA_METRICS, found.to_metrics())
    delete_finished_shards(finished)
    height_px, width_px, channels = settings.image_shape
    report(
        f"preprocess: {params.dataset}: {format_count(sum(found.images.values()), 'image')} of"
        f" {height_px} x {width_px} pixels, {format_count(channels, 'channel')},"
        f" {format_count(len(dataset.classes), 'class', 'classes')}",
        f"  {found}",
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
        libraries=("config", "arrays", "images", "heic", "remote"),
        description=__doc__,
    )
