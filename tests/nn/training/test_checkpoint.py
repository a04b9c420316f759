"""Saved states of trainings."""

import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from imgpipe.core.files import PARTIAL_SUFFIX

pytestmark = pytest.mark.tf


def make_checkpoint(*, seed: int = 1, code: str = "a", data: str = "b") -> Any:
    from imgpipe.nn.training.checkpoint import Checkpoint

    return Checkpoint(sources={"train.py": code}, parameters={"seed": seed}, data=data)


def make_state(epochs: int) -> Any:
    from imgpipe.nn.training.checkpoint import TrainingState

    return TrainingState(
        history=[[number + 1, 0.1, 1 / 3] for number in range(epochs)],
        # More than ten variables: an order by name would put 10 before 2, and the test would fail.
        variables=[np.full((2, 3), number, dtype=np.float32) for number in range(12)],
        best_weights=[np.arange(4, dtype=np.float32), np.array(7, dtype=np.int64)],
    )


def list_folders(repository: Path) -> list[Path]:
    return list((repository / ".dvc" / "tmp" / "imgpipe" / "checkpoints").iterdir())


def test_the_last_saved_state_is_loaded_until_it_is_deleted(repository: Path) -> None:
    checkpoint = make_checkpoint()
    assert checkpoint.load() is None
    for epochs in (1, 2):
        checkpoint.save(make_state(epochs))
    found = make_checkpoint().load()
    assert found.history == make_state(2).history
    for name in ("variables", "best_weights"):
        for value, expected in zip(getattr(found, name), getattr(make_state(2), name), strict=True):
            assert value.dtype == expected.dtype
            assert (value == expected).all()
    assert list(Path.cwd().iterdir()) == []  # the temporary copy of the repository
    (folder,) = list_folders(repository)
    assert [path.name for path in folder.iterdir()] == ["state.npz"]
    checkpoint.delete()
    assert checkpoint.load() is None
    assert list_folders(repository) == []


@pytest.mark.parametrize("change", [{"seed": 2}, {"code": "c"}, {"data": "c"}])
def test_another_training_has_another_checkpoint(repository: Path, change: Any) -> None:
    make_checkpoint().save(make_state(1))
    assert make_checkpoint(**change).load() is None


def test_a_damaged_checkpoint_is_not_loaded(repository: Path) -> None:
    checkpoint = make_checkpoint()
    checkpoint.save(make_state(3))
    (folder,) = list_folders(repository)
    state = folder / "state.npz"
    content = state.read_bytes()
    seven = np.full((2, 3), 7, dtype=np.float32).tobytes()
    eight = np.full((2, 3), 8.5, dtype=np.float32).tobytes()
    for damaged in (b"", content[: len(content) // 2], content.replace(seven, eight)):
        assert damaged != content
        state.write_bytes(damaged)
        assert checkpoint.load() is None
    state.write_bytes(content)
    assert checkpoint.load() is not None


def test_two_runs_of_one_training_write_two_temporary_files(
    repository: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    names: list[str] = []
    savez = np.savez

    def save_beside(stream: Any, **arrays: Any) -> None:
        names.append(Path(stream.name).name)
        if len(names) == 1:  # another process saves while this one does
            make_checkpoint().save(make_state(2))
        savez(stream, **arrays)

    monkeypatch.setattr(np, "savez", save_beside)
    make_checkpoint().save(make_state(1))
    first, second = names
    assert first != second
    assert all(name.endswith(PARTIAL_SUFFIX) for name in names)
    assert len(make_checkpoint().load().history) == 1  # the last complete state


def test_a_state_is_saved_although_another_run_deletes_the_folder(
    repository: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    savez = np.savez
    calls: list[Any] = []

    def delete_and_save(stream: Any, **arrays: Any) -> None:
        if not calls:
            make_checkpoint().delete()  # at the moment when this run writes
        calls.append(stream)
        savez(stream, **arrays)

    monkeypatch.setattr(np, "savez", delete_and_save)
    make_checkpoint().save(make_state(4))
    assert len(calls) == 2
    assert len(make_checkpoint().load().history) == 4


def test_outside_a_repository_nothing_is_saved(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("DVC_ROOT", raising=False)
    monkeypatch.chdir(tmp_path)
    checkpoint = make_checkpoint()
    checkpoint.save(make_state(1))
    assert checkpoint.load() is None
    checkpoint.delete()
    assert list(tmp_path.iterdir()) == []


def test_checkpoints_older_than_30_days_are_deleted(repository: Path) -> None:
    old, recent, finished = (make_checkpoint(seed=seed) for seed in range(3))
    old.save(make_state(1))
    (folder,) = list_folders(repository)
    recent.save(make_state(1))
    os.utime(folder, (0, 0))
    finished.delete()
    assert old.load() is None
    assert recent.load() is not None
    assert len(list_folders(repository)) == 1
