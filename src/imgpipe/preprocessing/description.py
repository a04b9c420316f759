"""Descriptions of the records that `preprocess` wrote: info.json, metrics/data.json, the checks."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any

import numpy as np

from imgpipe.console.messages import format_count
from imgpipe.core.errors import PipelineError
from imgpipe.preprocessing.conversion import ConvertedShard
from imgpipe.preprocessing.image_files import UnusedFiles
from imgpipe.preprocessing.splits import check_splits
from imgpipe.records.info import FIELDS, FORMAT_VERSION, RecordsInfo, SplitInfo
from imgpipe.records.normalization import fit_normalization
from imgpipe.settings.preprocess import Preprocess

_SHOWN_BAD_FILES = 3

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


@dataclass(frozen=True)
class DataReport:
    """Numbers about the images of all splits."""

    images: dict[str, int]
    """The number of images in each split."""
    duplicates: dict[tuple[str, str], int]
    """For each pair of splits: the images of the second one that the first one has, too."""
    bad_files: dict[str, str]
    """For the identity of each image that could not be read, the reason."""
    unused: UnusedFiles
    """The files that are not among the images."""

    def to_metrics(self) -> dict[str, Any]:
        """Return the content of metrics/data.json.

        It has lists, because `dvc metrics` would make a column of each value of a mapping.
        """
        return {
            "duplicate_images": sum(self.duplicates.values()),
            "bad_images": len(self.bad_files),
            "unused_files": self.unused.count(),
            "splits": [{"split": split, "images": count} for split, count in self.images.items()],
            "duplicates": [
                {"splits": pair, "images": count} for pair, count in self.duplicates.items()
            ],
            "bad_files": [
                {"file": name, "reason": reason} for name, reason in sorted(self.bad_files.items())
            ],
            "unused": self.unused.to_metrics(),
        }

    def __str__(self) -> str:
        splits = ", ".join(f"{count:,} {split}" for split, count in self.images.items())
        duplicates = format_count(sum(self.duplicates.values()), "duplicate")
        bad_files = format_count(len(self.bad_files), "unreadable file")
        unused = format_count(self.unused.count(), "other file")
        also = f"; {unused}" if self.unused.count() else ""
        return f"{splits}; {duplicates} across splits; {bad_files}{also}"


def report_data(shards_of_split: ShardsOfSplit, unused: UnusedFiles) -> DataReport:
    """Count images, exact duplicates across splits, and files that could not be read or used."""
    bad_files: dict[str, str] = {}
    for shards in shards_of_split.values():
        for shard in shards:
            bad_files |= shard.bad_files
    return DataReport(
        images={
            split: sum(shard.shard.examples for shard in shards)
            for split, shards in shards_of_split.items()
        },
        duplicates={
            (first, second): count_duplicates(shards_of_split[first], shards_of_split[second])
            for first, second in combinations(shards_of_split, 2)
        },
        bad_files=bad_files,
        unused=unused,
    )


def count_duplicates(first: Sequence[ConvertedShard], second: Sequence[ConvertedShard]) -> int:
    """Return how many images of the second split the first split has, too, pixel for pixel."""
    known = np.concatenate([shard.digests for shard in first])
    known.sort()  # in place: with `np.isin`, an image would take 40 bytes
    if not len(known):
        return 0
    duplicates = 0
    for shard in second:
        places = np.searchsorted(known, shard.digests)
        found = known[np.minimum(places, len(known) - 1)] == shard.digests
        duplicates += int(found.sum())
    return duplicates


def check_bad_files(report: DataReport, max_bad_frac: float) -> None:
    """Check that the share of images that could not be read is at most `max_bad_frac`.

    Raises:
        PipelineError: it is larger; the line names some of the images, each with its reason.
    """
    images = sum(report.images.values()) + len(report.bad_files)
    if len(report.bad_files) <= max_bad_frac * images:
        return
    shown = [f"{identity}: {reason}" for identity, reason in sorted(report.bad_files.items())]
    more = f"; and {len(shown) - _SHOWN_BAD_FILES} more" if len(shown) > _SHOWN_BAD_FILES else ""
    raise PipelineError(
        f"{len(shown)} of {images} images cannot be read, more than the share of"
        f" {max_bad_frac} that preprocess.max_bad_frac allows:"
        f" {'; '.join(shown[:_SHOWN_BAD_FILES])}{more};"
        " repair or delete them, or raise max_bad_frac"
    )
