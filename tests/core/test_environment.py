import pytest
from support import find_error

from imgpipe.core.environment import read_whole_number


def test_a_missing_variable_gives_none_and_a_number_is_read(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv("IMGPIPE_X", raising=False)
    assert read_whole_number("IMGPIPE_X", least=0) is None
    monkeypatch.setenv("IMGPIPE_X", "12")
    assert read_whole_number("IMGPIPE_X", least=12) == 12


@pytest.mark.parametrize("value", ["", "-1", "1.5", "many", "1"])
def test_other_values_are_reported(monkeypatch: pytest.MonkeyPatch, value: str) -> None:
    monkeypatch.setenv("IMGPIPE_X", value)
    message = find_error(read_whole_number, "IMGPIPE_X", least=2)
    assert message == f"IMGPIPE_X: expected a whole number of 2 or more; found {value!r}"
