"""Studies of several runs: what their parameters may say, and what their scores come to."""

from collections.abc import Mapping, Sequence
from typing import Annotated, Literal

import numpy as np
from pydantic import AfterValidator, Field

from imgpipe.core.schema import Count, Section, Seed


def _each_once(values: list[int]) -> list[int]:
    if len(set(values)) < len(values):
        raise ValueError(f"expected each number once; found {values}")
    return values


Seeds = Annotated[list[Seed], Field(min_length=2), AfterValidator(_each_once)]


class Bagging(Section):
    """`studies/bagging/params.yaml`."""

    members: Seeds


class CrossValidation(Section):
    """`studies/cross_validation/params.yaml`."""

    folds: Annotated[int, Field(ge=2)]
    run_folds: Annotated[list[Count], Field(min_length=2), AfterValidator(_each_once)]


class Variant(Section):
    """One way to train in `Regularization`."""

    name: str
    training_images: Literal["originals", "augmented"]
    set: str


class Regularization(Section):
    """`studies/regularization/params.yaml`."""

    validation_frac: Annotated[float, Field(gt=0, lt=1)]
    seeds: Seeds
    variants: Annotated[list[Variant], Field(min_length=1)]


# Of one run's scores: how many images, and the interval, are no scores to average.
_NOT_AVERAGED = {"images", "accuracy_low", "accuracy_high"}


def summarize_scores(runs: Sequence[Mapping[str, float]]) -> dict[str, dict[str, float]]:
    """Return mean and standard deviation (n - 1) over two or more runs of every score."""
    summary = {}
    for name in runs[0]:
        if name not in _NOT_AVERAGED:
            values = np.array([run[name] for run in runs])
            summary[name] = {"mean": float(values.mean()), "sd": float(values.std(ddof=1))}
    return summary
