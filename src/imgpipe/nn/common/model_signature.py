"""The signature of a model, its input and output: a key of `metadata.json` in a model file.

Keras writes this member, and reads it back without loading the network:
`keras.saving.KerasFileEditor(path).metadata`.
"""

from typing import Literal

from imgpipe.core.schema import Section
from imgpipe.records.info import RecordsInfo
from imgpipe.settings.image_spec import ImageSpec

METADATA_FILE, SIGNATURE_KEY = "metadata.json", "imgpipe"
FORMAT_VERSION: Literal[1] = 1
PIXELS: Literal["0 to 255, float32 or uint8"] = "0 to 255, float32 or uint8"


class ModelSignature(Section):
    """The images that a model takes and the classes that it returns: all that prediction needs."""

    format_version: Literal[1]
    dataset: str
    classes: list[str]
    """In the order of the probabilities."""
    pixels: Literal["0 to 255, float32 or uint8"]
    """What to feed: the model does not guess the range, because an image may be dark."""
    image_spec: ImageSpec

    @classmethod
    def of_records(cls, info: RecordsInfo) -> "ModelSignature":
        """Return the signature of a model that was trained on these records."""
        return cls(
            format_version=FORMAT_VERSION,
            dataset=info.dataset,
            classes=info.classes,
            pixels=PIXELS,
            image_spec=info.image_spec,
        )
