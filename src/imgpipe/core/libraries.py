"""The pinned libraries: the versions in pyproject.toml, and the installed ones."""

import tomllib
from collections.abc import Iterable
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from imgpipe.core.errors import PipelineError

PINS_FILE = Path("pyproject.toml")
OPTIONAL_GROUPS = ("heic",)
"""The groups that `make setup` does not install: each has a lock, requirements-GROUP.txt."""


def read_pins(groups: Iterable[str]) -> dict[str, str]:
    """Return the pinned version of each library in some groups of pyproject.toml.

    Raises:
        PipelineError: pyproject.toml is missing or not TOML, a group is missing, or a library has
            no pinned version.
    """
    place = PINS_FILE.as_posix()
    try:
        value = tomllib.loads(PINS_FILE.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise PipelineError(f"{place}: not found; run from the project's top folder") from None
    except ValueError as error:
        raise PipelineError(f"{place}: not valid TOML: {error}") from None
    pins: dict[str, str] = {}
    for group in groups:
        key = f"project.optional-dependencies.{group}"
        listed = value.get("project", {}).get("optional-dependencies", {}).get(group)
        if listed is None:
            raise PipelineError(f"{place}: {key}: this key is missing")
        for requirement in listed:
            name, separator, pinned = requirement.partition("==")
            if not separator:
                raise PipelineError(
                    f"{place}: {key}: expected LIBRARY==VERSION; found {requirement!r}"
                )
            pins[name] = pinned
    return pins


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
    """Check that the installed libraries are the pinned ones; optional ones may be missing.

    DVC records the pins as the versions that made an output, so another version would make that
    record wrong.

    Raises:
        PipelineError: a library has another version, or is not installed.
    """
    for group in groups:
        pins = read_pins([group])
        optional = group in OPTIONAL_GROUPS
        for name, installed in find_installed(pins).items():
            if installed != pins[name] and not (optional and installed is None):
                install = (
                    f"pip install --require-hashes -r requirements-{group}.txt"
                    if optional
                    else "make setup"
                )
                raise PipelineError(
                    f"{PINS_FILE}: {name} is pinned to {pins[name]}, but"
                    f" {installed or 'no version'} is installed; run `{install}`"
                )
