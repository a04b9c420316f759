from typing import Annotated, Any, ClassVar, Literal

import pytest
from pydantic import Field, model_validator
from support import find_error

from imgpipe.core.schema import Count, Fraction, Section, Seed, check, nearest


class Part(Section):
    count: Count
    share: Fraction
    numbers: Annotated[list[int], Field(min_length=1, max_length=2)]

    @model_validator(mode="after")
    def _count_is_not_13(self) -> "Part":
        if self.count == 13:
            raise ValueError("count: expected another number; found 13")
        return self


class Whole(Section):
    removed_keys: ClassVar = {"old": "write kind instead"}

    name: Annotated[str, Field(pattern="^[a-z]+$")]
    kind: Literal["fast", "slow"]
    seed: Seed
    parts: list[Part]
    optional: Part | None


PART = {"count": 1, "share": 0.5, "numbers": [1]}
WHOLE = {"name": "x", "kind": "fast", "seed": 1, "parts": [PART], "optional": PART}


def error_of(value: Any, prefix: str = "") -> str:
    return find_error(check, Whole, value, "file.yaml", prefix)


def test_a_correct_value_is_returned_and_cannot_be_changed() -> None:
    found = check(Whole, WHOLE, "file.yaml")
    assert found.model_dump() == WHOLE
    with pytest.raises(ValueError, match="frozen"):
        found.name = "y"


def test_a_whole_number_is_accepted_for_a_fractional_one() -> None:
    found = check(Whole, WHOLE | {"parts": [PART | {"share": 0}]}, "file.yaml")
    assert type(found.parts[0].share) is float


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"kin": 1}, "kin: unknown key (did you mean 'kind'?); known here: name, kind, seed,"),
        ({"old": 1}, "old: this key was removed; write kind instead"),
        ({"kind": "fsat"}, "kind: expected 'fast' or 'slow'; found 'fsat' (did you mean 'fast'?)"),
        ({"name": 3}, "name: expected text in quotes; found 3"),
        ({"name": "X"}, "name: expected text of the form ^[a-z]+$; found 'X'"),
        ({"seed": -1}, "seed: expected a number of at least 0; found -1"),
        ({"seed": 2**31}, "seed: expected a number less than 2.14748e+09; found 2147483648"),
        ({"seed": True}, "seed: expected a whole number; found True"),
        ({"seed": 1.0}, "seed: expected a whole number; found 1.0"),
        ({"parts": 3}, "parts: expected a list; found 3"),
        ({"parts": [3]}, "parts.0: expected a mapping of keys to values; found 3"),
        ({"parts": [PART, PART | {"sahre": 1}]},
         "parts.1.sahre: unknown key (did you mean 'share'?); known here: count, share, numbers"),
        ({1: 2}, "1: Keys should be strings; found 1"),
    ],
)  # fmt: skip
def test_errors_name_key_expectation_and_value(change: dict[Any, Any], expected: str) -> None:
    assert error_of({**WHOLE, **change}).startswith(f"file.yaml: {expected}")


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"share": "x"}, "share: expected a number; found 'x'"),
        ({"share": float("nan")}, "share: expected a finite number; found nan"),
        ({"numbers": []}, "numbers: expected at least 1 values"),
        ({"numbers": [1, 2, 3]}, "numbers: expected at most 2 values"),
        ({"sahre": 1}, "sahre: unknown key (did you mean 'share'?); known here: count, share,"),
        ({"count": 13}, "count: expected another number; found 13"),
    ],
)
def test_errors_in_a_part_name_its_place(change: dict[str, Any], expected: str) -> None:
    part = PART | change
    assert error_of(WHOLE | {"parts": [part]}).startswith(f"file.yaml: parts.0.{expected}")
    assert error_of(WHOLE | {"optional": part}).startswith(f"file.yaml: optional.{expected}")


def test_a_missing_key_is_reported() -> None:
    value = {key: item for key, item in WHOLE.items() if key != "kind"}
    assert error_of(value) == "file.yaml: kind: this key is missing"


def test_a_misspelled_key_is_reported_before_the_key_that_is_missing_for_it() -> None:
    value = {key: item for key, item in WHOLE.items() if key != "kind"} | {"kinds": "fast"}
    message = error_of(value)
    assert message.startswith("file.yaml: kinds: unknown key (did you mean 'kind'?)")
    assert message.endswith("(and 1 more)")


@pytest.mark.parametrize("value", [None, [1], 3, "text"])
def test_a_value_that_is_no_mapping_is_reported(value: Any) -> None:
    expected = "expected a mapping of keys to values"
    assert error_of(value) == f"file.yaml: {expected}; found {value!r}"
    assert error_of(value, "part.") == f"file.yaml: part: {expected}; found {value!r}"


def test_a_long_value_is_shortened() -> None:
    message = error_of(WHOLE | {"seed": "x" * 1000})
    assert message.endswith("xxx...")
    assert len(message) < 120


def test_the_nearest_choice_is_suggested_only_if_it_is_near() -> None:
    assert nearest("adm", ["sgd", "adam"]) == " (did you mean 'adam'?)"
    assert nearest("zzz", ["sgd", "adam"]) == ""
    assert nearest(3, ["sgd", "adam"]) == ""
