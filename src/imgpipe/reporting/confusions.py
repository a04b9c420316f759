"""The mistakes of a network by pairs of classes, with pictures and the names of the files."""

import io
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import PurePosixPath
from urllib.parse import quote

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from imgpipe.core.paths import REPORT
from imgpipe.datasets.catalog import Entry, LocalEntry
from imgpipe.reporting.stage_outputs import StageOutputs

MOST_PAIRS = 20
_MOST_IMAGES = 4  # of a pair of classes
_SIDE_PX = 96  # longest side of a picture; the page would become large


@dataclass(frozen=True)
class MistakenImage:
    """A test image, as the model card shows it."""

    png: bytes
    name: str
    """The name of the file."""
    identity: str
    probability: float
    """Of the predicted class."""
    link: str | None
    """The address of the file from the card; None if the file is in an archive."""


@dataclass(frozen=True)
class Confusion:
    """A pair of classes, of which the first is taken for the second."""

    actual: str
    predicted: str
    mistakes: int
    images: int
    """Test images of the actual class."""
    shown: list[MistakenImage]
    """The most confident mistakes."""


def list_confusions(outputs: StageOutputs) -> Iterator[Confusion]:
    """Yield up to `MOST_PAIRS` pairs of classes, the pairs with most mistakes first."""
    predictions = outputs.predictions
    mistakes = predictions.mistakes
    pairs = list(
        zip(
            predictions.labels[mistakes].tolist(),
            predictions.predicted[mistakes].tolist(),
            strict=True,
        )
    )
    images = np.bincount(predictions.labels, minlength=len(predictions.classes))
    for pair, count in sorted(Counter(pairs).items(), key=lambda item: (-item[1], item[0]))[
        :MOST_PAIRS
    ]:
        numbers = [number for number, found in zip(mistakes, pairs, strict=True) if found == pair]
        actual, predicted = pair
        yield Confusion(
            predictions.classes[actual],
            predictions.classes[predicted],
            count,
            int(images[actual]),
            list(_show_images(outputs, np.array(numbers[:_MOST_IMAGES]))),
        )


def _show_images(outputs: StageOutputs, numbers: NDArray[np.int64]) -> Iterator[MistakenImage]:
    predictions = outputs.predictions
    for number, image in zip(numbers.tolist(), outputs.test_images[numbers], strict=True):
        identity = predictions.identities[number]
        yield MistakenImage(
            png=_encode_thumbnail(image),
            name=PurePosixPath(identity).name,
            identity=identity,
            probability=float(predictions.probabilities[number].max()),
            link=_find_link(outputs.entry, identity),
        )


def _encode_thumbnail(image: NDArray[np.uint8]) -> bytes:
    """Return a small PNG of an image (H, W, C)."""
    picture = Image.fromarray(image[..., 0] if image.shape[-1] == 1 else image)
    picture.thumbnail((_SIDE_PX, _SIDE_PX))
    stream = io.BytesIO()
    picture.save(stream, "PNG")
    return stream.getvalue()


def _find_link(entry: Entry, identity: str) -> str | None:
    """Return the address of an image file of the user's own folder, from the model card."""
    if not isinstance(entry, LocalEntry):
        return None
    return "../" * len(REPORT.parent.parts) + quote(identity)
