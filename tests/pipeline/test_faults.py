"""Outputs are correct although a stage was killed, or a file was edited while it ran."""

import json
import os
import random
import re
import signal
import subprocess
import time
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from pathlib import Path

import pandas as pd
import psutil
import pytest
from forks import Popen, import_libraries
from support import (
    KILL_SEED,
    copy_project,
    dvc,
    git,
    hash_file,
    set_leaf,
    stages_run,
    wait_until,
)

pytestmark = pytest.mark.e2e

# For each stage: the number of kills, and its approximate duration in seconds. A kill comes at a
# random moment of this duration. Most kills are in stages that take little time.
KILLS = {
    "fetch": (6, 0.6),
    "preprocess": (6, 1.2),
    "augment": (5, 1.2),
    "train": (2, 5.0),
    "evaluate": (1, 1.5),
    "plot": (1, 4.0),
}

# Without these options, DVC would restore the outputs of an earlier run from its cache.
REALLY = ("--force", "--single-item", "--no-run-cache")


@pytest.fixture(scope="module")
def project(finished: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the project in which the pipeline has run, quickly, on some of the digits."""
    return copy_project(finished, tmp_path_factory.mktemp("faults") / "project")


def results(folder: Path) -> dict[str, str]:
    """Hash the lock, which holds the hashes of all outputs, and the outputs that git tracks."""
    files = [folder / "dvc.lock", *sorted((folder / "metrics").rglob("*.*"))]
    return {path.relative_to(folder).as_posix(): hash_file(path) for path in files}


def start(folder: Path, *arguments: str) -> Popen:
    """Start DVC in a new process group."""
    import_libraries()
    return Popen(
        ["dvc", *arguments],
        cwd=folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )


def wait_for(process: Popen, text: str) -> None:
    assert process.stdout is not None
    seen = []
    for line in process.stdout:
        seen.append(line)
        if text in line:
            return
    process.communicate()
    raise AssertionError(f"ended without {text!r}: {''.join(seen)}")


def kill(process: Popen) -> None:
    """Kill DVC and the stage that it runs."""
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate()


def find_children(process: Popen) -> list[psutil.Process]:
    """Return the stage that DVC runs, and its workers; nothing if DVC has ended."""
    found: list[psutil.Process] = []
    with suppress(psutil.NoSuchProcess):
        found = psutil.Process(process.pid).children(recursive=True)
    return found


def has_begun(process: Popen) -> bool:
    """Return whether a stage runs, or has ended."""
    return bool(find_children(process)) or process.poll() is not None


@pytest.mark.parametrize("stage", KILLS)
def test_a_killed_stage_gives_the_same_bytes_when_it_runs_again(project: Path, stage: str) -> None:
    expected = results(project)
    kills, longest_s = KILLS[stage]
    moments = random.Random(f"{KILL_SEED} {stage}")
    hits = 0
    while hits < kills:
        process = start(project, "repro", *REALLY, stage)
        wait_for(process, f"> python src/{stage}.py")
        wait_until(partial(has_begun, process), pause_s=0.001)
        moment_s = moments.uniform(0, longest_s)
        time.sleep(moment_s)
        processes = find_children(process)
        for child in processes:  # the stage and its workers, not DVC
            with suppress(psutil.NoSuchProcess):
                child.kill()
        output, _ = process.communicate()
        print(f"{stage}: killed {len(processes)} processes after {moment_s:.2f} s: {output}")
        if process.returncode == 0:
            longest_s *= 0.7  # the kill came too late
            continue
        hits += 1
        assert stages_run(dvc(project, "repro", *REALLY, stage)) == [stage]
        assert results(project) == expected
        assert git(project, "status", "--porcelain") == ""
        assert not list((project / ".dvc" / "tmp").glob("imgpipe/checkpoints/*"))
    assert stages_run(dvc(project, "repro", "--no-run-cache")) == []
    leftovers = [path for path in project.rglob("*.partial") if ".dvc" not in path.parts]
    assert leftovers == []


def kill_after_epochs(folder: Path, epoch: int, *arguments: str) -> None:
    process = start(folder, *arguments)
    wait_for(process, f"epoch {epoch:3d}/")
    kill(process)


def test_a_killed_training_resumes_after_the_last_finished_epoch(project: Path) -> None:
    expected = results(project)
    for epoch in (4, 8):
        kill_after_epochs(project, epoch, "repro", *REALLY, "train")
        # The metrics of the finished epochs are written.
        history = pd.read_csv(project / "metrics" / "history.csv")
        assert history["epoch"].tolist() == list(range(1, len(history) + 1))
        assert epoch <= len(history) < 12
        trained = json.loads((project / "metrics" / "train.json").read_text())
        assert trained["epochs"] in (len(history) - 1, len(history))
        assert trained["validation_loss"] in history["validation_loss"].to_list()
    output = dvc(project, "repro", *REALLY, "train")
    assert re.search("train: resuming after ([89]|1[012]) of 12 epochs", output)
    assert "epoch   8/12" not in output
    assert results(project) == expected


def test_with_other_parameters_training_starts_again(project: Path) -> None:
    expected = results(project)
    kill_after_epochs(project, 4, "repro", *REALLY, "train")
    set_leaf(project, "training.seed", 2)
    assert "train: resuming" not in dvc(project, "repro", *REALLY, "train")
    git(project, "checkout", "--", ".")
    assert "train: resuming after" in dvc(project, "repro", *REALLY, "train")
    dvc(project, "repro")
    assert results(project) == expected


@pytest.mark.parametrize("place", ["in-place", "temporary"])
def test_a_killed_experiment_resumes(project: Path, place: str) -> None:
    expected = results(project)
    seed = {"in-place": 3, "temporary": 4}[place]
    arguments = ["exp", "run", "--set-param", f"training.seed={seed}", "train"]
    if place == "temporary":  # in a copy that DVC deletes after the run
        arguments.insert(2, "--temp")
    kill_after_epochs(project, 5, *arguments)
    git(project, "checkout", "--", ".")
    output = dvc(project, *arguments)
    assert "train: resuming after" in output
    assert "epoch   5/12" not in output
    git(project, "checkout", "--", ".")
    dvc(project, "checkout", "dvc.yaml")
    assert results(project) == expected


def find_training(folder: Path) -> psutil.Process | None:
    """Return the process that trains in a temporary copy of a project."""
    for process in psutil.process_iter():
        with suppress(psutil.Error):
            if process.cmdline()[1:] == ["src/train.py"] and Path(process.cwd()).is_relative_to(
                folder / ".dvc" / "tmp"
            ):
                return process
    return None


def test_a_killed_experiment_of_a_queue_resumes(project: Path, tmp_path: Path) -> None:
    def queue_and_start() -> None:
        dvc(project, "exp", "run", "--queue", "--set-param", "training.seed=5", "train")
        with (tmp_path / "queue.log").open(
            "w"
        ) as stream:  # the workers of the queue keep this file open
            subprocess.run(
                ["dvc", "queue", "start"], cwd=project, stdout=stream, stderr=stream, check=True
            )

    def ended(word: str) -> Callable[[], bool]:
        return lambda: word in dvc(project, "queue", "status")

    queue_and_start()
    training = wait_until(lambda: find_training(project), pause_s=1)
    wait_until(
        lambda: list((project / ".dvc" / "tmp" / "imgpipe" / "checkpoints").glob("*/state.npz"))
    )
    training.kill()
    wait_until(ended("Failed"), pause_s=4)
    queue_and_start()
    wait_until(ended("Success"), pause_s=4)
    logs = "".join(path.read_text() for path in (project / ".dvc" / "tmp").rglob("*.out"))
    assert "train: resuming after" in logs


def test_code_edited_during_a_run_is_not_recorded(project: Path, tmp_path: Path) -> None:
    folder = copy_project(project, tmp_path / "project")
    before = (folder / "dvc.lock").read_text()
    process = start(folder, "repro", *REALLY, "train")
    wait_for(process, "epoch   2/")
    source = folder / "src" / "imgpipe" / "nn" / "training" / "loop.py"
    source.write_text(source.read_text() + "\n# edited\n")
    output, _ = process.communicate()
    assert process.returncode != 0
    assert "error: imgpipe/nn/training/loop.py changed while the stage was running" in output
    assert (folder / "dvc.lock").read_text() == before
    assert stages_run(dvc(folder, "repro", "--dry", "train")) == ["train"]


def test_a_parameter_changed_during_a_run_is_not_recorded(project: Path, tmp_path: Path) -> None:
    folder = copy_project(project, tmp_path / "project")
    process = start(folder, "repro", *REALLY, "train")
    wait_for(process, "epoch   2/")
    set_leaf(folder, "training.learning_rate", 0.1)
    set_leaf(folder, "plot.mistakes", 3)  # which this stage does not use
    output, _ = process.communicate()
    assert process.returncode != 0
    assert "error: training.learning_rate changed while the stage was running" in output
    # With the old value, no epoch is repeated.
    set_leaf(folder, "training.learning_rate", 0.002)
    output = dvc(folder, "repro", *REALLY, "train")
    assert "train: resuming after 12 of 12 epochs" in output
    assert (folder / "metrics" / "history.csv").read_bytes() == (
        project / "metrics" / "history.csv"
    ).read_bytes()
