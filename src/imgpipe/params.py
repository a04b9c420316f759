"""`params.yaml`: what it may say, read as DVC reads it, and checked before any work begins."""

import difflib
import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar, get_args

import pydantic
import yaml
from pydantic import BaseModel, ConfigDict, Field, model_validator

from imgpipe.errors import PipelineError

PARAMS_FILE = Path("params.yaml")

Fraction = Annotated[float, Field(ge=0, lt=1)]
Count = Annotated[int, Field(ge=1)]
CountOrZero = Annotated[int, Field(ge=0)]
Seed = Annotated[int, Field(ge=0, lt=2**31)]


class Section(BaseModel):
    """A mapping in a YAML file: every key is required, no other is known, no type is coerced."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, allow_inf_nan=False)


class Framing(Section):
    """How a picture becomes an image of the one shape that a network takes."""

    height_px: Annotated[int, Field(ge=1, le=4096)]
    width_px: Annotated[int, Field(ge=1, le=4096)]
    channels: Literal[1, 3]
    fit: Literal["stretch", "crop", "pad"]
    interpolation: Literal["nearest", "bilinear", "bicubic", "lanczos"]

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """(H, W, C) of every image."""
        return self.height_px, self.width_px, self.channels


class Preprocess(Framing):
    normalization: Literal["rescale", "standardize"]
    validation_frac: Annotated[float, Field(gt=0, lt=1)]
    test_frac: Annotated[float, Field(gt=0, lt=1)]
    folds: Annotated[int, Field(ge=2)]
    test_fold: CountOrZero
    max_per_class: CountOrZero
    max_bad_frac: Fraction
    record_encoding: Literal["raw", "png"]
    shard_size_mib: Count
    seed: Seed

    @property
    def framing(self) -> Framing:
        """The part of it that prediction repeats."""
        return Framing(**self.model_dump(include=set(Framing.model_fields)))

    @model_validator(mode="after")
    def _test_fold_is_one_of_them(self) -> "Preprocess":
        if self.test_fold > self.folds:
            raise ValueError(
                f"test_fold: expected 0 to {self.folds}, the number of folds;"
                f" found {self.test_fold}"
            )
        return self


class Augment(Section):
    copies: Annotated[int, Field(ge=0, le=99)]
    rotation_range: Annotated[float, Field(ge=0, le=180)]
    width_shift_range: Fraction
    height_shift_range: Fraction
    zoom_range: Fraction
    horizontal_flip: bool
    vertical_flip: bool
    brightness_range: Annotated[
        list[Annotated[float, Field(ge=0)]], Field(min_length=2, max_length=2)
    ]
    fill_mode: Literal["constant", "nearest", "reflect", "wrap"]
    cval: Annotated[int, Field(ge=0, le=255)]
    seed: Seed

    @model_validator(mode="after")
    def _brightness_is_an_interval(self) -> "Augment":
        low, high = self.brightness_range
        if low > high:
            raise ValueError(
                f"brightness_range: expected [low, high] with low <= high; found {[low, high]}"
            )
        return self


class Train(Section):
    architecture: Literal["mlp", "cnn", "resnet"]
    epochs: Count
    batch_size: Count
    optimizer: Literal["adam", "adamw", "rmsprop", "sgd"]
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


class Mlp(Section):
    sees: Literal["image", "row"]
    units: list[Count]
    dropout_frac: Fraction


class Cnn(Section):
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
    filters: Annotated[list[Count], Field(min_length=1)]
    blocks_per_stage: Count
    dropout_frac: Fraction


class Architectures(Section):
    mlp: Mlp
    cnn: Cnn
    resnet: Resnet


class Evaluate(Section):
    top_k: Annotated[int, Field(ge=2)]
    calibration_bins: Count


class Plot(Section):
    samples_per_class: Count
    mistakes: Count
    dpi: Annotated[int, Field(ge=40, le=400)]


class Params(Section):
    """The whole of `params.yaml`; comments there say what each value means."""

    dataset: str
    allow_unpinned: bool
    threads: Count
    preprocess: Preprocess
    augment: Augment
    train: Train
    architectures: Architectures
    evaluate: Evaluate
    plot: Plot

    @property
    def chosen_architecture(self) -> Mlp | Cnn | Resnet:
        """The settings of the network that `train.architecture` names."""
        settings: Mlp | Cnn | Resnet = getattr(self.architectures, self.train.architecture)
        return settings


def load_params(path: Path = PARAMS_FILE, *, changes: Sequence[str] = ()) -> Params:
    """Read and check `params.yaml`.

    Args:
        changes: other values, each "dotted.key=value" with the value as YAML.

    Raises:
        PipelineError: an unknown or missing key, a wrong type, a value out of range or an unknown
            name: one line with file, dotted key, what was expected and what was found.
    """
    values = read_yaml(path)
    for change in changes:
        _set(values, change)
    return check(Params, values, f"{path.as_posix()} with --set" if changes else path.as_posix())


def _set(values: Any, change: str) -> None:
    """Put the value of "dotted.key=value" in its place."""
    key, equals, text = change.partition("=")
    if not equals:
        raise PipelineError(f"--set {change}: expected KEY=VALUE")
    *sections, leaf = key.split(".")
    for name in sections:
        # A section that does not exist is made here, and refused with the others by the schema.
        values = values.setdefault(name, {}) if isinstance(values, dict) else None
    if not isinstance(values, dict):
        raise PipelineError(f"--set {change}: {'.'.join(sections)} is no section")
    values[leaf] = parse_yaml(text, f"--set {change}")


ModelT = TypeVar("ModelT", bound=BaseModel)


def read_whole_number(variable: str, *, least: int) -> int | None:
    """Return the value of an environment variable, or None where it is not set.

    For what changes no output: how many processes, how much memory.

    Raises:
        PipelineError: it is no whole number, or less than `least`.
    """
    setting = os.environ.get(variable)
    if setting is None:
        return None
    if not setting.isdecimal() or int(setting) < least:
        raise PipelineError(
            f"{variable}: expected a whole number of {least} or more; found {setting!r}"
        )
    return int(setting)


def check(model: type[ModelT], value: Any, where: str, prefix: str = "") -> ModelT:
    """Check a value read from a YAML file against its schema.

    `where` names the file in an error, `prefix` is the dotted key that leads to the value there,
    with its closing dot.

    Raises:
        PipelineError: the first thing wrong, in one line.
    """
    if not isinstance(value, dict):
        place = f"{where}: {prefix}".rstrip(".: ")
        raise PipelineError(f"{place}: expected a mapping of keys to values; found {_show(value)}")
    try:
        return model.model_validate(value)
    except pydantic.ValidationError as error:
        problems = error.errors(include_url=False)
        # An unknown key explains a missing one (a misspelling is both), so it goes first.
        problems.sort(key=lambda problem: problem["type"] != "extra_forbidden")
        more = f" (and {len(problems) - 1} more)" if len(problems) > 1 else ""
        raise PipelineError(f"{where}: {prefix}{_describe(problems[0], model)}{more}") from None


def nearest(name: object, choices: list[str]) -> str:
    """Return " (did you mean 'x'?)" for the choice nearest to a misspelt name, or ""."""
    found = difflib.get_close_matches(str(name), choices, n=1, cutoff=0.5)
    return f" (did you mean {found[0]!r}?)" if found else ""


# What was expected, by pydantic's name for the problem.
_EXPECTED = {
    "bool_type": "true or false",
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
            known = _keys_of(model, location[:-1])
            guess = nearest(location[-1], known)
            return f"{key}: unknown key{guess}; known here: {', '.join(known)}"
        case "missing":
            return f"{key}: this key is missing"
        case "literal_error":
            expected = problem["ctx"]["expected"]
            guess = nearest(problem["input"], re.findall("'([^']*)'", expected))
            return f"{key}: expected {expected}; found {found}{guess}"
        case "value_error":
            # From a validator of a whole section, whose message begins with its key.
            return ".".join(filter(None, [key, str(problem["ctx"]["error"])]))
        case kind if kind in _EXPECTED:
            expected = _EXPECTED[kind].format(**problem.get("ctx", {}))
            return f"{key}: expected {expected}; found {found}"
        case _:
            return f"{key}: {problem['msg']}; found {found}"


def _show(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."


def _keys_of(model: Any, location: tuple[str | int, ...]) -> list[str]:
    """Return the keys of the section that a location like ("files", 0) leads to."""
    for part in location:
        model = model.model_fields[part].annotation if isinstance(part, str) else get_args(model)[0]
        if type(None) in get_args(model):  # a section that may be left out
            model = get_args(model)[0]
    return list(model.model_fields)


class _CoreSchemaLoader(yaml.SafeLoader):
    """PyYAML with the scalars of YAML 1.2's core schema, as DVC reads them.

    PyYAML alone follows YAML 1.1, where `1e-3` is a string, `010` is 8 and `no` is false.
    Source: https://yaml.org/spec/1.2.2/#103-core-schema
    """

    yaml_implicit_resolvers: dict[str, Any] = {}  # noqa: RUF012, as PyYAML declares it

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen = set()
        for key_node, _ in node.value:
            key = self.construct_object(key_node, deep=True)
            if key in seen:
                raise yaml.constructor.ConstructorError(
                    None, None, f"the key {key!r} stands twice", key_node.start_mark
                )
            seen.add(key)
        return super().construct_mapping(node, deep)

    def construct_int(self, node: yaml.ScalarNode) -> int:
        text = str(self.construct_scalar(node))
        return int(text, 0) if text.startswith(("0x", "0o")) else int(text, 10)


_FLOAT = (
    r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?"
    r"|[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)"
)
for _tag, _pattern in (  # the first that matches wins
    ("bool", "true|True|TRUE|false|False|FALSE"),
    ("int", "[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+"),
    ("float", _FLOAT),
    ("null", "~|null|Null|NULL|"),
):
    _CoreSchemaLoader.add_implicit_resolver(
        f"tag:yaml.org,2002:{_tag}", re.compile(f"^({_pattern})$"), None
    )
_CoreSchemaLoader.add_constructor("tag:yaml.org,2002:int", _CoreSchemaLoader.construct_int)


def read_yaml(path: Path) -> Any:
    """Read a YAML file by the rules of YAML 1.2's core schema; a key that stands twice is an error.

    Raises:
        PipelineError: the file is missing or is not YAML.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise PipelineError(
            f"{path.as_posix()}: not found; run from the project's top folder"
        ) from None
    except UnicodeDecodeError:
        raise PipelineError(f"{path.as_posix()}: expected UTF-8 text") from None
    return parse_yaml(text, path.as_posix())


def parse_yaml(text: str, where: str) -> Any:
    """Parse YAML as `read_yaml` reads it; `where` names the text in an error."""
    try:
        return yaml.load(text, Loader=_CoreSchemaLoader)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark
        place = f" line {mark.line + 1}, column {mark.column + 1}" if mark else ""
        raise PipelineError(f"{where}:{place}: not valid YAML: {error.problem}") from None
