"""`preprocess` and `augment` on a Dask cluster: a real scheduler and three worker processes."""

import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
from forks import Popen, import_libraries, run_process
from support import SRC, attempt, hash_files, make_copy, make_leaves, run, set_leaf, wait_until

from imgpipe.core.environment import count_workers
from imgpipe.core.errors import PipelineError
from imgpipe.core.yaml_file import format_yaml
from imgpipe.parallel.cluster import _take_result, find_scheduler

pytestmark = pytest.mark.dask


@dataclass
class Cluster:
    """A scheduler on 127.0.0.1 and its workers."""

    address: str
    scheduler: subprocess.Popen[bytes]
    workers: list[subprocess.Popen[bytes]]


@contextmanager
def start_cluster(folder: Path, source: Path | str = SRC, *, workers: int) -> Iterator[Cluster]:
    """Start a cluster, whose workers have another working directory than the project."""
    pytest.importorskip("distributed", reason="Dask is not installed: requirements-dask.txt")
    folder.mkdir()
    scheduler_file = folder / "scheduler.json"
    environment = {**os.environ, "PYTHONPATH": str(source)}
    environment.pop("DASK_SCHEDULER_ADDRESS", None)

    def start(command: str, *options: str) -> subprocess.Popen[bytes]:
        module = f"distributed.cli.dask_{command}"
        log = stack.enter_context((folder / f"{command}.log").open("ab"))
        process = subprocess.Popen(
            [sys.executable, "-m", module, "--scheduler-file", scheduler_file, *options],
            cwd=folder, env=environment, stdout=log, stderr=log,
        )  # fmt: skip
        stack.callback(process.wait)
        stack.callback(process.kill)
        return process

    with ExitStack() as stack:
        scheduler = start("scheduler", "--host", "127.0.0.1", "--port", "0", "--no-dashboard")
        wait_until(scheduler_file.exists)
        one = ("--nthreads", "1", "--no-nanny", "--no-dashboard", "--local-directory", str(folder))
        processes = [start("worker", *one) for _ in range(workers)]
        address = json.loads(scheduler_file.read_text())["address"]
        yield Cluster(address, scheduler, processes)


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """A cluster for several tests, two of which kill a worker."""
    with start_cluster(tmp_path_factory.mktemp("shared") / "cluster", workers=3) as started:
        yield started


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project with a folder of 240 fetched images, which fill many small shards."""
    folder = tmp_path_factory.mktemp("cluster") / "project"
    make_leaves(folder, {"augment.copies": 2}, per_class=120, side_px=160)
    run(folder, "preprocess")
    return folder


def hash_stages(project: Path, **environment: str) -> dict[str, str]:
    """Run the data stages; return the SHA-256 of every file of records."""
    run(project, "preprocess", **environment)
    run(project, "augment", **environment)
    return hash_files(project / "data" / "records") | hash_files(project / "data" / "augmented")


def test_processes_and_a_cluster_with_a_killed_worker_write_the_same_bytes(
    project: Path, cluster: Cluster
) -> None:
    expected = hash_stages(project, IMGPIPE_WORKERS="1")
    assert len([name for name in expected if name.endswith(".tfrecord")]) > 30
    assert hash_stages(project, IMGPIPE_WORKERS="4") == expected
    environment = {**os.environ, "DASK_SCHEDULER_ADDRESS": cluster.address}
    preprocess = Popen(
        [sys.executable, SRC / "preprocess.py"], cwd=project, env=environment,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    shards = project / ".dvc/tmp/imgpipe/shards"
    wait_until(lambda: list(shards.rglob("*.tfrecord.*.partial")), pause_s=0.001)
    worker = cluster.workers.pop()
    worker.kill()
    _, errors = preprocess.communicate()
    assert (preprocess.returncode, errors) == (0, "")
    assert worker.wait() == -signal.SIGKILL
    run(project, "augment", DASK_SCHEDULER_ADDRESS=cluster.address)
    found = hash_files(project / "data" / "records") | hash_files(project / "data/augmented")
    assert found == expected


def test_a_cluster_reads_archives_at_an_address(
    project: Path, cluster: Cluster, tmp_path: Path
) -> None:
    expected = hash_files(project / "data" / "records")
    folder = shutil.copytree(project, tmp_path / "project", symlinks=True)
    packed = folder / "data" / "raw" / "leaves.zip"
    content = packed.read_bytes()
    packed.rename(tmp_path / "leaves.zip")
    file = {
        "name": "leaves.zip", "bytes": len(content), "sha256": hashlib.sha256(content).hexdigest(),
    }  # fmt: skip
    entry = {
        "title": "Leaves", "license": "", "citation": "", "urls": [f"file://{tmp_path}"],
        "files": {"in_place": [file]}, "format": {"kind": "image_folder"},
    }  # fmt: skip
    (folder / "data" / "catalog.yaml").write_text(format_yaml({"leaves": entry}))
    run(folder, "fetch")
    run(folder, "preprocess")
    in_place = hash_files(folder / "data" / "records")
    run(folder, "preprocess", DASK_SCHEDULER_ADDRESS=cluster.address)
    assert hash_files(folder / "data" / "records") == in_place
    assert len(in_place) == len(expected)  # the identities differ, and so the bytes


def test_a_cluster_with_a_killed_worker_stores_the_same_features(
    cluster: Cluster, tmp_path: Path
) -> None:
    folder = make_leaves(
        tmp_path / "project",
        {
            "preprocess.height_px": 64, "preprocess.width_px": 64, "augment.copies": 0,
            "method": "transfer", "network": "efficientnet_lite0", "transfer.iterations": 20,
        },
        per_class=300, side_px=64,
    )  # fmt: skip
    import_libraries()
    run(folder, "preprocess")
    run(folder, "augment")
    features = folder / ".dvc/tmp/imgpipe/features"

    def state() -> dict[str, str]:
        found = hash_files(features) | hash_files(folder / "models")
        # The worker that is killed may leave the temporary file that it was writing.
        return {name: sha256 for name, sha256 in found.items() if not name.endswith(".partial")}

    assert "computed now, 0 from an earlier run" in run(folder, "train")
    expected = state()
    assert len(expected) > 5
    shutil.rmtree(features)
    shutil.rmtree(folder / "models")
    train = Popen(
        [sys.executable, SRC / "train.py"], cwd=folder, text=True,
        env={**os.environ, "DASK_SCHEDULER_ADDRESS": cluster.address},
        stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip
    wait_until(lambda: list(features.glob("*")), pause_s=0.01)
    cluster.workers.pop().kill()
    output, errors = train.communicate()
    assert train.returncode == 0
    # A slow machine prints a line of progress every 30 s.
    assert all(line.startswith("features: ") for line in errors.splitlines())
    assert "computed now, 0 from an earlier run" in output
    assert state() == expected

    shutil.rmtree(features)
    set_leaf(folder, "arithmetic", "native")
    set_leaf(folder, "arithmetics.native.threads", count_workers() + 1)
    result = attempt(folder, "train", DASK_SCHEDULER_ADDRESS=cluster.address)
    (line,) = result.stderr.splitlines()
    assert "it has computed features with another number of threads; start the workers" in line


def test_an_error_on_a_worker_is_one_line(project: Path, cluster: Cluster) -> None:
    raw = project / "data" / "records"
    shard = sorted(raw.glob("train-*.tfrecord"))[1]
    whole = shard.read_bytes()
    shard.write_bytes(whole[:-10])
    result = attempt(project, "augment", DASK_SCHEDULER_ADDRESS=cluster.address)
    shard.write_bytes(whole)
    assert result.returncode == 1
    (line,) = result.stderr.splitlines()
    assert line.startswith(f"error: data/records/{shard.name}: ")


def test_a_worker_with_other_code_is_refused(project: Path, tmp_path: Path) -> None:
    other = make_copy(tmp_path / "other") / "src"
    with (other / "predict.py").open("a") as stream:
        stream.write("# another version\n")
    with start_cluster(tmp_path / "cluster", other, workers=1) as cluster:
        result = attempt(project, "augment", DASK_SCHEDULER_ADDRESS=cluster.address)
    (line,) = result.stderr.splitlines()
    assert ": expected the code in src " in line
    assert "start the workers again" in line


def test_a_cluster_without_the_code_is_reported(project: Path, tmp_path: Path) -> None:
    with start_cluster(tmp_path / "cluster", source="", workers=1) as cluster:
        result = attempt(project, "preprocess", DASK_SCHEDULER_ADDRESS=cluster.address)
    line = result.stderr.splitlines()[-1]
    assert line.startswith("error: the Dask scheduler at tcp://127.0.0.1:")
    assert line.endswith("with src of the project on PYTHONPATH")


def test_a_shard_that_kills_every_worker_is_named(project: Path, tmp_path: Path) -> None:
    with start_cluster(tmp_path / "cluster", workers=5) as cluster:
        environment = {"DASK_SCHEDULER_ADDRESS": cluster.address}
        result = run_process([sys.executable, "-c", KILLER], project, environment)
    assert result.returncode == 0, result.stderr
    assert result.stdout.startswith("test: shard 3: each of the 4 workers that had this shard died")


KILLER = """
import os
from functools import partial
from imgpipe.core.errors import PipelineError
from imgpipe.parallel.shards import map_shards
from imgpipe.parallel.task import Task
try:
    map_shards(os._exit, [Task(3, "shard 3", images=1)], label="test")
except PipelineError as error:
    print(error)
"""


def test_a_scheduler_that_stops_is_reported(project: Path, tmp_path: Path) -> None:
    with start_cluster(tmp_path / "cluster", workers=1) as cluster:
        preprocess = Popen(
            [sys.executable, SRC / "preprocess.py"], cwd=project, text=True,
            env={**os.environ, "DASK_SCHEDULER_ADDRESS": cluster.address}, stderr=subprocess.PIPE,
        )  # fmt: skip
        shards = project / ".dvc/tmp/imgpipe/shards"
        wait_until(lambda: list(shards.rglob("*.npz")), pause_s=0.001)
        cluster.scheduler.kill()
        _, errors = preprocess.communicate()
    assert errors.splitlines()[-1].startswith("error: preprocess: ")
    assert "the Dask scheduler at tcp://127.0.0.1:" in errors


def test_a_connection_that_breaks_while_a_result_arrives_is_reported() -> None:
    pytest.importorskip("distributed", reason="Dask is not installed: requirements-dask.txt")
    from distributed.comm import CommClosedError

    class Broken:
        def result(self) -> object:
            raise CommClosedError("in <TCP (closed)>: ConnectionResetError")

    with pytest.raises(PipelineError, match=r"^test: shard 0: the Dask scheduler at tcp://a:1 "):
        _take_result(Broken(), "test: shard 0", "tcp://a:1")


def test_a_scheduler_that_does_not_answer_is_reported(project: Path) -> None:
    pytest.importorskip("distributed", reason="Dask is not installed: requirements-dask.txt")
    result = attempt(project, "augment", DASK_SCHEDULER_ADDRESS="tcp://127.0.0.1:1")
    (line,) = result.stderr.splitlines()
    assert line.startswith("error: no Dask scheduler answers at tcp://127.0.0.1:1 within 10 s;")


def test_an_address_without_dask_is_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("imgpipe.parallel.cluster.find_spec", lambda name: None)
    monkeypatch.setenv("DASK_SCHEDULER_ADDRESS", "tcp://127.0.0.1:1")
    with pytest.raises(PipelineError, match="is set, but Dask is not installed; run `pip install"):
        find_scheduler()
    monkeypatch.delenv("DASK_SCHEDULER_ADDRESS")
    assert find_scheduler() is None
