"""The result for an image file; without TensorFlow, so that other packages can import it."""

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class FilePrediction:
    """The likeliest classes of an image file, or the reason why the file cannot be read."""

    file: str
    """Its path with "/", or an address without passwords."""
    classes: Sequence[tuple[str, float]]
    """Names and probabilities, likeliest first."""
    error: str | None = None
