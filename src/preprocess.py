"""Stage 2, preprocess: convert the fetched files to TFRecord shards of training, validation, test.

Reads   `preprocess` in params.yaml, the dataset's entry in data/catalog.yaml, data/raw
Writes  data/records: shards, and info.json, which describes the shards and the normalization;
        metrics/data.json: images in each split and class, copies and near copies by name, pictures
        with two labels, sizes, formats, and the files that cannot be read or are not used
        data/thumbnails.npz: small pictures of the images that metrics/data.json names as copies
Costs   one pass over the images, in parallel; one more before it, if a value must know the copies
        (`duplicates`, `two_labels`). Memory does not grow with the size of the images. Shards that
        a killed run finished are under .dvc/tmp, and the next run uses them
"""

from contextlib import closing
from pathlib import Path

from imgpipe.console.messages import format_count, report
from imgpipe.core.files import replace_directory, scratch_directory, write_json
from imgpipe.core.paths import DATA_METRICS, RAW, RECORDS, THUMBNAILS
from imgpipe.datasets.catalog import check_manifest, load_entry
from imgpipe.preprocessing.conversion import (
    convert_splits,
    delete_finished_shards,
    find_finished_shards,
)
from imgpipe.preprocessing.copies import find_copies
from imgpipe.preprocessing.copy_policy import divide_images, find_splits, needs_facts
from imgpipe.preprocessing.data_report import check_bad_files, report_data
from imgpipe.preprocessing.description import describe_records
from imgpipe.preprocessing.groups import find_groups
from imgpipe.preprocessing.image_facts import find_facts, join_facts
from imgpipe.preprocessing.raw_datasets import open_dataset
from imgpipe.preprocessing.thumbnails import draw_thumbnails
from imgpipe.records.info import write_info
from imgpipe.records.thumbnail_file import write_thumbnails
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
        facts = find_facts(dataset, settings) if needs_facts(settings) else None
        indices = divide_images(dataset, facts, settings, groups)
        shards = convert_splits(dataset, indices, folder, settings, finished)
        if facts is None:
            facts = join_facts([shard.facts for part in shards.values() for shard in part])
        found = report_data(
            dataset,
            facts,
            find_copies(facts, settings.duplicate_distance),
            find_splits(indices, len(dataset.labels), facts.indices),
        )
        check_bad_files(found.bad_files, len(facts.indices), settings.max_bad_frac)
        write_info(folder, describe_records(params.dataset, dataset.classes, shards, settings))
        thumbnails = draw_thumbnails(dataset, found.shown)
    write_json(DATA_METRICS, found.content)
    write_thumbnails(THUMBNAILS, thumbnails)
    delete_finished_shards(finished)
    height_px, width_px, channels = settings.image_shape
    report(
        f"preprocess: {params.dataset}: {format_count(found.count_images(), 'image')} of"
        f" {height_px} x {width_px} pixels, {format_count(channels, 'channel')},"
        f" {format_count(len(dataset.classes), 'class', 'classes')}",
        *found.describe(),
    )


if __name__ == "__main__":
    run_stage(main, __doc__)
