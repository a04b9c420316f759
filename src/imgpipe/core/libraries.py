"""The pinned libraries: the versions in pyproject.toml, and the installed ones."""

import tomllib
from collections.abc import Iterable
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from packaging.requirements import InvalidRequirement, Requirement

from imgpipe.core.errors import PipelineError

PINS_FILE = Path("pyproject.toml")
OPTIONAL_GROUPS = ("heic",)
"""Groups that stages use if they are installed; each has a lock, requirements-GROUP.txt."""

_SAME_LIBRARY = {"tensorflow-cpu": "tensorflow"}  # `make setup GPU=1` installs the latter


@dataclass(frozen=True)
class Pin:
    """A requirement of the form `name==version`, with an environment marker or without."""

    name: str
    """With its extras, such as "dask[distributed]"."""
    version: str
    is_for_this_system: bool
    """Whether the marker holds on this system; true without a marker."""


def parse_pin(requirement: str) -> Pin | None:
    """Return a pin; None if the requirement has no single exact version.

    Format: https://packaging.python.org/en/latest/specifications/dependency-specifiers
    """
    try:
        parsed = Requirement(requirement)
    except InvalidRequirement:
        return None
    versions = list(parsed.specifier)
    if len(versions) != 1 or versions[0].operator != "==" or "*" in versions[0].version:
        return None
    extras = f"[{','.join(sorted(parsed.extras))}]" if parsed.extras else ""
    is_for_this_system = parsed.marker is None or parsed.marker.evaluate()
    return Pin(parsed.name + extras, versions[0].version, is_for_this_system)


def read_pins(groups: Iterable[str]) -> dict[str, str]:
    """Return the version of each library that some groups of pyproject.toml pin for this system.

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
            pin = parse_pin(requirement)
            if not pin:
                raise PipelineError(
                    f"{place}: {key}: expected LIBRARY==VERSION; found {requirement!r}"
                )
            if pin.is_for_this_system:
                pins[pin.name] = pin.version
    return pins


def find_installed(names: Iterable[str]) -> dict[str, str | None]:
    """Return the installed version of each library; None if a library is not installed."""
    return {name: _find_version(name) for name in names}


def _find_version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return _find_version(_SAME_LIBRARY[name]) if name in _SAME_LIBRARY else None


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
