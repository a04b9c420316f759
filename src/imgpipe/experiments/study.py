"""The file of a study, `studies/NAME.yaml`, and the runs that the file names."""

import copy
import itertools
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, TypeAlias

from pydantic import AfterValidator, Field, StringConstraints, model_validator

from imgpipe.core.errors import PipelineError
from imgpipe.core.schema import Section, check, nearest
from imgpipe.core.yaml_file import flatten
from imgpipe.settings.params import PARAMS_FILE, Params

STUDIES = Path("studies")
_FOLD_KEY, _SEED_KEY = "preprocess.test_fold", "training.seed"

Overrides: TypeAlias = dict[str, Any]
"""Values of params.yaml by dotted key, as `dvc exp run -S` takes them."""


def _check_values(values: list[Any]) -> list[Any]:
    if not values or any(value in values[:number] for number, value in enumerate(values)):
        raise ValueError(f"expected one or more values, each once; found {values}")
    return values


GridValues = Annotated[list[Any], AfterValidator(_check_values)]
VariantName = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]*$")]


class Study(Section):
    """`studies/NAME.yaml`: the runs are every variant with every combination of the grid."""

    summary: Literal["folds", "ensemble", "errors"]
    set: Overrides = Field(default_factory=dict)
    """Values for every run."""
    variants: dict[VariantName, Overrides] = Field(default_factory=dict)
    """Values for every run of a variant."""
    grid: dict[str, GridValues] = Field(default_factory=dict)
    """Values for single runs, by key: each combination of values is a run."""

    @model_validator(mode="after")
    def _each_key_in_one_place(self) -> "Study":
        for place, variant in self.variants.items() or [("", {})]:
            keys = [*self.set, *variant, *self.grid]
            if twice := [key for key in keys if keys.count(key) > 1]:
                where = f"variants.{place}: " if twice[0] in variant else ""
                raise ValueError(f"{where}{twice[0]}: expected in one place; found in two")
        return self

    @model_validator(mode="after")
    def _runs_fit_the_summary(self) -> "Study":
        per_variant = len(list(itertools.product(*self.grid.values())))
        if self.summary == "folds" and (list(self.grid) != [_FOLD_KEY] or self.variants):
            raise ValueError(f"summary: folds needs a grid of {_FOLD_KEY} only, and no variants")
        if self.summary == "errors" and (
            list(self.grid) != [_SEED_KEY] or per_variant < 2 or not self.variants
        ):
            raise ValueError(
                f"summary: errors needs variants, and a grid of {_SEED_KEY} only, with two or more"
                " seeds"
            )
        if per_variant * max(1, len(self.variants)) < 2:
            raise ValueError(f"summary: {self.summary} needs two or more runs")
        return self


@dataclass(frozen=True)
class StudyRun:
    """One run of a study."""

    variant: str | None
    values: tuple[Any, ...]
    """The values of the run from the grid."""
    overrides: Overrides
    params: dict[str, Any]
    """The whole of params.yaml with the overrides."""
    label: str
    """Unique in the study, and valid in the name of an experiment."""


def study_path(name: str) -> Path:
    """Return the file of a study.

    Raises:
        PipelineError: there is no such study.
    """
    path = STUDIES / f"{name}.yaml"
    names = sorted(path.stem for path in STUDIES.glob("*.yaml"))
    if name not in names:
        known = ", ".join(names) or "none; run from the project's top folder"
        raise PipelineError(
            f"{path.as_posix()}: not found{nearest(name, names)}; the studies are: {known}"
        )
    return path


def expand_study(study: Study, where: str, params: Mapping[str, Any]) -> list[StudyRun]:
    """Return the runs of a study, in the order of its file, which `where` names in errors.

    Raises:
        PipelineError: an unknown key, or a value that params.yaml does not allow.
    """
    runs = []
    variants: list[tuple[str | None, Overrides]] = [*study.variants.items()] or [(None, {})]
    combinations = itertools.product(*study.grid.values())
    for (variant, overrides), values in itertools.product(variants, combinations):
        of_grid = dict(zip(study.grid, values, strict=True))
        overrides = {**study.set, **overrides, **of_grid}
        value = apply_overrides(params, overrides, where)
        label = _label_run(variant, of_grid)
        check(Params, value, f"{where}: run {label}")
        runs.append(StudyRun(variant, values, overrides, value, label))
    return runs


def _label_run(variant: str | None, values: Mapping[str, Any]) -> str:
    parts = [variant] if variant else []
    parts += [f"{key.rpartition('.')[2]}-{value}" for key, value in values.items()]
    return re.sub(r"[^A-Za-z0-9_.+]+", "-", "-".join(parts)).strip("-.")


def apply_overrides(params: Mapping[str, Any], overrides: Overrides, where: str) -> dict[str, Any]:
    """Return a copy of params.yaml with other values.

    Raises:
        PipelineError: params.yaml has no such key.
    """
    result = copy.deepcopy(dict(params))
    known = list(flatten(result))
    for key, value in overrides.items():
        if key not in known:
            raise PipelineError(
                f"{where}: {key}: unknown key{nearest(key, known)}; expected a key of"
                f" {PARAMS_FILE.as_posix()}, such as training.seed"
            )
        *sections, last = key.split(".")
        section = result
        for name in sections:
            section = section[name]
        section[last] = value
    return result
