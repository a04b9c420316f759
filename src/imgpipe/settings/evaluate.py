"""The section `evaluate` of params.yaml."""

from typing import Annotated

from pydantic import Field

from imgpipe.core.schema import Count, Section


class Evaluate(Section):
    """How the trained network is scored."""

    top_k: Annotated[int, Field(ge=2)]
    calibration_bins: Count
