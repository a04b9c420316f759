"""The mistakes of a network by pairs of classes, with pictures and the names of the files."""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from imgpipe.reporting.named_images import NamedImage
from imgpipe.reporting.stage_outputs import StageOutputs

MOST_PAIRS = 20
_MOST_IMAGES = 4  # of a pair of classes


@dataclass(frozen=True)
class Confusion:
    """A pair of classes, of which the first is taken for the second."""

    actual: str
    predicted: str
    mistakes: int
    images: int
    """Test images of the actual class."""
    shown: list[NamedImage]
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
            [
                NamedImage.make(outputs.entry, image, predictions.identities[number], probability)
                for number, image, probability in _find_most_confident(outputs, numbers)
            ],
        )


def _find_most_confident(
    outputs: StageOutputs, numbers: list[int]
) -> Iterator[tuple[int, NDArray[np.uint8], str]]:
    """Yield number, image (H, W, C) and probability of the first mistakes of a pair."""
    shown = np.array(numbers[:_MOST_IMAGES])
    confidence = outputs.predictions.probabilities[shown].max(axis=1)
    for number, image, probability in zip(
        shown.tolist(), outputs.test_images[shown], confidence.tolist(), strict=True
    ):
        yield number, image, f"{probability:.1%}"
