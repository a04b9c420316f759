"""Run a stage as a job of SLURM, if an environment variable says so.

The command of the stage in dvc.yaml stays the same: with another command, DVC would run the stage
again. `sbatch --wait` waits for the job and returns its exit code, so DVC sees an ordinary command.
Own code, because submitit 1.5 runs a pickled function, and not the command that DVC records.
Source: https://slurm.schedmd.com/sbatch.html
"""

import os
import shlex
import subprocess
import sys
import time
from pathlib import Path
from uuid import uuid4

from imgpipe.console.messages import report
from imgpipe.core.dvc_tmp import folder_path
from imgpipe.core.errors import PipelineError
from imgpipe.core.files import PARTIAL_SUFFIX

_PAUSE_S = 0.5


def read_job_options(stage: str) -> list[str]:
    """Return the options of `sbatch` for a stage; an empty list if the stage runs here.

    For the stage `train`, the variable is IMGPIPE_SBATCH_TRAIN, for example "--gres=gpu:1".

    Raises:
        PipelineError: the options have a quotation mark without its partner.
    """
    try:
        return shlex.split(os.environ.get(_variable(stage), ""))
    except ValueError as error:
        raise PipelineError(f"{_variable(stage)}: expected options of sbatch; {error}") from None


def run_as_job(stage: str, options: list[str]) -> None:
    """Submit the script that runs now as a job, print its output, and wait for its end.

    If this process is interrupted, the job is canceled. If this process is killed, the job
    continues: cancel it before the stage runs again.

    Raises:
        PipelineError: there is no `sbatch`, or the job failed.
    """
    folder = folder_path("jobs") or Path()  # on a file system that the job's machine shares
    folder.mkdir(parents=True, exist_ok=True)
    output = (folder / f"{stage}-{uuid4().hex}{PARTIAL_SUFFIX}").resolve()
    command = [
        "sbatch", "--wait", "--parsable", f"--job-name=imgpipe-{stage}", f"--chdir={Path.cwd()}",
        f"--output={output}", f"--export=ALL,{_variable(stage)}=", *options,
        f"--wrap={shlex.join([sys.executable, *sys.argv])}",
    ]  # fmt: skip
    output.touch()
    try:
        _submit(stage, command, output)
    finally:
        output.unlink(missing_ok=True)


def _submit(stage: str, command: list[str], output: Path) -> None:
    try:
        process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    except FileNotFoundError:
        raise PipelineError(
            f"{_variable(stage)} is set, but there is no command sbatch; run on a machine of the"
            " SLURM cluster, or unset the variable"
        ) from None
    with process, output.open(encoding="utf-8", errors="replace") as stream:
        assert process.stdout is not None
        job = ""
        try:
            job = process.stdout.readline().strip().split(";")[0]  # then the name of the cluster
            if job:
                report(f"{stage}: SLURM job {job}")
            while process.poll() is None:
                time.sleep(_PAUSE_S)
                print(stream.read(), end="", flush=True)
        except BaseException:
            if job:
                subprocess.run(["scancel", job], check=False)
            raise
        print(stream.read(), end="", flush=True)
    if process.returncode:
        what = f"SLURM job {job}" if job else "sbatch"
        raise PipelineError(f"{stage}: {what} failed with exit code {process.returncode}")


def _variable(stage: str) -> str:
    return f"IMGPIPE_SBATCH_{stage.upper()}"
