"""Training on several replicas: two logical devices of a processor, and two processes."""

import json
import math
import os
import random
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from forks import Popen, import_libraries
from support import (
    EASY_PARAMS,
    LONGEST_WAIT_S,
    SRC,
    hash_file,
    run,
    set_leaf,
    set_params,
    wait_until,
)

pytestmark = pytest.mark.e2e

EPOCHS = 3
EXAMPLES = 90
# Trains a network with batch normalization, without dropout: each replica draws its own numbers for
# dropout, so the results would differ from one device. The last batch has 10 examples.
# Arguments: the number of logical devices, and the number of replicas of each training.
TRAIN = f"""
import json, sys
from hashlib import sha256
from pathlib import Path
from imgpipe.nn.common.runtime import configure_runtime, keras, tf
devices, *counts = map(int, sys.argv[1:])
if devices > 1:
    (cpu,) = tf.config.list_physical_devices("CPU")
    logical = [tf.config.LogicalDeviceConfiguration()] * devices
    tf.config.set_logical_device_configuration(cpu, logical)
configure_runtime("native", native_threads=1, seed=1)
tf.get_logger().setLevel("ERROR")  # several networks in one process are traced several times
from support import EASY_PARAMS, build_network, change_params, make_easy_images
from imgpipe.nn.common.arithmetic import find_forward
from imgpipe.nn.training.checkpoint import Checkpoint
from imgpipe.nn.training.loop import train_model
from imgpipe.nn.training.replicas import Replicas
from imgpipe.nn.fitting.training_set import TrainingSet
from imgpipe.records.stored_images import LabeledInputs
params = change_params(
    EASY_PARAMS, training__epochs={EPOCHS}, training__l2_penalty=0.01,
    training__class_weights="balanced", networks__cnn__batch_norm=True,
    training__learning_rate_schedule="constant",
)
images, labels = make_easy_images({EXAMPLES})
results, forward = [], find_forward("native")
for count in counts:
    keras.utils.set_random_seed(1)
    replicas = Replicas(count)
    with replicas.scope():
        model = build_network("cnn", params, shape=(12, 12, 1))
    examples = TrainingSet(images, labels, LabeledInputs(images, labels))
    checkpoint = Checkpoint(sources=dict(), parameters=dict(), data="")
    trained = train_model(model, examples, params.training, checkpoint, replicas, forward)
    weights = sha256(b"".join(value.tobytes() for value in model.get_weights())).hexdigest()
    losses = [[epoch.loss, epoch.validation_loss] for epoch in trained.epochs]
    results.append(dict(losses=losses, weights=weights, accuracy=trained.best.accuracy))
print(json.dumps(results))
"""


def find_ports(count: int) -> list[int]:
    """Return free ports of 127.0.0.1, below the ports that systems give to other programs."""
    ports: set[int] = set()
    while len(ports) < count:
        port = random.SystemRandom().randrange(10_000, 30_000)
        with suppress(OSError), socket.create_server(("127.0.0.1", port)):
            ports.add(port)
    return sorted(ports)


def describe_workers(count: int = 2) -> list[dict[str, str]]:
    """Return the environment of each worker."""
    cluster = {"worker": [f"127.0.0.1:{port}" for port in find_ports(count)]}
    return [
        {"TF_CONFIG": json.dumps({"cluster": cluster, "task": {"type": "worker", "index": index}})}
        for index in range(count)
    ]


def start(folder: Path, command: Sequence[str | Path], environment: dict[str, str]) -> Popen:
    import_libraries()
    return Popen(
        [sys.executable, *command], cwd=folder, env={**os.environ, **environment},
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip


def finish(process: Popen) -> str:
    """Return what a process prints; the process must succeed without a warning."""
    output, errors = process.communicate(timeout=LONGEST_WAIT_S)
    assert (process.returncode, errors) == (0, "")
    return output


def train(
    folder: Path, replicas: Sequence[int], *, devices: int = 1, workers: int = 1
) -> list[dict[str, Any]]:
    """Return the results of all trainings of all workers."""
    folder.mkdir()
    environments = describe_workers(workers) if workers > 1 else [{}]
    command = ["-c", TRAIN, str(devices), *map(str, replicas)]
    processes = [start(folder, command, more) for more in environments]
    return [
        found for process in processes for found in json.loads(finish(process).splitlines()[-1])
    ]


def test_replicas_train_as_one_device_does(tmp_path: Path) -> None:
    """Two workers are equal, and so are two runs; one device differs by rounding errors only."""
    one, mirrored, again = train(tmp_path / "one host", [1, 2, 2], devices=2)
    first_worker, second_worker = train(tmp_path / "two hosts", [2], workers=2)
    assert again == mirrored
    assert second_worker == first_worker
    assert one["losses"][-1][0] < one["losses"][0][0]
    # Replicas add up the same numbers in another order. A rounding error is at most eps / 2, and
    # the errors of n terms add up to sqrt(n) times as much, in each of the two sums. The longest
    # sums are sums of gradients, over the pixels of a batch. Each step adds its own errors.
    terms = EASY_PARAMS.training.batch_size * 12 * 12
    steps = EPOCHS * math.ceil(EXAMPLES / EASY_PARAMS.training.batch_size)
    bound = float(steps * math.sqrt(terms) * np.finfo(np.float32).eps)
    for several in (mirrored, first_worker):
        for found, expected in zip(several["losses"], one["losses"], strict=True):
            assert found == pytest.approx(expected, rel=bound)
        # An image with two nearly equal probabilities may get another class.
        assert abs(several["accuracy"] - one["accuracy"]) * EXAMPLES < 1.5


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project whose training on two replicas can begin; it has dropout and random layers."""
    from support import PARAMS, ROOT

    folder = tmp_path_factory.mktemp("replicas") / "project"
    (folder / "data").mkdir(parents=True)
    (folder / ".dvc").mkdir()
    shutil.copy(ROOT / "data" / "catalog.yaml", folder / "data")
    for name in ("pyproject.toml", "dvc.yaml"):
        shutil.copy(ROOT / name, folder)
    value = PARAMS.model_dump()
    value["preprocess"] |= {"max_per_class": 40, "test_frac": 0.0335}
    value["augment"]["copies"] = 1
    value["arithmetic"] = "native"
    value["training"] |= {"replicas": 2, "epochs": 6, "random_translation_frac": 0.1}
    set_params(folder, value)
    for stage in ("fetch", "preprocess", "augment"):
        run(folder, stage)
    return folder


@pytest.fixture
def projects(prepared: Path, tmp_path: Path) -> list[Path]:
    """A copy of the project for each worker, as on two machines."""
    return [shutil.copytree(prepared, tmp_path / f"host-{number}") for number in range(2)]


def start_training(projects: list[Path]) -> list[Popen]:
    """Start the workers, which share the state of the first project."""
    shared = {"DVC_ROOT": projects[0].as_posix()}
    return [
        start(folder, [SRC / "train.py"], environment | shared)
        for folder, environment in zip(projects, describe_workers(), strict=True)
    ]


def test_a_training_resumes_after_a_worker_was_killed(projects: list[Path]) -> None:
    """The network has the same bytes as without the kill; only the chief writes files."""
    for process in start_training(projects):
        finish(process)
    model, metrics = projects[0] / "models/model.keras", projects[0] / "metrics"
    expected = hash_file(model), hash_file(metrics / "history.csv")
    checkpoints = projects[0] / ".dvc/tmp/imgpipe/checkpoints"
    assert list(checkpoints.iterdir()) == []
    assert not (projects[1] / "models").exists()
    assert not (projects[1] / "metrics/train.json").exists()
    shutil.rmtree(projects[0] / "models")
    shutil.rmtree(metrics)

    chief, worker = start_training(projects)
    wait_until(lambda: list(checkpoints.rglob("state.npz")), pause_s=0.01)
    worker.send_signal(signal.SIGKILL)
    _, errors = chief.communicate(timeout=LONGEST_WAIT_S)
    assert chief.returncode == 1
    (line,) = errors.splitlines()
    assert line.startswith("error: train: another worker in TF_CONFIG stopped or does not answer")
    assert not model.exists()
    worker.communicate()

    chief, worker = start_training(projects)
    assert "train: resuming after " in finish(chief)
    finish(worker)
    assert (hash_file(model), hash_file(metrics / "history.csv")) == expected


def test_workers_with_different_parameters_are_refused(projects: list[Path]) -> None:
    set_leaf(projects[1], "training.learning_rate", 0.004)
    for process in start_training(projects):
        _, errors = process.communicate(timeout=LONGEST_WAIT_S)
        assert process.returncode == 1
        assert errors == (
            "error: train: the workers in TF_CONFIG have different code, libraries, parameters or"
            " data; start all workers at the same commit, with the same data, and in a folder that"
            " all of them share\n"
        )
