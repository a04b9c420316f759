"""The section `augment` of params.yaml."""

from typing import Annotated, Literal

from pydantic import Field, model_validator

from imgpipe.core.schema import Fraction, Section, Seed


class Augment(Section):
    """How augmented copies of the training images are made.

    Names and meaning are the same as in Keras's ImageDataGenerator.
    """

    copies: Annotated[int, Field(ge=0, le=99)]
    rotation_range: Annotated[float, Field(ge=0, le=180)]
    width_shift_range: Fraction
    height_shift_range: Fraction
    zoom_range: Fraction
    horizontal_flip: bool
    vertical_flip: bool
    brightness_range: Annotated[
        list[Annotated[float, Field(ge=0)]], Field(min_length=2, max_length=2)
    ]
    fill_mode: Literal["constant", "nearest", "reflect", "wrap"]
    cval: Annotated[int, Field(ge=0, le=255)]
    seed: Seed

    @model_validator(mode="after")
    def _brightness_is_an_interval(self) -> "Augment":
        low, high = self.brightness_range
        if low > high:
            raise ValueError(
                f"brightness_range: expected [low, high] with low <= high; found {[low, high]}"
            )
        return self
