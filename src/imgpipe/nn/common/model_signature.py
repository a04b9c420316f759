"""The model as a file: a `.keras` archive with stable bytes that says what it takes; its layers."""

from imgpipe.core.schema import Section
from imgpipe.settings.image_spec import ImageSpec

SIGNATURE_FILE = "imgpipe.json"


class ModelSignature(Section):
    """What a model takes, and what its answers mean: all that prediction needs beside it."""

    dataset: str
    classes: list[str]
    """In the order of the probabilities."""
    image_spec: ImageSpec
