"""The section `preprocess` of params.yaml."""

import re
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field

from imgpipe.core.schema import Count, CountOrZero, Fraction, Seed, check_pattern
from imgpipe.settings.image_spec import ImageSpec


def _check_test_fold(value: Any) -> Any:
    if value == "none":
        return value
    matched = re.fullmatch(r"([1-9]\d{0,5})/([1-9]\d{0,5})", str(value), re.ASCII)
    if not matched or int(matched[2]) < max(2, int(matched[1])):
        raise ValueError(
            "expected none, or a fold and the number of folds, such as 2/5 for the second of five;"
            f" found {value!r}"
        )
    return value


def _check_groups(value: Any) -> Any:
    if value in ("none", "column"):
        return value
    if not isinstance(value, str):
        raise ValueError(f"expected none, column or a regular expression; found {value!r}")
    return check_pattern(value)


class Preprocess(ImageSpec):
    """How images become records, and which split each image belongs to."""

    normalization: Literal["rescale", "standardize"]
    validation_frac: Annotated[float, Field(gt=0, lt=1)]
    test_frac: Annotated[float, Field(gt=0, lt=1)]
    test_fold: Annotated[str, BeforeValidator(_check_test_fold)]
    groups: Annotated[str, BeforeValidator(_check_groups)]
    max_per_class: CountOrZero
    duplicates: Literal["keep", "one_split", "drop"]
    duplicate_distance: Annotated[int, Field(ge=0, le=24)]
    two_labels: Literal["keep", "stop", "drop"]
    max_bad_frac: Fraction
    shard_size_mib: Count
    seed: Seed

    @property
    def image_spec(self) -> ImageSpec:
        """The part that prediction repeats."""
        return ImageSpec(**self.model_dump(include=set(ImageSpec.model_fields)))

    @property
    def fold_and_folds(self) -> tuple[int, int] | None:
        """The fold to test on, counted from 1, and the number of folds; None without folds."""
        if self.test_fold == "none":
            return None
        fold, folds = map(int, self.test_fold.split("/"))
        return fold, folds
