from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import pytest
from support import find_error

from imgpipe.core import libraries
from imgpipe.core.errors import PipelineError
from imgpipe.core.libraries import Pin, check_pins, find_installed, parse_pin, read_pins


@pytest.fixture(autouse=True)
def _in_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def write_pins(text: str) -> None:
    Path("pyproject.toml").write_text(f"[project.optional-dependencies]\n{text}\n")


def test_the_pins_of_some_groups_are_read_if_their_marker_fits_the_system() -> None:
    write_pins(
        """one = ["a==1.0; python_version > '3'", "b==2; python_version < '3'", "c[d]==3"]
        two = ["e==4"]\nthree = ["f==5"]"""
    )
    assert read_pins(["one", "three"]) == {"a": "1.0", "c[d]": "3", "f": "5"}


def test_a_pin_has_its_version_on_every_system() -> None:
    pin = parse_pin("tensorflow == 2.21.0; sys_platform == 'no-such-system'")
    assert pin == Pin("tensorflow", "2.21.0", is_for_this_system=False)


@pytest.mark.parametrize("requirement", ["a>=1", "a", "a==1.*", "a==1,>0", "a==", "=="])
def test_a_requirement_without_one_exact_version_is_no_pin(requirement: str) -> None:
    assert parse_pin(requirement) is None


def test_tensorflow_for_gpus_counts_as_tensorflow_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    installed = {"tensorflow": "2.21.0"}

    def find(name: str) -> str:
        if name not in installed:
            raise PackageNotFoundError(name)
        return installed[name]

    monkeypatch.setattr(libraries, "version", find)
    assert find_installed(["tensorflow-cpu", "keras"]) == {
        "tensorflow-cpu": "2.21.0",
        "keras": None,
    }


def test_installed_versions_are_found() -> None:
    found = find_installed(["numpy", "no-such-library"])
    assert found == {"numpy": version("numpy"), "no-such-library": None}


def test_equal_versions_pass() -> None:
    write_pins(f'one = ["numpy=={version("numpy")}"]\ntwo = ["numpy==0.1"]')
    check_pins(["one"])


@pytest.mark.parametrize(
    ("group", "pins", "expected"),
    [
        ("one", 'one = ["numpy==0.1"]',
         f"numpy is pinned to 0.1, but {version('numpy')} is installed; run `make setup`"),
        ("heic", 'heic = ["numpy==0.1"]',
         f"numpy is pinned to 0.1, but {version('numpy')} is installed;"
         " run `pip install --require-hashes -r requirements-heic.txt`"),
        ("one", 'one = ["no-such-library==1"]',
         "no-such-library is pinned to 1, but no version is installed; run `make setup`"),
        ("one", "", "project.optional-dependencies.one: this key is missing"),
        ("one", 'one = ["numpy>=2"]',
         "project.optional-dependencies.one: expected LIBRARY==VERSION; found 'numpy>=2'"),
    ],
)  # fmt: skip
def test_other_versions_and_unclear_pins_are_reported(group: str, pins: str, expected: str) -> None:
    write_pins(pins)
    assert find_error(check_pins, [group]) == f"pyproject.toml: {expected}"


def test_an_optional_library_may_be_missing() -> None:
    write_pins('heic = ["no-such-library==1"]')
    check_pins(["heic"])


def test_a_missing_or_damaged_file_is_reported() -> None:
    with pytest.raises(PipelineError, match=r"pyproject\.toml: not found; run from the project's"):
        check_pins(["one"])
    write_pins("one = [")
    with pytest.raises(PipelineError, match=r"pyproject\.toml: not valid TOML: "):
        check_pins(["one"])
