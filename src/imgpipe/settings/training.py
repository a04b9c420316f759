"""The section `training` of params.yaml: all weights of a network, from scratch."""

from typing import Annotated, ClassVar, Literal

from pydantic import Field, model_validator

from imgpipe.core.schema import Count, CountOrZero, Fraction, Section, Seed


class Training(Section):
    """How all weights of a network are trained."""

    removed_keys: ClassVar = {
        "architecture": "write the name of the network in `network`",
        "label_encoding": "both values gave the same loss",
    }

    epochs: Count
    batch_size: Count
    replicas: Count
    optimizer: Literal["adam", "adamw", "rmsprop", "sgd"]
    learning_rate: Annotated[float, Field(gt=0)]
    learning_rate_schedule: Literal["constant", "cosine", "exponential"]
    learning_rate_final_frac: Annotated[float, Field(gt=0, le=1)]
    label_smoothing: Fraction
    class_weights: Literal["none", "balanced"]
    l1_penalty: Annotated[float, Field(ge=0)]
    l2_penalty: Annotated[float, Field(ge=0)]
    random_flip: Literal["none", "horizontal", "vertical", "both"]
    random_rotation_deg: Annotated[float, Field(ge=0, le=180)]
    random_translation_frac: Fraction
    random_zoom_frac: Fraction
    random_contrast_frac: Fraction
    bootstrap: bool
    early_stopping_patience_epochs: CountOrZero
    calibration: Literal["temperature", "none"]
    precision: Literal["float32", "mixed_bfloat16", "mixed_float16"]
    seed: Seed

    @model_validator(mode="after")
    def _several_replicas_do_not_have_float16(self) -> "Training":
        if self.replicas > 1 and self.precision == "mixed_float16":
            # Keras's factor for the loss may then differ between the replicas.
            raise ValueError(
                "precision: mixed_float16 needs training.replicas 1; choose mixed_bfloat16"
            )
        return self
