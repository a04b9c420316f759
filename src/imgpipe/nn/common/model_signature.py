"""The signature of a model, its input and output: the member `imgpipe.json` of a model file."""

from typing import Literal

from imgpipe.core.schema import Section
from imgpipe.records.info import RecordsInfo
from imgpipe.settings.image_spec import ImageSpec

SIGNATURE_FILE = "imgpipe.json"
FORMAT_VERSION: Literal[1] = 1


class ModelSignature(Section):
    """The images that a model takes and the classes that it returns: all that prediction needs."""

    format_version: Literal[1]
    dataset: str
    classes: list[str]
    """In the order of the probabilities."""
    image_spec: ImageSpec

    @classmethod
    def of_records(cls, info: RecordsInfo) -> "ModelSignature":
        """Return the signature of a model that was trained on these records."""
        return cls(
            format_version=FORMAT_VERSION,
            dataset=info.dataset,
            classes=info.classes,
            image_spec=info.image_spec,
        )
