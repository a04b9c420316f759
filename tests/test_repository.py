"""The repository as a whole: file names, line ends, the lock, the commands."""

import re
import subprocess
import tomllib
from pathlib import Path

from packaging.requirements import Requirement
from support import ROOT


def tracked_files() -> list[str]:
    """The files that git tracks, or would."""
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        check=True,
        capture_output=True,
        text=True,
    ).stdout
    return [name for name in listed.split("\0") if name and (ROOT / name).is_file()]


def test_names_are_good_on_every_system() -> None:
    """Also where case makes no difference, and where Windows has its devices."""
    names = tracked_files()
    assert len({name.lower() for name in names}) == len(names) > 100
    for name in names:
        assert re.fullmatch(r"[A-Za-z0-9_./-]+", name), name
        for part in Path(name).parts:
            assert not re.fullmatch(r"(?i)(con|prn|aux|nul|com\d|lpt\d)(\..*)?", part), name
            assert not part.endswith("."), name


def test_text_has_unix_line_ends() -> None:
    """Hashes would differ otherwise; .gitattributes keeps git from changing them."""
    assert "* text=auto eol=lf\n" in (ROOT / ".gitattributes").read_text()
    for name in tracked_files():
        content = (ROOT / name).read_bytes()
        assert b"\0" in content or b"\r\n" not in content, name


def read_lock(name: str) -> dict[str, Requirement]:
    """Return the requirements of a lock, which has a hash for each and no address."""
    lock = (ROOT / name).read_text()
    assert not re.search(r"https?:|file:|--(index|extra-index|find-links)", lock)
    without_comments = re.sub(r"^#.*\n?", "", lock, flags=re.MULTILINE).strip()
    locked = {}
    for entry in re.split(r"\n(?=\S)", without_comments):
        assert "--hash=sha256:" in entry, entry
        requirement = Requirement(entry.splitlines()[0].rstrip("\\ "))
        assert str(requirement.specifier).startswith("=="), entry
        locked[requirement.name] = requirement
    return locked


def test_the_locks_hold_every_pin_with_hashes_and_no_address() -> None:
    """An optional group has a lock of its own, with equal versions of what both hold."""
    groups = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"][
        "optional-dependencies"
    ]
    everything = read_lock("requirements.txt")
    assert len(everything) > 100
    for group, pins in groups.items():
        optional = (ROOT / f"requirements-{group}.txt").exists()
        lock = read_lock(f"requirements-{group}.txt") if optional else everything
        for pin in map(Requirement, pins):
            locked = lock[pin.name]
            assert locked.specifier == pin.specifier
            for system in ({"sys_platform": "linux", "platform_machine": "x86_64"},
                           {"sys_platform": "darwin", "platform_machine": "arm64"}):  # fmt: skip
                wanted = pin.marker is None or pin.marker.evaluate(system)
                assert wanted == (locked.marker is None or locked.marker.evaluate(system)), pin
        if group == "gpu":
            assert "tensorflow-cpu" not in lock  # both install the same files
        assert not optional or lock.keys() - everything.keys(), group
        for name in lock.keys() & everything.keys():
            assert lock[name].specifier == everything[name].specifier, name
