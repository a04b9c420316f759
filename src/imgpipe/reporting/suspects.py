"""The images whose labels are probably wrong, as the model card shows them."""

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from imgpipe.core.paths import LABEL_ISSUES
from imgpipe.records.stored_images import StoredImages
from imgpipe.reporting.named_images import NamedImage
from imgpipe.reporting.stage_outputs import StageOutputs, stale_file

_MOST_IMAGES = 24


def list_suspects(outputs: StageOutputs) -> Iterator[NamedImage]:
    """Yield the images whose labels are least probable, in the order of metrics/label_issues.csv.

    Raises:
        PipelineError: an image of the table is not in the records.
    """
    rows = outputs.label_issues[:_MOST_IMAGES]
    images: dict[tuple[str, str], NDArray[np.uint8]] = {}
    for split in sorted({row.split for row in rows} & set(outputs.info.splits)):
        shards = [shard.index() for shard in outputs.records.shards(split)]
        names = [name for shard in shards for name in shard.identities]
        wanted = {row.file for row in rows if row.split == split}
        numbers = [number for number, name in enumerate(names) if name in wanted]
        found = StoredImages(shards, outputs.info)[np.array(numbers, dtype=np.int64)]
        images |= {(split, names[n]): image for n, image in zip(numbers, found, strict=True)}
    for row in rows:
        if (row.split, row.file) not in images:
            raise stale_file(LABEL_ISSUES)
        note = f"{row.label}, or {row.likeliest} ({row.likeliest_probability:.1%})"
        yield NamedImage.make(outputs.entry, images[row.split, row.file], row.file, note)
