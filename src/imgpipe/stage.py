"""A stage's script: where its files lie and what its parameters are, from the command line."""

import argparse
import inspect
from collections.abc import Callable
from pathlib import Path

from imgpipe.errors import run_script
from imgpipe.params import load_params


def run_stage(main: Callable[..., None], description: str | None) -> None:
    """Run a stage's `main(params, *, records=Path("data/records"), ...)`.

    `params.yaml` is read and checked before. Each keyword of `main` becomes an option that puts
    that file or folder elsewhere (`--records FOLDER`); `--set KEY=VALUE ...` puts other values
    in the place of those in `params.yaml`. The pipelines in `studies` use both, `dvc.yaml` none.
    """
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
    options = vars(parser.parse_args())
    changes = options.pop("set")
    run_script(lambda: main(load_params(changes=changes), **options))
