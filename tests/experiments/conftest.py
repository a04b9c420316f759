"""A repository with one run, for the tests of several runs."""

from pathlib import Path

import pytest
from support import commit_run, git


@pytest.fixture
def repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A git repository with a run from `commit_run`, which DVC can read, as working directory."""
    monkeypatch.chdir(tmp_path)
    git(tmp_path, "init", "--quiet", "--initial-branch=main")
    git(tmp_path, "config", "user.name", "test")
    git(tmp_path, "config", "user.email", "test@localhost")
    (tmp_path / ".dvc").mkdir()
    (tmp_path / ".dvc/config").touch()
    (tmp_path / ".dvcignore").write_text("__pycache__\n")
    commit_run(tmp_path)
    return tmp_path
