"""The pinned libraries: the versions in pyproject.toml, and the installed ones."""

import tomllib
from collections.abc import Iterable
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from imgpipe.core.errors import PipelineError

PINS_FILE = Path("pyproject.toml")


def read_pins(groups: Iterable[str]) -> dict[str, str]:
    """Return the pinned version of each library in some groups of pyproject.toml."""
    project = tomllib.loads(PINS_FILE.read_text(encoding="utf-8"))["project"]
    pins = project["optional-dependencies"]
    return dict(pin.split("==") for group in groups for pin in pins[group])


def find_installed(names: Iterable[str]) -> dict[str, str | None]:
    """Return the installed version of each library; None if a library is not installed."""
    found: dict[str, str | None] = {}
    for name in names:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = None
    return found


def check_pins(groups: Iterable[str]) -> None:
    """Check that the installed libraries are the pinned ones.

    DVC records the pins as the versions that made an output, so another version would make that
    record wrong.

    Raises:
        PipelineError: a library has another version, or is not installed.
    """
    pins = read_pins(groups)
    for name, installed in find_installed(pins).items():
        if installed != pins[name]:
            raise PipelineError(
                f"{PINS_FILE}: {name} is pinned to {pins[name]}, but"
                f" {installed or 'no version'} is installed; run `make setup`"
            )
