"""Size, channels and resizing of every image that a network takes."""

from typing import Annotated, Literal

from pydantic import Field

from imgpipe.core.schema import Section


class ImageSpec(Section):
    """How an image file becomes an image of the shape that the network takes.

    Part of `preprocess` in params.yaml, of the records' `info.json` and of the model file, so that
    prediction repeats what preprocessing did.
    """

    height_px: Annotated[int, Field(ge=1, le=4096)]
    width_px: Annotated[int, Field(ge=1, le=4096)]
    channels: Literal[1, 3]
    fit: Literal["stretch", "crop", "pad"]
    interpolation: Literal["nearest", "bilinear", "bicubic", "lanczos"]

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """(H, W, C) of every image."""
        return self.height_px, self.width_px, self.channels
