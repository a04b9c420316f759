"""Run a stage's script; check that its code and values did not change while it ran."""

import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from imgpipe.console.command_line import make_parser
from imgpipe.core.errors import PipelineError, run_script
from imgpipe.core.libraries import check_pins
from imgpipe.core.sources import hash_sources
from imgpipe.core.yaml_file import flatten
from imgpipe.running.entry import StageEntry, read_entries
from imgpipe.running.locks import hold_paths
from imgpipe.running.slurm import read_job_options, run_as_job
from imgpipe.settings.params import Params, load_params


@dataclass(frozen=True)
class StageRun:
    """One run of a stage."""

    params: Params
    entry: StageEntry
    """The entry in dvc.yaml, with the values that DVC records for the stage."""
    sources: Mapping[str, str]
    """The SHA-256 of each source file that the stage depends on, by its name under `src`."""


def run_stage(
    main: Callable[[StageRun], Callable[[], None] | None], description: str | None
) -> None:
    """Run the stage of the script: check all values and the installed libraries, then do the work.

    DVC records the hashes of code and values when a command ends (DVC issue 11058). If a source
    file or a value of the stage changed while the stage ran, DVC would record that the new code
    made the outputs. So the stage fails.

    If an environment variable has options of `sbatch` for the stage, the work is a job of SLURM.

    A `PipelineError` is printed as one line, and the process exits with status 1. The
    work, `main`, may return a function to call after the last check.
    """
    make_parser(description).parse_args()
    stage = Path(sys.argv[0]).stem

    def work() -> None:
        run = prepare_run(stage)
        check_pins(run.entry.groups)
        if options := read_job_options(stage):
            run_as_job(stage, options)
            _check_unchanged(stage, run)
            return
        with hold_paths(stage, written=run.entry.outputs, read=run.entry.data):
            run = prepare_run(stage)  # another run may have ended now
            finish = main(run)
            _check_unchanged(stage, run)
            if finish:
                finish()

    run_script(work)


def prepare_run(stage: str) -> StageRun:
    """Return what a stage uses at this moment.

    Raises:
        PipelineError: params.yaml is not valid, or dvc.yaml has no such stage.
    """
    params = load_params()
    entry = read_entries([stage])[stage]
    return StageRun(params, entry, hash_sources(*entry.sources))


def _check_unchanged(stage: str, run: StageRun) -> None:
    """Check that the code and the values of a run are still the same.

    Raises:
        PipelineError: they have changed.
    """
    now = prepare_run(stage)
    changed = [name for name in run.sources if now.sources.get(name) != run.sources[name]]
    for file, values in run.entry.values.items():
        before, after = flatten(values), flatten(now.entry.values.get(file, {}))
        keys = dict.fromkeys([*before, *after])
        changed += [key for key in keys if before.get(key) != after.get(key)]
    if changed:
        raise PipelineError(
            f"{', '.join(changed)} changed while the stage was running: the outputs are stale;"
            " run the stage again"
        )
