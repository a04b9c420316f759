"""The images whose labels are probably wrong, as the model card shows them."""

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from imgpipe.core.paths import LABEL_ISSUES
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
        index = outputs.records.index(split)
        wanted = {row.file for row in rows if row.split == split}
        numbers = [number for number, name in enumerate(index.identities) if name in wanted]
        found = index.images[np.array(numbers, dtype=np.int64)]
        for number, image in zip(numbers, found, strict=True):
            images[split, index.identities[number]] = image
    for row in rows:
        if (row.split, row.file) not in images:
            raise stale_file(LABEL_ISSUES)
        note = f"{row.label}, or {row.likeliest} ({row.likeliest_probability:.1%})"
        yield NamedImage.make(outputs.entry, images[row.split, row.file], row.file, note)
