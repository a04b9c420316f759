"""The section `architectures` of params.yaml: the settings of each network.

To add a network: write its settings here and in recipes/defaults.yaml, and its builder, under the
same name, in `imgpipe/nn/training/architectures`; docs/choices.md has all steps.
"""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import Field, create_model, model_validator

from imgpipe.core.schema import Count, Fraction, Section


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


ARCHITECTURES: dict[str, type[Section]] = {"mlp": Mlp, "cnn": Cnn, "resnet": Resnet}
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
