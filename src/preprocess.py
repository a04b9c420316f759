"""Stage 2, preprocess: turn the fetched files into TFRecord shards for train, validation and test.

Reads   `preprocess` in params.yaml, the dataset's entry in data/catalog.yaml, data/raw
Writes  data/records: shards and info.json, which describes them and the normalization;
        metrics/data.json: images in each split, exact duplicates across splits, and the files
        that could not be read, with the reason
Costs   one pass over the images, in parallel; memory does not grow with their size
"""

from contextlib import closing
from pathlib import Path
from typing import Any

from imgpipe.core.files import replace_directory, scratch_directory, write_json
from imgpipe.core.stage import run_stage
from imgpipe.datasets.catalog import load_entry
from imgpipe.preprocessing.conversion import convert_splits
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
    with (
        replace_directory(RECORDS) as folder,
        scratch_directory(SCRATCH) as scratch,
        closing(open_dataset(entry, RAW, scratch)) as dataset,
    ):
        indices = choose_splits(
            dataset.labels, dataset.splits, dataset.paths, dataset.classes, settings
        )
        shards = convert_splits(dataset, indices, folder, settings)
        report = report_data(shards)
        check_bad_files(report, settings.max_bad_frac)
        write_info(folder, describe_records(params.dataset, dataset.classes, shards, settings))
    write_json(DATA_METRICS, report.to_metrics())
    print(
        f"preprocess: {params.dataset}, {sum(report.images.values())} images of"
        f" {' x '.join(map(str, settings.image_shape))} in {len(dataset.classes)} classes: {report}"
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
        libraries=("config", "arrays", "images", "heic"),
        description=__doc__,
    )
