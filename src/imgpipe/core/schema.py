"""Schemas of YAML and JSON files, and one-line errors about values that break a schema."""

import difflib
import re
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, ClassVar, TypeVar, get_args

import pydantic
from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from imgpipe.core.errors import PipelineError

Fraction = Annotated[float, Field(ge=0, lt=1)]
Count = Annotated[int, Field(ge=1)]
CountOrZero = Annotated[int, Field(ge=0)]
Seed = Annotated[int, Field(ge=0, lt=1 << 31)]


def check_pattern(value: str) -> str:
    """Return a regular expression; check that it has one group, the part of a name that counts.

    Raises:
        ValueError: it has none or several, or is not a regular expression.
    """
    try:
        groups = re.compile(value).groups
    except (re.error, OverflowError, RecursionError) as error:
        raise ValueError(f"expected a regular expression; found {value!r}: {error}") from None
    if groups != 1:
        raise ValueError(
            f"expected a regular expression with one part in parentheses, such as (.+)_\\d+; found"
            f" {groups} in {value!r}; (?: begins a part that does not count"
        )
    return value


Pattern = Annotated[str, AfterValidator(check_pattern)]


class Section(BaseModel):
    """A mapping in a file: every key is required, no other is known, no type is converted."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, allow_inf_nan=False)

    removed_keys: ClassVar[Mapping[str, str]] = {}
    """For each key of an older version: the key or value to write instead."""


ModelT = TypeVar("ModelT", bound=BaseModel)


def check(model: type[ModelT], value: Any, where: str, prefix: str = "") -> ModelT:
    """Check a value from a file against its schema.

    In an error, `where` names the file, and `prefix` is the dotted key of the value in the file,
    with its closing dot.

    Raises:
        PipelineError: the first problem, in one line.
    """
    if not isinstance(value, dict):
        place = f"{where}: {prefix}".rstrip(".: ")
        raise PipelineError(f"{place}: expected a mapping of keys to values; found {_show(value)}")
    try:
        return model.model_validate(value)
    except pydantic.ValidationError as error:
        problems = error.errors(include_url=False)
        # A misspelled key is both unknown and missing: report it as unknown.
        problems.sort(key=lambda problem: problem["type"] != "extra_forbidden")
        more = f" (and {len(problems) - 1} more)" if len(problems) > 1 else ""
        raise PipelineError(f"{where}: {prefix}{_describe(problems[0], model)}{more}") from None


def check_version(value: Any, version: int, where: str) -> None:
    """Check the `format_version` in a file before its other keys, which another version may change.

    Raises:
        PipelineError: the version is missing or another one.
    """
    if isinstance(value, dict) and value.get("format_version") != version:
        raise PipelineError(
            f"{where}: format_version: expected {version}; found {value.get('format_version')!r};"
            " update imgpipe, or run `dvc repro`"
        )


def nearest(name: object, choices: Sequence[str]) -> str:
    """Return " (did you mean 'x'?)" with the choice nearest to a misspelled name, or ""."""
    found = difflib.get_close_matches(str(name), choices, n=1, cutoff=0.5)
    return f" (did you mean {found[0]!r}?)" if found else ""


# What a value must be, by pydantic's name of the problem.
_EXPECTED = {
    "bool_type": "true or false",
    "dict_type": "a mapping of keys to values",
    "finite_number": "a finite number",
    "float_type": "a number",
    "greater_than": "a number greater than {gt:g}",
    "greater_than_equal": "a number of at least {ge:g}",
    "int_type": "a whole number",
    "less_than": "a number less than {lt:g}",
    "less_than_equal": "a number of at most {le:g}",
    "list_type": "a list",
    "model_type": "a mapping of keys to values",
    "string_pattern_mismatch": "text of the form {pattern}",
    "string_type": "text in quotes",
    "too_long": "at most {max_length} values",
    "too_short": "at least {min_length} values",
}


def _describe(problem: Any, model: type[BaseModel]) -> str:
    location = problem["loc"]
    key = ".".join(str(part) for part in location)
    found = _show(problem["input"])
    match problem["type"]:
        case "extra_forbidden":
            section = _section_at(model, location[:-1])
            if replacement := getattr(section, "removed_keys", {}).get(location[-1]):
                return f"{key}: this key was removed; {replacement}"
            known = list(section.model_fields)
            guess = nearest(location[-1], known)
            return f"{key}: unknown key{guess}; known here: {', '.join(known)}"
        case "missing":
            return f"{key}: this key is missing"
        case "literal_error":
            expected = problem["ctx"]["expected"]
            guess = nearest(problem["input"], re.findall("'([^']*)'", expected))
            return f"{key}: expected {expected}; found {found}{guess}"
        case "value_error":
            message = str(problem["ctx"]["error"])
            # The validator of a whole section begins its message with the key in that section.
            separator = "." if isinstance(problem["input"], dict) else ": "
            return separator.join(filter(None, [key, message]))
        case kind if kind in _EXPECTED:
            expected = _EXPECTED[kind].format(**problem.get("ctx", {}))
            return f"{key}: expected {expected}; found {found}"
        case _:
            return f"{key}: {problem['msg']}; found {found}"


def _show(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."


def _section_at(model: Any, location: tuple[str | int, ...]) -> type[BaseModel]:
    """Return the schema of the section at a location such as ("files", 0)."""
    for part in location:
        model = model.model_fields[part].annotation if isinstance(part, str) else get_args(model)[0]
        if type(None) in get_args(model):  # an optional section
            model = get_args(model)[0]
    section: type[BaseModel] = model
    return section
