"""The Makefile: its help, and the values that a person gives to it, in a folder of any name."""

import os
import re
import subprocess
from pathlib import Path

import pytest
from support import ROOT

PROGRAMS = ("python", "dvc", "codespell", "ruff", "mypy")
# Each writes a file named PWNED, if a shell, or make, runs a part of it.
HOSTILE = (
    "x';touch PWNED;'",
    'x";touch PWNED;"',
    "x;touch PWNED #",
    "x&touch PWNED",
    "`touch PWNED`",
    "$(touch PWNED)",
    "$$(touch PWNED)",
    "$(shell touch PWNED)",
    "x\ntouch PWNED",
    "-x\n\ttouch PWNED\n",
)
ANY_TEXT = (*HOSTILE, "my pets", 'it\'s "mine"; $HOME `x` #1 * \\', "猫", "-x", "--", "x ", "")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The Makefile, in a folder whose name needs quotes, with programs that print their words."""
    folder = tmp_path_factory.mktemp("make") / "x y" / "it's $ç"
    programs = folder / ".venv" / "bin"
    programs.mkdir(parents=True)
    for name in PROGRAMS:
        program = programs / name
        program.write_text(f"#!/bin/sh\nprintf '%s|' {name} \"$@\"\n")
        program.chmod(0o755)
    (folder / "Makefile").write_bytes((ROOT / "Makefile").read_bytes())
    return folder


def make(folder: Path, *arguments: str, **environment: str) -> subprocess.CompletedProcess[bytes]:
    search = os.pathsep.join([str(folder / ".venv" / "bin"), os.environ["PATH"]])
    without_make = {
        name: value for name, value in os.environ.items() if not name.startswith("MAKE")
    }
    return subprocess.run(
        ["make", "--no-print-directory", "--silent", *arguments],
        cwd=folder,
        env={**without_make, "PATH": search, **environment},
        capture_output=True,
        check=False,
    )


def printed_by(folder: Path, *arguments: str, **environment: str) -> str:
    result = make(folder, "PYTHON=true", *arguments, **environment)
    assert result.returncode == 0, result.stderr
    return result.stdout.decode()


def list_targets() -> list[str]:
    rules = printed_by(ROOT, "--print-data-base", "--dry-run", "help").splitlines()
    (phony,) = [line.split()[1:] for line in rules if line.startswith(".PHONY:")]
    return phony


def list_variables() -> list[str]:
    """The variables that the Makefile sets or reads, by the database of make."""
    text = (ROOT / "Makefile").read_text()
    read = re.findall(r"\$[({](?:value |origin )?([A-Z_]+)[)}:]", text)
    listed = make(ROOT, "--print-data-base", "--dry-run", "help").stdout.decode()
    assigned = re.findall(
        r"^# (?:makefile|'override' directive).*\n(?:export |override )*([A-Z_]+) :?=",
        listed,
        re.MULTILINE,
    )
    of_make = {"CURDIR", "GNUMAKEFLAGS", "MAKEFILE_LIST", "MAKEFLAGS", "SHELL"}
    return sorted({*read, *assigned} - of_make)


def test_every_target_is_in_the_help() -> None:
    """By make itself: its database of rules, and what it prints for `make help`."""
    shown = re.findall(r"^  (\S+)", printed_by(ROOT, "help"), re.MULTILINE)
    assert sorted(list_targets()) == sorted(shown)


def test_the_variables_are_found() -> None:
    assert {"A", "B", "FOLDER", "GPU", "GROUPS", "IMAGES", "LABELS", "LOCK", "NAME", "PATH",
            "PATTERN", "PYTEST", "PYTHON"} <= set(list_variables())  # fmt: skip


@pytest.mark.parametrize("variable", [name for name in list_variables() if name != "PATH"])
def test_no_value_of_a_variable_is_run(folder: Path, variable: str) -> None:
    """Given to make or in its environment, with all targets; errors of targets do not matter."""
    for value in HOSTILE:
        setting = f"{variable}={value}"
        python = [] if variable == "PYTHON" else ["PYTHON=true"]
        everything = ["--ignore-errors", *python, *list_targets()]
        results = [
            make(folder, *everything, setting),
            make(folder, *everything, **{variable: value}),
        ]
        assert not list(folder.glob("PWNED*")), setting
        if variable == "FOLDER":
            assert all(b"touch PWNED" in result.stdout for result in results)


# Variables of the system that have the names of values.
MACHINE = dict.fromkeys(("NAME", "LABELS", "PATTERN"), "of this machine")
EXPECTED = {
    ("photographs", "FOLDER"): "python|src/photographs.py|--|{}|",
    ("photographs", "NAME"): "python|src/photographs.py|--name={}|--||",
    ("photographs", "LABELS"): "python|src/photographs.py|--labels={}|--||",
    ("photographs", "PATTERN"): "python|src/photographs.py|--pattern={}|--||",
    ("data-report", "LABELS"): "python|src/data_report.py|--labels={}|--|",
    ("data-report", "PATTERN"): "python|src/data_report.py|--pattern={}|--|",
    ("data-report", "NAME"): "python|src/data_report.py|--name={}|--|",
    ("dataset", "LABELS"): "python|src/dataset.py|--labels={}|--||",
    ("dataset", "PATTERN"): "python|src/dataset.py|--pattern={}|--||",
    ("dataset", "FOLDER"): "python|src/dataset.py|--|{}|",
    ("dataset", "NAME"): "python|src/dataset.py|--name={}|--||",
    ("recipe", "NAME"): "python|src/recipe.py|--|{}|",
    ("compare", "A"): "python|src/compare.py|--html|comparison.html|--|{}|workspace|",
    ("compare", "B"): "python|src/compare.py|--html|comparison.html|--|HEAD|{}|",
    ("bench", "SECTIONS"): "python|benchmarks/bench.py|--|{}|",
    ("bench-large", "IMAGES"): "python|benchmarks/large.py|--images={}|--||",
    ("bench-large", "FOLDER"): "python|benchmarks/large.py|--images=10000000|--|{}|",
}


@pytest.mark.parametrize(("target", "variable"), EXPECTED)
def test_python_gets_a_value_as_it_was_given(folder: Path, target: str, variable: str) -> None:
    for value in ANY_TEXT:
        if variable in ("NAME", "LABELS", "PATTERN") and not value and target != "recipe":
            continue
        printed = printed_by(folder, target, f"{variable}={value}", **MACHINE)
        expected = EXPECTED[target, variable].format(value)
        assert printed.removesuffix("with pictures: comparison.html\n") == expected


def test_a_value_that_is_not_given_has_its_default(folder: Path) -> None:
    assert printed_by(folder, "recipe", **MACHINE) == "python|src/recipe.py|--||"
    assert printed_by(folder, "dataset", **MACHINE) == "python|src/dataset.py|--||"
    printed = printed_by(folder, "compare", **MACHINE)
    assert printed.startswith("python|src/compare.py|--html|comparison.html|--|HEAD|workspace|")
    assert printed_by(folder, "setup", "PYTHON=python", "GPU=1") == "python|install.py|--gpu|"
    assert printed_by(folder, "setup", "PYTHON=python", "GPU=x") == "python|install.py|"


def test_the_python_of_setup_may_be_in_any_folder(folder: Path) -> None:
    python = folder / "my $python's"
    python.write_text('#!/bin/sh\nprintf "%s|" found "$@"\n')
    python.chmod(0o755)
    assert printed_by(folder, "setup", f"PYTHON={python}") == "found|install.py|"


def test_the_modules_of_the_project_are_found_in_a_folder_of_any_name(folder: Path) -> None:
    (folder / ".venv" / "bin" / "python").rename(folder / "python")
    try:
        python = folder / ".venv" / "bin" / "python"
        python.write_text('#!/bin/sh\nprintf "%s|" "$PYTHONPATH"\n')
        python.chmod(0o755)
        assert printed_by(folder, "reruns") == f"{folder}/src:{folder}/tests|"
    finally:
        (folder / "python").rename(python)
