"""The section `train` of params.yaml."""

from typing import Annotated, Literal

from pydantic import Field

from imgpipe.core.schema import Count, CountOrZero, Fraction, Section, Seed
from imgpipe.settings.architectures import ArchitectureName


class Train(Section):
    """How the network is trained."""

    architecture: ArchitectureName
    epochs: Count
    batch_size: Count
    replicas: Count
    optimizer: Literal["adam", "adamw", "rmsprop", "sgd", "lbfgs"]
    learning_rate: Annotated[float, Field(gt=0)]
    learning_rate_schedule: Literal["constant", "cosine", "exponential"]
    learning_rate_final_frac: Annotated[float, Field(gt=0, le=1)]
    label_encoding: Literal["sparse", "one_hot"]
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
    precision: Literal["float32", "mixed_bfloat16", "mixed_float16"]
    seed: Seed
