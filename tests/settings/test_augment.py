from typing import Any

import pytest
from support import find_error

from imgpipe.core.schema import check
from imgpipe.settings.augment import Augment


@pytest.mark.parametrize(
    ("key", "value", "expected"),
    [
        (
            "brightness_range",
            [1.2, 0.8],
            "brightness_range: expected [low, high] with low <= high; found [1.2, 0.8]",
        ),
        ("brightness_range", [1.0], "brightness_range: expected at least 2 values; found [1.0]"),
        ("rotation_range", 181, "rotation_range: expected a number of at most 180; found 181"),
        ("zoom_range", 1.0, "zoom_range: expected a number less than 1; found 1.0"),
        ("horizontal_flip", "no", "horizontal_flip: expected true or false; found 'no'"),
        (
            "fill_mode",
            "constnt",
            "fill_mode: expected 'constant', 'nearest', 'reflect' or 'wrap'; found 'constnt'"
            " (did you mean 'constant'?)",
        ),
    ],
)
def test_wrong_values_are_reported(
    params_value: dict[str, Any], key: str, value: Any, expected: str
) -> None:
    section = params_value["augment"] | {key: value}
    message = find_error(check, Augment, section, "params.yaml", "augment.")
    assert message == f"params.yaml: augment.{expected}"


def test_equal_ends_of_the_brightness_are_allowed(params_value: dict[str, Any]) -> None:
    value = params_value["augment"] | {"brightness_range": [0.5, 0.5]}
    assert check(Augment, value, "params.yaml").brightness_range == [0.5, 0.5]
