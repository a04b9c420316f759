"""Two runs of stages in one folder: one waits for the other, however that ends."""

import errno
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest
from support import SRC, STAGES, git, hash_files, make_copy, run, set_leaf

from imgpipe.running import locks
from imgpipe.running.locks import hold_paths

HOLD = """
import sys
from imgpipe.running.locks import hold_paths

with hold_paths(sys.argv[1], written=sys.argv[2].split(), read=sys.argv[3].split()):
    print("holds", flush=True)
    sys.stdin.readline()
"""


@pytest.fixture(autouse=True)
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTHONPATH", str(SRC))
    (tmp_path / ".dvc").mkdir()
    return tmp_path


class Process:
    """A process that holds paths until it gets a line."""

    def __init__(self, stage: str, written: str = "", read: str = "") -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-c", HOLD, stage, written, read],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        )  # fmt: skip

    def next_line(self) -> str:
        assert self._process.stdout is not None
        return self._process.stdout.readline().rstrip()

    def end(self) -> None:
        self._process.communicate("\n")
        assert self._process.returncode == 0

    def kill(self) -> None:
        self._process.kill()
        self._process.communicate()


@contextmanager
def process(*arguments: str, **options: str) -> Iterator[Process]:
    started = Process(*arguments, **options)
    try:
        yield started
    finally:
        started.kill()


@pytest.mark.parametrize("end", [Process.end, Process.kill])
@pytest.mark.parametrize(
    ("first", "second", "path"),
    [
        (("data/records metrics/data.json", ""), ("data/records metrics/data.json", ""),
         "data/records"),
        (("data/records", ""), ("models", "data/records"), "data/records"),
        (("models", "data/records"), ("data/records", "data/raw"), "data/records"),
    ],
)  # fmt: skip
def test_a_run_waits_for_the_end_of_another_one(
    end: Callable[[Process], None], first: tuple[str, str], second: tuple[str, str], path: str
) -> None:
    with process("first", *first) as one:
        assert one.next_line() == "holds"
        with process("second", *second) as two:
            assert two.next_line() == f"second: another run uses {path}; waiting for its end"
            end(one)
            assert two.next_line() == "holds"


def test_runs_that_only_read_the_same_do_not_wait() -> None:
    with ExitStack() as started:
        for stage in ("train", "evaluate"):
            one = started.enter_context(process(stage, f"models/{stage}", "data/records"))
            assert one.next_line() == "holds"


def test_the_workers_of_one_training_run_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    with ExitStack() as started:
        with monkeypatch.context() as patch:
            patch.setenv("TF_CONFIG", "{}")
            for _ in range(2):
                worker = started.enter_context(process("train", "models", "data/records"))
                assert worker.next_line() == "holds"
        other = started.enter_context(process("train", "models", "data/records"))
        assert other.next_line() == "train: another run uses models; waiting for its end"


def test_without_locks_the_block_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """On a file system without locks, on Windows, and outside a repository of DVC."""

    def refuse(*_: Any) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    done = []
    with monkeypatch.context() as patch:
        patch.setattr("fcntl.flock", refuse)
        with hold_paths("plot", ["metrics/plots"], []):
            done.append("no locks")
    with monkeypatch.context() as patch:
        patch.setattr(locks, "fcntl", None)
        with hold_paths("plot", ["metrics/plots"], []):
            done.append("Windows")
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    with hold_paths("plot", ["metrics/plots"], []):
        done.append("no repository")
    assert done == ["no locks", "Windows", "no repository"]
    assert list(Path().iterdir()) == []


def test_an_error_in_the_block_is_not_hidden() -> None:
    with pytest.raises(PermissionError), hold_paths("plot", ["metrics/plots"], []):
        raise PermissionError


def test_two_runs_of_a_stage_at_once_write_what_one_writes(tmp_path: Path) -> None:
    """All stages before the training, each twice at once."""
    folder = make_copy(tmp_path / "project")
    set_leaf(folder, "preprocess.max_per_class", 40)
    set_leaf(folder, "preprocess.shard_size_mib", 1)
    outputs = ("data/raw", "data/records", "data/augmented")
    for stage in STAGES[:3]:
        run(folder, stage)
    expected = {name: hash_files(folder / name) for name in outputs}
    for stage in STAGES[:3]:
        both = [
            subprocess.Popen([sys.executable, SRC / f"{stage}.py"], cwd=folder) for _ in range(2)
        ]
        assert [one.wait() for one in both] == [0, 0], stage
    assert {name: hash_files(folder / name) for name in outputs} == expected
    assert not list(folder.rglob("*.partial"))
    assert git(folder, "status", "--short").split() == [
        "M",
        "metrics/data.json",
        "M",
        "params.yaml",
    ]
