"""Folders of records and of their augmented copies, each with its description."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from imgpipe.core.errors import PipelineError
from imgpipe.records.info import (
    AugmentedInfo,
    RecordsInfo,
    copy_folder,
    read_augmented_info,
    read_info,
)
from imgpipe.records.shards import RecordBatch, StoredShard
from imgpipe.records.stored_images import StoredImages


@dataclass(frozen=True)
class SplitIndex:
    """The N records of a split, in the order of the shards."""

    labels: NDArray[np.int64]
    """(N,)."""
    identities: list[str]
    images: StoredImages


@dataclass(frozen=True)
class Records:
    """A folder of records."""

    folder: Path
    info: RecordsInfo

    @classmethod
    def open(cls, folder: Path) -> "Records":
        """Read the description of a folder of records, as `read_info` does."""
        return cls(folder, read_info(folder))

    def shards(self, split: str) -> list[StoredShard]:
        """Return the shards of a split, in their order."""
        return [
            StoredShard(self.folder / shard.file, shard, self.info)
            for shard in self.info.splits[split].shards
        ]

    def index(self, split: str) -> SplitIndex:
        """Validate the shards of a split, and return where its records are.

        Raises:
            PipelineError: as `StoredShard.index`.
        """
        shards = [shard.index() for shard in self.shards(split)]
        return SplitIndex(
            np.concatenate([shard.labels for shard in shards]),
            [identity for shard in shards for identity in shard.identities],
            StoredImages(shards, self.info),
        )

    def read(self, split: str) -> Iterator[RecordBatch]:
        """Read all records of a split, in the order of the shards."""
        for shard in self.shards(split):
            yield from shard.read()


@dataclass(frozen=True)
class AugmentedRecords:
    """A folder with the augmented copies of a training split."""

    folder: Path
    info: AugmentedInfo
    originals: Records

    @classmethod
    def open(cls, folder: Path, originals: Records) -> "AugmentedRecords":
        """Read the description of a folder of augmented records.

        Raises:
            PipelineError: as `read_info`; or the copies are of another training split.
        """
        info = read_augmented_info(folder)
        expected = [(shard.file, shard.examples) for shard in originals.info.splits["train"].shards]
        for shards in info.shards_of_copies:
            if [(shard.file, shard.examples) for shard in shards] != expected:
                raise PipelineError(
                    f"{folder.as_posix()}: not copies of the training images in"
                    f" {originals.folder.as_posix()}; run `dvc repro augment`"
                )
        return cls(folder, info, originals)

    @property
    def copies(self) -> list[list[StoredShard]]:
        """For each copy its shards, in the order of the original shards."""
        return [
            [
                StoredShard(
                    self.folder / copy_folder(copy) / shard.file, shard, self.originals.info
                )
                for shard in shards
            ]
            for copy, shards in enumerate(self.info.shards_of_copies, start=1)
        ]
