"""Write randomly transformed copies of the training records."""

from collections.abc import Iterator
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from imgpipe.augmentation.affine import apply_randomly
from imgpipe.parallel.shards import map_shards
from imgpipe.parallel.task import Task
from imgpipe.records.folders import Records
from imgpipe.records.info import (
    FIELDS,
    FORMAT_VERSION,
    AugmentedInfo,
    Shard,
    copy_folder,
    write_info,
)
from imgpipe.records.shards import StoredShard, write_shard
from imgpipe.settings.augment import Augment

_STREAM = 3  # makes these random numbers differ from the numbers of `preprocess`


def write_copies(records: Records, settings: Augment, folder: Path) -> None:
    """Write all copies of the training split, and their description, into an empty folder."""
    shards = records.shards("train")
    copies = range(1, settings.copies + 1)
    for copy in copies:
        (folder / copy_folder(copy)).mkdir()
    tasks = [
        Task((copy, number, shard), f"{copy_folder(copy)}/{shard.path.name}", shard.examples)
        for copy in copies
        for number, shard in enumerate(shards)
    ]
    written = iter(
        map_shards(
            partial(_write_copy_of_shard, settings, folder),
            tasks,
            label="augment",
            in_process_up_to=settings.copies,  # a single shard is little work
        )
    )
    write_info(
        folder,
        AugmentedInfo(
            format_version=FORMAT_VERSION,
            record_fields=FIELDS,
            shards_of_copies=[[next(written) for _ in shards] for _ in copies],
        ),
    )


def _write_copy_of_shard(
    settings: Augment, folder: Path, task: tuple[int, int, StoredShard]
) -> Shard:
    """Write one transformed copy of one training shard; return its description."""
    copy, number, shard = task
    generator = np.random.default_rng([settings.seed, _STREAM, number, copy])

    def examples() -> Iterator[tuple[NDArray[np.uint8], int, str]]:
        for batch in shard.read():
            images = apply_randomly(batch.images, settings, generator)
            yield from zip(images, batch.labels.tolist(), batch.identities, strict=True)

    return write_shard(folder / copy_folder(copy) / shard.path.name, examples())
