"""The mistakes of a network by pairs of classes, with pictures and the names of the files."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

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
    predictions, classes = outputs.predictions, outputs.predictions.classes
    mistakes, confidence = predictions.mistakes, predictions.probabilities.max(axis=1)
    images = np.bincount(predictions.labels, minlength=len(classes))
    pairs = predictions.labels[mistakes] * len(classes) + predictions.predicted[mistakes]
    found, counts = np.unique(pairs, return_counts=True)
    for place in np.argsort(-counts, kind="stable")[:MOST_PAIRS]:
        actual, predicted = divmod(int(found[place]), len(classes))
        shown = mistakes[pairs == found[place]][:_MOST_IMAGES]
        yield Confusion(
            classes[actual],
            classes[predicted],
            int(counts[place]),
            int(images[actual]),
            [
                NamedImage.make(
                    outputs.entry,
                    image,
                    predictions.identities[number],
                    f"{confidence[number]:.1%}",
                )
                for number, image in zip(shown, outputs.test_images[shown], strict=True)
            ],
        )
