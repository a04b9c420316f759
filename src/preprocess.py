"""Stage 2, preprocess: convert the fetched files to TFRecord shards of training, validation, test.

Reads   `preprocess` in params.yaml, the dataset's entry in data/catalog.yaml, data/raw
Writes  data/records: shards, and info.json, which describes the shards and the normalization;
        metrics/data.json: images in each split, exact duplicates across splits, the unreadable
        files with the reason, and the files that are not used: number and first names by reason
Costs   one pass over the images, in parallel; memory does not grow with their size. Shards that a
        killed run finished are under .dvc/tmp, and the next run uses them
"""

from contextlib import closing
from pathlib import Path

from imgpipe.console.messages import format_count, report
from imgpipe.core.files import replace_directory, scratch_directory, write_json
from imgpipe.core.paths import DATA_METRICS, RAW, RECORDS
from imgpipe.datasets.catalog import check_manifest, load_entry
from imgpipe.preprocessing.conversion import (
    convert_splits,
    delete_finished_shards,
    find_finished_shards,
)
from imgpipe.preprocessing.description import check_bad_files, describe_records, report_data
from imgpipe.preprocessing.groups import find_groups
from imgpipe.preprocessing.raw_datasets import open_dataset
from imgpipe.preprocessing.splits import choose_splits
from imgpipe.records.info import write_info
from imgpipe.running.stage import StageRun, run_stage

SCRATCH = Path("data/scratch.partial")


def main(run: StageRun) -> None:
    params, settings = run.params, run.params.preprocess
    entry = load_entry(params.dataset)
    check_manifest(entry, RAW)
    finished = find_finished_shards(RAW, entry.format, settings, run.sources)
    with (
        replace_directory(RECORDS) as folder,
        scratch_directory(SCRATCH) as scratch,
        closing(open_dataset(entry, RAW, scratch)) as dataset,
    ):
        groups = find_groups(settings.groups, dataset.groups, dataset.paths, len(dataset.labels))
        indices = choose_splits(
            dataset.labels, dataset.splits, dataset.paths, dataset.classes, settings, groups
        )
        shards = convert_splits(dataset, indices, folder, settings, finished)
        found = report_data(shards, dataset.unused)
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


if __name__ == "__main__":
    run_stage(main, __doc__)
