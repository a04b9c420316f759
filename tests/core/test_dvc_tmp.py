"""Files that outlive a stage."""

import os
import time
from pathlib import Path

import pytest

from imgpipe.core.dvc_tmp import delete_unused, folder_path

DAY_S = 24 * 3600


def test_the_folder_is_in_the_repository_that_dvc_names(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("DVC_ROOT", raising=False)
    assert folder_path("features") is None
    (tmp_path / ".dvc").mkdir()
    assert folder_path("features") == Path(".dvc/tmp/imgpipe/features")
    (tmp_path / "other" / ".dvc").mkdir(parents=True)
    monkeypatch.setenv("DVC_ROOT", str(tmp_path / "other"))
    assert folder_path("features") == tmp_path / "other/.dvc/tmp/imgpipe/features"


def test_files_that_did_not_change_for_30_days_are_deleted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / ".dvc").mkdir()
    monkeypatch.setenv("DVC_ROOT", str(tmp_path))
    delete_unused("features")  # there is no folder yet
    folder = tmp_path / ".dvc/tmp/imgpipe/features"
    for name, days in (("new", 29), ("old", 31)):
        for path in (folder / f"{name}.npy", folder / name / "state.npz"):
            path.parent.mkdir(parents=True, exist_ok=True)
            path.touch()
            changed_s = time.time() - days * DAY_S
            os.utime(path, (changed_s, changed_s))
        os.utime(folder / name, (changed_s, changed_s))
    delete_unused("features")
    assert sorted(path.name for path in folder.iterdir()) == ["new", "new.npy"]


def test_nothing_is_deleted_outside_a_repository(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("DVC_ROOT", raising=False)
    delete_unused("features")
    assert list(tmp_path.iterdir()) == []
