"""Run a stage's script; check that its code and parameters did not change while it ran."""

import argparse
import hashlib
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel

from imgpipe.core.errors import PipelineError, run_script
from imgpipe.core.libraries import check_pins
from imgpipe.core.slurm import read_job_options, run_as_job

ParamsT = TypeVar("ParamsT")

_SOURCES = Path(__file__).resolve().parents[2]
_SOURCE_SUFFIXES = (".py", ".html")


def run_stage(
    main: Callable[[ParamsT], Callable[[], None] | None],
    *,
    load_params: Callable[[], ParamsT],
    uses: Callable[[ParamsT], Mapping[str, Any]],
    libraries: Sequence[str],
    description: str | None,
) -> None:
    """Run a stage: check params.yaml and the installed libraries, then do the work.

    DVC records the hashes of code and parameters when a command ends (DVC issue 11058). If a module
    or a parameter changed while the stage ran, DVC would record that the new code made the
    outputs. So the stage fails.

    If an environment variable has options of `sbatch` for the stage, the work is a job of SLURM.

    A `PipelineError` is printed as one line, and the process exits with status 1.

    Args:
        main: the work of the stage; may return a function to call after the last check.
        load_params: reads and checks the whole of params.yaml.
        uses: the values that the stage reads, by dotted key.
        libraries: the groups of pyproject.toml whose libraries the stage imports.
        description: for `--help`.
    """
    argparse.ArgumentParser(
        description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    ).parse_args()

    def work() -> None:
        sources = hash_sources()
        params = load_params()
        used = uses(params)
        check_pins(libraries)
        finish = None
        if options := read_job_options(stage := Path(sys.argv[0]).stem):
            run_as_job(stage, options)
        else:
            finish = main(params)
        sources_now = hash_sources()
        changed = [name for name in loaded_sources() if sources_now.get(name) != sources.get(name)]
        changed += _find_changes(used, uses(load_params()))
        if changed:
            raise PipelineError(
                f"{', '.join(changed)} changed while the stage was running: the outputs are stale;"
                " run the stage again"
            )
        if finish:
            finish()

    run_script(work)


def hash_sources() -> dict[str, str]:
    """Return the SHA-256 of every source file of the project, by its name under `src`."""
    hashes = {}
    for name in _list_sources():
        with suppress(FileNotFoundError):  # an editor may replace the file at this moment
            hashes[name] = hashlib.sha256((_SOURCES / name).read_bytes()).hexdigest()
    return hashes


def loaded_sources() -> list[str]:
    """Return the names under `src` of the project's modules that this process has imported.

    A page template counts as loaded if a module of the innermost package around it is.
    """
    sources = _list_sources()
    endings = tuple(os.sep + str(Path(name)) for name in sources)
    named = [getattr(module, "__file__", None) for module in list(sys.modules.values())]
    # Resolving the paths of all of TensorFlow's modules would take half a second.
    files = {Path(name).resolve() for name in named if name and name.endswith(endings)}
    modules = {
        file.relative_to(_SOURCES).as_posix() for file in files if file.is_relative_to(_SOURCES)
    }
    loaded_packages = {Path(name).parent for name in modules}
    all_packages = {Path(name).parent for name in sources if name.endswith(".py")}
    templates = {
        name
        for name in sources
        if not name.endswith(".py")
        and next(folder for folder in Path(name).parents if folder in all_packages)
        in loaded_packages - {Path(".")}
    }
    return sorted(modules | templates)


def _list_sources() -> list[str]:
    """Return the names under `src` of the project's modules and page templates."""
    # Hidden files are not listed: editors write lock files such as `.#train.py`, which are links to
    # files that do not exist. Other such links are not listed either.
    return sorted(
        file.relative_to(_SOURCES).as_posix()
        for file in _SOURCES.rglob("[!.]*")
        if file.suffix in _SOURCE_SUFFIXES and file.is_file()
    )


def _find_changes(before: Mapping[str, Any], after: Mapping[str, Any]) -> list[str]:
    """Return the dotted keys of the values that differ."""
    changed = []
    for key in [*before, *(key for key in after if key not in before)]:
        first, second = (
            value.model_dump() if isinstance(value, BaseModel) else value
            for value in (before.get(key), after.get(key))
        )
        if isinstance(first, dict) and isinstance(second, dict):
            changed += [f"{key}.{name}" for name in _find_changes(first, second)]
        elif first != second:
            changed.append(key)
    return changed
