"""A stage's script: its command line, and a check that what it used did not change meanwhile."""

import argparse
import hashlib
import inspect
import os
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from imgpipe.errors import PipelineError, run_script
from imgpipe.params import Params, load_params

_SOURCES = Path(__file__).resolve().parent.parent


def run_stage(
    main: Callable[..., Callable[[], None] | None],
    uses: Callable[[Params], Mapping[str, Any]],
    description: str | None,
) -> None:
    """Run a stage's `main(params, *, records=Path("data/records"), ...)`.

    `params.yaml` is read and checked before. Each keyword of `main` becomes an option that puts
    that file or folder elsewhere (`--records FOLDER`); `--set KEY=VALUE ...` puts other values
    in the place of those in `params.yaml`. The pipelines in `studies` use both, `dvc.yaml` none.

    DVC records code and parameters as they are when a command ends. A stage that has run on others
    must therefore fail, or its outputs would be taken for those of the new ones.

    Args:
        main: may return what is to be done when all has gone well.
        uses: of all parameters those that the stage reads, by their dotted names.
    """
    options = vars(_make_parser(main, description).parse_args())
    changes = options.pop("set")

    def work() -> None:
        sources = hash_sources()
        params = load_params(changes=changes)
        used = uses(params)
        finish = main(params, **options)
        sources_now = hash_sources()
        changed = [name for name in loaded_sources() if sources_now.get(name) != sources.get(name)]
        changed += _find_changes(used, uses(load_params(changes=changes)))
        if changed:
            raise PipelineError(
                f"{', '.join(changed)} changed while the stage was running: what it has written is"
                " of before; run it again"
            )
        if finish:
            finish()

    run_script(work)


def hash_sources() -> dict[str, str]:
    """Return the SHA-256 of every source file of the project, by its name under `src`."""
    return {
        name: hashlib.sha256((_SOURCES / name).read_bytes()).hexdigest() for name in _list_sources()
    }


def loaded_sources() -> list[str]:
    """Return the names under `src` of the project's modules that this process has imported."""
    endings = tuple(os.sep + str(Path(name)) for name in _list_sources())
    named = [getattr(module, "__file__", None) for module in list(sys.modules.values())]
    # To resolve the paths of all modules of TensorFlow would take half a second.
    files = {Path(name).resolve() for name in named if name and name.endswith(endings)}
    return sorted(
        file.relative_to(_SOURCES).as_posix() for file in files if file.is_relative_to(_SOURCES)
    )


def _list_sources() -> list[str]:
    return [file.relative_to(_SOURCES).as_posix() for file in sorted(_SOURCES.rglob("*.py"))]


def _find_changes(before: Mapping[str, Any], after: Mapping[str, Any]) -> list[str]:
    """Return the dotted names of the values that differ."""
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


def _make_parser(main: Callable[..., Any], description: str | None) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    for name, parameter in inspect.signature(main).parameters.items():
        if parameter.kind is parameter.KEYWORD_ONLY:
            parser.add_argument(
                f"--{name}",
                type=Path,
                default=parameter.default,
                metavar="PATH",
                help=f"instead of {parameter.default.as_posix()}",
            )
    parser.add_argument(
        "--set",
        nargs="*",
        action="extend",
        default=[],
        metavar="KEY=VALUE",
        help="instead of the value in params.yaml: train.epochs=3",
    )
    return parser
