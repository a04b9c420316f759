"""Shards that an interrupted run finished are used by the next run."""

import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from support import SRC, hash_files, make_leaves, run, set_leaf, wait_until

FINISHED = ".dvc/tmp/imgpipe/shards"


@pytest.fixture(scope="module")
def fetched(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project with a fetched folder of 200 images, which fill ten shards."""
    folder = tmp_path_factory.mktemp("conversion") / "project"
    make_leaves(folder, {"preprocess.normalization": "standardize"}, per_class=100, side_px=128)
    (folder / "data/local/leaves/oak/empty.png").touch()
    run(folder, "fetch")
    return folder


@pytest.fixture
def project(fetched: Path, tmp_path: Path) -> Path:
    """A copy of the project, with the times of change of its files."""
    return shutil.copytree(fetched, tmp_path / "project", symlinks=True)


def hash_outputs(project: Path) -> dict[str, str]:
    return hash_files(project / "data" / "records") | hash_files(project / "metrics")


def kill_preprocess(project: Path, finished_shards: int) -> None:
    """Kill `preprocess` and its worker once some shards are finished."""
    process = subprocess.Popen(
        [sys.executable, SRC / "preprocess.py"], cwd=project, start_new_session=True
    )
    facts = project / FINISHED
    wait_until(lambda: len(list(facts.rglob("*.npz"))) >= finished_shards, pause_s=0.001)
    process.send_signal(signal.SIGKILL)
    process.wait()


def test_a_killed_run_is_resumed_with_the_same_bytes(project: Path) -> None:
    assert "interrupted" not in run(project, "preprocess")
    expected = hash_outputs(project)
    assert not list((project / FINISHED).glob("*"))
    kill_preprocess(project, finished_shards=3)
    shutil.rmtree(project / "data" / "records")  # DVC deletes outputs before a stage
    output = run(project, "preprocess")
    count = int(output.partition(" of ")[0].rpartition(" ")[2])
    assert f"preprocess: {count} of 10 shards are from an interrupted run" in output
    assert count >= 3
    assert hash_outputs(project) == expected
    assert not list((project / FINISHED).glob("*"))


@pytest.mark.parametrize("pattern", ["*.tfrecord", "*.npz"])
def test_damaged_shards_are_written_again(project: Path, pattern: str) -> None:
    run(project, "preprocess")
    expected = hash_outputs(project)
    kill_preprocess(project, finished_shards=2)
    for path in (project / FINISHED).rglob(pattern):
        path.write_bytes(path.read_bytes()[:-20] + b"x" * 20)
    run(project, "preprocess")
    assert hash_outputs(project) == expected


def test_shards_of_other_values_or_other_files_are_not_used(project: Path) -> None:
    kill_preprocess(project, finished_shards=2)
    set_leaf(project, "preprocess.interpolation", "nearest")
    assert "interrupted" not in run(project, "preprocess")
    set_leaf(project, "preprocess.interpolation", "bilinear")
    (project / "data" / "local" / "leaves" / "oak" / "1.png").unlink()
    run(project, "fetch")
    assert "interrupted" not in run(project, "preprocess")
