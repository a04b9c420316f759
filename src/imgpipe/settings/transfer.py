"""The section `transfer` of params.yaml: a classifier on a pretrained network."""

from typing import Annotated, ClassVar, Literal

from pydantic import Field, model_validator

from imgpipe.core.schema import Count, Fraction, Section, Seed


class Transfer(Section):
    """How the output layer of a pretrained network is fitted; all other weights are fixed."""

    iterations: Count
    batch_size: Count
    l2_penalties: Annotated[list[Annotated[float, Field(gt=0)]], Field(min_length=1)]
    folds: Annotated[int, Field(ge=2)]
    label_smoothing: Fraction
    class_weights: Literal["none", "balanced"]
    bootstrap: bool
    calibration: Literal["temperature", "none"]
    seed: Seed

    precision: ClassVar[str] = "float32"
    """Of the features; no value of params.yaml."""

    @model_validator(mode="after")
    def _penalties_ascend(self) -> "Transfer":
        if self.l2_penalties != sorted(set(self.l2_penalties)):
            raise ValueError(
                f"l2_penalties: expected different values in ascending order; found"
                f" {self.l2_penalties}"
            )
        return self
