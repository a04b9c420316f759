"""A stage as a job of SLURM. A script replaces `sbatch`, because `sbatch` needs a cluster."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from support import SRC, attempt, dvc, make_copy, run, stages_run

SBATCH = f"""#!{sys.executable}
import json, os, subprocess, sys
with open("sbatch.log", "a") as log:
    log.write(json.dumps(sys.argv[1:]) + "\\n")
given = dict(option[2:].partition("=")[::2] for option in sys.argv[1:])
assert "wait" in given and "parsable" in given
print("17;cluster", flush=True)
exported = dict(pair.split("=") for pair in given["export"].split(",")[1:])
with open(given["output"], "a") as output:
    sys.exit(subprocess.run(
        given["wrap"], shell=True, cwd=given["chdir"], env={{**os.environ, **exported}},
        stdout=output, stderr=output,
    ).returncode)
"""
SCANCEL = '#!/bin/sh\necho "$@" > canceled\n'


@pytest.fixture
def slurm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Commands named like the commands of SLURM."""
    folder = tmp_path / "bin"
    folder.mkdir()
    for name, content in (("sbatch", SBATCH), ("scancel", SCANCEL)):
        (folder / name).write_text(content)
        (folder / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}{os.pathsep}{os.environ['PATH']}")


@pytest.fixture
def project(tmp_path: Path) -> Path:
    return make_copy(tmp_path / "a project")


def test_a_stage_runs_as_a_job(project: Path, slurm: None) -> None:
    expected = run(project, "fetch")
    options = "--partition=big --comment='two words'"
    assert run(project, "fetch", IMGPIPE_SBATCH_FETCH=options) == f"fetch: SLURM job 17\n{expected}"
    (line,) = (project / "sbatch.log").read_text().splitlines()
    assert '"--partition=big", "--comment=two words", "--wrap=' in line
    assert run(project, "fetch", IMGPIPE_SBATCH_TRAIN=options) == expected  # another stage
    assert not list(project.glob(".dvc/tmp/imgpipe/jobs/*"))


def test_a_job_that_fails_is_reported(project: Path, slurm: None) -> None:
    result = attempt(project, "preprocess", IMGPIPE_SBATCH_PREPROCESS="--mem=1G")
    assert result.returncode == 1
    assert result.stdout == (
        "preprocess: SLURM job 17\n"
        "error: data/raw/digits.csv.gz: not found; run `dvc repro fetch`\n"
    )
    assert result.stderr == "error: preprocess: SLURM job 17 failed with exit code 1\n"


def test_a_wrong_parameter_is_reported_without_a_job(project: Path, slurm: None) -> None:
    params = project / "params.yaml"
    params.write_text(params.read_text().replace("epochs:", "epoch:"))
    result = attempt(project, "fetch", IMGPIPE_SBATCH_FETCH="--mem=1G")
    assert "unknown key" in result.stderr
    assert not (project / "sbatch.log").exists()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ("--mem=1G", "IMGPIPE_SBATCH_FETCH is set, but there is no command sbatch; run on a"
         " machine of the SLURM cluster, or unset the variable"),
        ("--comment='a", "IMGPIPE_SBATCH_FETCH: expected options of sbatch; No closing quotation"),
    ],
)  # fmt: skip
def test_what_is_wrong_with_the_variable_is_reported(
    project: Path, options: str, message: str
) -> None:
    path = os.pathsep.join(p for p in os.environ["PATH"].split(os.pathsep) if "slurm" not in p)
    result = attempt(project, "fetch", PATH=path, IMGPIPE_SBATCH_FETCH=options)
    assert result.stderr == f"error: {message}\n"


def test_an_interrupted_stage_cancels_its_job(project: Path, slurm: None, tmp_path: Path) -> None:
    (tmp_path / "digits").mkdir()
    os.mkfifo(tmp_path / "digits" / "digits.csv.gz")  # a job that does not end
    with subprocess.Popen(
        # A test in the background of a shell ignores the signal.
        ["env", "--default-signal=INT", sys.executable, SRC / "fetch.py"],
        cwd=project, text=True, start_new_session=True,
        env={**os.environ, "IMGPIPE_SBATCH_FETCH": "--mem=1G", "DATASET_MIRROR": str(tmp_path)},
        stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    ) as process:  # fmt: skip
        assert process.stdout is not None
        assert process.stdout.readline() == "fetch: SLURM job 17\n"
        process.send_signal(signal.SIGINT)  # only to the stage, not to its job
        assert process.wait() == 1
        os.killpg(process.pid, signal.SIGKILL)  # the job, as the real `scancel` does
        _, errors = process.communicate()
    assert (project / "canceled").read_text() == "17\n"
    assert errors.endswith("interrupted\n")


@pytest.mark.e2e
def test_the_variable_does_not_change_a_stage_for_dvc(project: Path, slurm: None) -> None:
    output = dvc(project, "repro", "fetch", IMGPIPE_SBATCH_FETCH="--mem=1G")
    assert stages_run(output) == ["fetch"]
    assert "SLURM job 17" in output
    assert stages_run(dvc(project, "repro", "fetch")) == []
