"""The section `architectures` of params.yaml: the settings of each network.

To add a network: write its settings here and in recipes/defaults.yaml, and its builder, under the
same name, in `imgpipe/nn/networks`; docs/choices.md has all steps.
"""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import Field, create_model, model_validator

from imgpipe.core.schema import Count, Fraction, Section
from imgpipe.settings.backbones import BACKBONES

_SMALLEST_IMAGE_PX = 32  # a pretrained network halves the size five times


class Mlp(Section):
    """Dense layers on all pixels, or on each row of pixels."""

    sees: Literal["image", "row"]
    units: list[Count]
    dropout_frac: Fraction


class Cnn(Section):
    """Convolutions with pooling, then dense layers."""

    filters: Annotated[list[Count], Field(min_length=1)]
    kernel_px: Count
    padding: Literal["same", "valid"]
    pool_px: list[Count]
    pool: Literal["max", "average", "min"]
    global_pool: Literal["none", "average", "max"]
    batch_norm: bool
    conv_dropout_frac: Fraction
    dense_units: list[Count]
    dense_dropout_frac: Fraction

    @model_validator(mode="after")
    def _one_pool_for_each_convolution(self) -> "Cnn":
        if len(self.pool_px) != len(self.filters):
            raise ValueError(
                f"pool_px: expected one value for each of the {len(self.filters)} filters;"
                f" found {len(self.pool_px)}: {self.pool_px}"
            )
        return self


class Resnet(Section):
    """Residual blocks of two convolutions with batch normalization."""

    filters: Annotated[list[Count], Field(min_length=1)]
    blocks_per_stage: Count
    dropout_frac: Fraction


class Pretrained(Section):
    """A network trained on ImageNet; only a linear layer on its features is trained here."""

    backbone: Literal[tuple(BACKBONES)]  # type: ignore[valid-type]  # the keys of the registry
    l2_penalties: Annotated[list[Annotated[float, Field(gt=0)]], Field(min_length=1)]
    folds: Annotated[int, Field(ge=2)]

    @model_validator(mode="after")
    def _penalties_ascend(self) -> "Pretrained":
        if self.l2_penalties != sorted(set(self.l2_penalties)):
            raise ValueError(
                f"l2_penalties: expected different values in ascending order; found"
                f" {self.l2_penalties}"
            )
        return self

    def check_other_sections(self, preprocess: Any, train: Any) -> None:
        """Check that no other value of params.yaml asks for something that this network cannot do.

        Args:
            preprocess: the section `preprocess`.
            train: the section `train`.

        Raises:
            ValueError: a value does; the message begins with its dotted key.
        """
        smallest_px = min(preprocess.height_px, preprocess.width_px)
        if smallest_px < _SMALLEST_IMAGE_PX:
            raise ValueError(
                f"preprocess.height_px, width_px: expected at least {_SMALLEST_IMAGE_PX} with"
                f" architecture pretrained; found {smallest_px}; best are"
                f" {BACKBONES[self.backbone].image_px} for {self.backbone}"
            )
        needed = {
            "preprocess.channels": 3,
            "preprocess.normalization": "rescale",
            "train.replicas": 1,
            "train.optimizer": "lbfgs",
            "train.learning_rate": 1.0,
            "train.learning_rate_schedule": "constant",
            "train.l1_penalty": 0.0,
            "train.l2_penalty": 0.0,
            "train.random_flip": "none",
            "train.random_rotation_deg": 0.0,
            "train.random_translation_frac": 0.0,
            "train.random_zoom_frac": 0.0,
            "train.random_contrast_frac": 0.0,
            "train.early_stopping_patience_epochs": 0,
            "train.precision": "float32",
        }
        wrong = []
        for key, value in needed.items():
            section, name = key.split(".")
            found = getattr({"preprocess": preprocess, "train": train}[section], name)
            if found != value:
                wrong.append(f"{key} {value} (found {found})")
        if wrong:
            raise ValueError(
                f"train.architecture: pretrained needs {', '.join(wrong)};"
                " `make recipe NAME=photographs` writes these values"
            )


ARCHITECTURES: dict[str, type[Section]] = {
    "mlp": Mlp,
    "cnn": Cnn,
    "resnet": Resnet,
    "pretrained": Pretrained,
}
"""The settings of each network, by its name in `train.architecture`."""


def build_schemas(architectures: Mapping[str, type[Section]]) -> tuple[Any, type[Section]]:
    """Build the schemas that follow from a registry of architectures.

    Returns:
        the type of an architecture's name, and the schema of the section with the settings of each.
    """
    fields: dict[str, Any] = {name: (schema, ...) for name, schema in architectures.items()}
    section = create_model("Architectures", __base__=Section, **fields)
    section.__doc__ = "The settings of each network, by its name in `train.architecture`."
    return Literal[tuple(architectures)], section


if TYPE_CHECKING:
    ArchitectureName = str
    Architectures = Section
else:
    ArchitectureName, Architectures = build_schemas(ARCHITECTURES)
