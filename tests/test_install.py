"""install.py: pip's settings for uv, pip if uv fails, and what counts as a complete environment.

A shell script takes the place of Python. It logs its arguments instead of installing.
"""

import importlib.util
import platform
import sys
from pathlib import Path
from typing import Any

import pytest
from support import ROOT

specification = importlib.util.spec_from_file_location("install", ROOT / "install.py")
assert specification is not None
assert specification.loader is not None
install: Any = importlib.util.module_from_spec(specification)
specification.loader.exec_module(install)

PYTHON = """#!/bin/sh
case "$*" in
  "-m venv"*) mkdir -p .venv/bin && cp "$0" .venv/bin/python ;;
  *"config list") echo "global.extra-index-url='https://me:secret@example.com/simple'" ;;
  *) echo "$UV_INDEX | $*" >> log; test ! -e "fail_$2" ;;
esac
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty project, in which the script takes the place of Python."""
    (tmp_path / "base").write_text(PYTHON)
    (tmp_path / "base").chmod(0o755)
    for name in ("requirements.txt", "requirements-gpu.txt", "requirements-setup.txt"):
        (tmp_path / name).write_text(name)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "_base_executable", str(tmp_path / "base"))
    monkeypatch.setattr(sys, "argv", ["install.py"])
    monkeypatch.delenv("UV_INDEX", raising=False)
    return tmp_path


def logged() -> list[str]:
    """The commands since the last call."""
    log = Path("log")
    lines = log.read_text().splitlines() if log.exists() else []
    log.unlink(missing_ok=True)
    return lines


def test_the_settings_of_pip_are_read_in_pips_order() -> None:
    listed = (
        "global.index-url='https://global'\nglobal.find-links='/a\\n/b'\n"
        "install.index-url='https://install'\nwheel.cert='/c'\n:env:.cert='/d'\n"
    )
    assert install.parse_pip_settings(listed) == {
        "index-url": "https://install",
        "find-links": "/a\n/b",
        "cert": "/d",
    }
    listed += ":env:.index-url='https://environment'"
    assert install.parse_pip_settings(listed)["index-url"] == "https://environment"


def test_uv_gets_the_indexes_of_pip() -> None:
    pip = {
        "index-url": "https://one",
        "extra-index-url": "https://two\nhttps://three",
        "find-links": "/a /b",
        "trusted-host": "two three",
        "no-index": "true",
    }
    assert install.translate_settings(pip, {}) == {
        "UV_INDEX_STRATEGY": "unsafe-best-match",
        "UV_NO_CONFIG": "1",
        "UV_DEFAULT_INDEX": "https://one",
        "UV_INDEX": "https://two https://three",
        "UV_FIND_LINKS": "/a,/b",
        "UV_INSECURE_HOST": "two three",
        "UV_NO_INDEX": "1",
    }


@pytest.mark.parametrize("variable", ["UV_DEFAULT_INDEX", "UV_INDEX_URL"])
def test_a_variable_of_uv_that_is_set_wins(variable: str) -> None:
    added = install.translate_settings({"index-url": "https://one"}, {variable: "https://mine"})
    assert not {"UV_DEFAULT_INDEX", "UV_INDEX_URL"} & added.keys()


def test_uv_installs_the_lock_once_and_again_after_a_change(
    folder: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    install.main()
    bootstrap, by_uv = logged()
    assert bootstrap.endswith(
        "install --quiet --require-hashes --requirement requirements-setup.txt"
    )
    assert by_uv.startswith("https://me:secret@example.com/simple | -m uv pip install")
    assert by_uv.endswith("--require-hashes --requirement requirements.txt")
    assert "secret" not in by_uv.partition("|")[2]  # arguments are visible to other users
    assert "secret" not in "".join(capfd.readouterr())
    install.main()
    assert logged() == []
    (folder / "requirements.txt").write_text("other versions")
    install.main()
    assert len(logged()) == 2


def test_pip_installs_the_same_lock_if_uv_fails(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (folder / "fail_uv").touch()
    install.main()
    *_, by_pip = logged()
    assert by_pip.endswith(
        "-m pip --disable-pip-version-check install --require-hashes --requirement requirements.txt"
    )
    assert "setup: uv failed; pip installs the same packages" in capsys.readouterr().out
    assert install.is_complete(Path("requirements.txt"))


def test_an_environment_that_could_not_be_completed_is_made_anew(folder: Path) -> None:
    for failing in ("fail_uv", "fail_pip"):
        (folder / failing).touch()
    with pytest.raises(SystemExit, match="error: pip could not install the packages"):
        install.main()
    assert not install.is_complete(Path("requirements.txt"))
    for failing in ("fail_uv", "fail_pip"):
        (folder / failing).unlink()
    logged()
    install.main()
    assert len(logged()) == 2


def test_a_link_is_refused_because_another_project_may_use_the_environment(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    used = tmp_path / "used"
    (used / "bin").mkdir(parents=True)
    (folder / ".venv").symlink_to(used)
    with pytest.raises(SystemExit) as stop:
        install.main()
    assert str(stop.value) == (
        "error: .venv is a link, and its environment is not the one of requirements.txt; delete the"
        " link, and run the command again"
    )
    assert (used / "bin").exists()
    assert "setup:" not in capsys.readouterr().out


def test_an_environment_for_gpus_stays_one(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "platform", "linux")
    monkeypatch.setattr(platform, "machine", lambda: "x86_64")
    monkeypatch.setattr(sys, "argv", ["install.py", "--gpu"])
    install.main()
    assert logged()[1].endswith("--requirement requirements-gpu.txt")
    monkeypatch.setattr(sys, "argv", ["install.py"])
    install.main()
    assert logged() == []


def test_gpus_need_linux_on_x86_64(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(platform, "machine", lambda: "arm64")
    with pytest.raises(SystemExit, match="error: --gpu is for x86-64 Linux; this is arm64"):
        install.choose_lock(gpu=True)


@pytest.mark.parametrize("version", [(3, 10, 13), (3, 14, 0)])
def test_other_versions_of_python_are_refused(
    folder: Path, version: tuple[int, int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "version_info", version)
    with pytest.raises(
        SystemExit, match=rf"error: this is Python 3\.{version[1]}; 3\.11, 3\.12 or"
    ):
        install.choose_lock(gpu=False)
