"""The section `networks` of params.yaml: the settings of each network.

To add a network: write its settings here and in recipes/defaults.yaml, and its builder in a module
with the same name in `imgpipe/nn/networks`; docs/choices.md has all steps.
"""

from typing import Annotated, ClassVar, Literal

from pydantic import Field, model_validator

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


class Pretrained(Section):
    """A network trained on ImageNet, without settings; `BACKBONES` describes it."""


class Networks(Section):
    """The settings of each network, by its name in `network`."""

    removed_keys: ClassVar = {
        "pretrained": "choose `method: transfer`; its backbone is now the value of `network`, its"
        " other values are in the section transfer",
    }

    mlp: Mlp
    cnn: Cnn
    resnet: Resnet
    efficientnet_lite0: Pretrained
    efficientnet_lite1: Pretrained
    efficientnet_lite2: Pretrained
