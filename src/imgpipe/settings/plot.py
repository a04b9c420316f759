"""The section `plot` of params.yaml."""

from typing import Annotated

from pydantic import Field

from imgpipe.core.schema import Count, Section


class Plot(Section):
    """What the pictures show."""

    samples_per_class: Count
    mistakes: Count
    dpi: Annotated[int, Field(ge=40, le=400)]
