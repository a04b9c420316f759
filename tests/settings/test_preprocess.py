from typing import Any

import pytest
from support import find_error

from imgpipe.core.schema import check
from imgpipe.settings.image_spec import ImageSpec
from imgpipe.settings.params import Params


def error_of(value: dict[str, Any]) -> str:
    return find_error(check, Params, value, "params.yaml")


@pytest.mark.parametrize(
    ("test_fold", "expected"),
    [("none", None), ("2/5", (2, 5)), ("5/5", (5, 5)), ("1/2", (1, 2)), ("10/10", (10, 10))],
)
def test_test_fold_is_none_or_a_fold_of_several(
    params_value: dict[str, Any], test_fold: str, expected: tuple[int, int] | None
) -> None:
    params_value["preprocess"]["test_fold"] = test_fold
    assert check(Params, params_value, "params.yaml").preprocess.fold_and_folds == expected


@pytest.mark.parametrize(
    "test_fold",
    [
        "0/5",
        "6/5",
        "1/1",
        "1/0",
        "x",
        "2",
        "2/5/5",
        "-1/5",
        "2 / 5",
        "02/5",
        "",
        0,
        2,
        None,
        ["2/5"],
    ],
)
def test_another_test_fold_is_reported(params_value: dict[str, Any], test_fold: Any) -> None:
    params_value["preprocess"]["test_fold"] = test_fold
    assert error_of(params_value) == (
        "params.yaml: preprocess.test_fold: expected none, or a fold and the number of folds, such"
        f" as 2/5 for the second of five; found {test_fold!r}"
    )


@pytest.mark.parametrize("groups", ["none", "column", r"(.*)_\d+\.jpg", r"(?:.*/)?(p\d+)_.*"])
def test_groups_are_none_a_column_or_a_pattern(params_value: dict[str, Any], groups: str) -> None:
    params_value["preprocess"]["groups"] = groups
    assert check(Params, params_value, "params.yaml").preprocess.groups == groups


@pytest.mark.parametrize(
    ("groups", "problem"),
    [
        ("patient", "with one part in parentheses, such as (.+)_\\d+; found 0 in 'patient';"),
        ("(a)(b)", "with one part in parentheses, such as (.+)_\\d+; found 2 in '(a)(b)';"),
        ("(a", "expected a regular expression; found '(a': missing ), unterminated subpattern"),
        ("(a{9999999999})", "found '(a{9999999999})': the repetition number is too large"),
        (None, "expected none, column or a regular expression; found None"),
        (3, "expected none, column or a regular expression; found 3"),
    ],
)
def test_other_groups_are_reported(params_value: dict[str, Any], groups: Any, problem: str) -> None:
    params_value["preprocess"]["groups"] = groups
    message = error_of(params_value)
    assert message.startswith("params.yaml: preprocess.groups: expected")
    assert problem in message


def test_the_image_spec_has_the_values_that_prediction_repeats(
    params_value: dict[str, Any],
) -> None:
    section = params_value["preprocess"] | {"height_px": 30, "width_px": 20, "channels": 3}
    params = check(Params, params_value | {"preprocess": section}, "params.yaml")
    spec = params.preprocess.image_spec
    assert type(spec) is ImageSpec
    assert spec.image_shape == params.preprocess.image_shape == (30, 20, 3)
    assert spec.model_dump() == {key: section[key] for key in ImageSpec.model_fields}
