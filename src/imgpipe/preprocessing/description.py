"""The description of the records that `preprocess` wrote, for info.json."""

from collections.abc import Mapping, Sequence

import numpy as np

from imgpipe.preprocessing.conversion import ConvertedShard
from imgpipe.preprocessing.splits import check_splits
from imgpipe.records.info import FIELDS, FORMAT_VERSION, RecordsInfo, SplitInfo
from imgpipe.records.normalization import fit_normalization
from imgpipe.settings.preprocess import Preprocess

ShardsOfSplit = Mapping[str, Sequence[ConvertedShard]]


def describe_records(
    dataset: str, classes: Sequence[str], shards_of_split: ShardsOfSplit, settings: Preprocess
) -> RecordsInfo:
    """Return the description of the records for `info.json`.

    Raises:
        PipelineError: no readable image of a class is in some split.
    """
    splits = {split: describe_split(shards, classes) for split, shards in shards_of_split.items()}
    check_splits(
        {split: info.per_class for split, info in splits.items()}, counted="readable images"
    )
    pixel_counts = np.sum([shard.pixel_counts for shard in shards_of_split["train"]], axis=0)
    return RecordsInfo(
        format_version=FORMAT_VERSION,
        dataset=dataset,
        classes=list(classes),
        image_spec=settings.image_spec,
        normalization=fit_normalization(settings.normalization, pixel_counts),
        record_fields=FIELDS,
        splits=splits,
    )


def describe_split(shards: Sequence[ConvertedShard], classes: Sequence[str]) -> SplitInfo:
    """Return the description of one split."""
    per_class = np.sum([shard.per_class for shard in shards], axis=0)
    return SplitInfo(
        examples=int(per_class.sum()),
        per_class=dict(zip(classes, per_class.tolist(), strict=True)),
        shards=[content.shard for content in shards],
    )
