"""Stage 3, augment: write randomly transformed copies of the training records.

Reads   `augment` in params.yaml, the training split in data/records
Writes  data/augmented: for each copy a folder of shards, and info.json
Costs   one pass over the training images for each copy, in parallel; memory does not grow
"""

from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from imgpipe.augmentation import draw_transforms, transform_images
from imgpipe.files import replace_directory
from imgpipe.parallel import map_shards
from imgpipe.params import Augment, Params
from imgpipe.records import (
    FIELDS,
    AugmentedInfo,
    RecordsInfo,
    copy_folder,
    read_info,
    read_shard,
    write_info,
    write_shard,
)
from imgpipe.stage import run_stage

_STREAM = 3  # keeps these random numbers apart from those of `preprocess`


def augment_shard(
    records: Path, folder: Path, info: RecordsInfo, settings: Augment, task: tuple[str, int, int]
) -> None:
    """Write one transformed copy of one training shard."""
    file, number, copy = task
    height_px, width_px, _ = info.image_shape
    generator = np.random.default_rng([settings.seed, _STREAM, number, copy])

    def examples() -> Iterator[tuple[NDArray[np.uint8], int, str]]:
        for batch in read_shard(records / file, info):
            transforms = draw_transforms(
                settings, len(batch.labels), height_px, width_px, generator
            )
            images = transform_images(batch.images, transforms, settings.fill_mode, settings.cval)
            yield from zip(images, batch.labels.tolist(), batch.identities, strict=True)

    write_shard(folder / copy_folder(copy) / file, examples(), info.record_encoding)


def main(
    params: Params,
    *,
    records: Path = Path("data/records"),
    augmented: Path = Path("data/augmented"),
) -> None:
    settings = params.augment
    info = read_info(records)
    train = info.splits["train"]
    copies = range(1, settings.copies + 1)
    with replace_directory(augmented) as folder:
        for copy in copies:
            (folder / copy_folder(copy)).mkdir()
        map_shards(
            partial(augment_shard, records, folder, info, settings),
            [
                (shard.file, number, copy)
                for copy in copies
                for number, shard in enumerate(train.shards)
            ],
            label="augment",
            count_images=lambda task: train.shards[task[1]].examples,
            in_process_up_to=settings.copies,  # a single shard: not much to do
        )
        write_info(
            folder,
            AugmentedInfo(copies=settings.copies, record_fields=FIELDS, shards=train.shards),
        )
    print(f"augment: {settings.copies} copies of {train.examples} training images")


def uses(params: Params) -> dict[str, Any]:
    return {"augment": params.augment}


if __name__ == "__main__":
    run_stage(main, uses, __doc__)
