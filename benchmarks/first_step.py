"""Run the `train` stage in the current project up to its first step, and stop there."""

import os
import runpy
from pathlib import Path
from typing import NoReturn

from imgpipe.nn.common import runtime  # noqa: F401  # first: it decides what Keras loads
from imgpipe.nn.training.steps import Steps

TRAIN = Path(__file__).resolve().parent.parent / "src" / "train.py"


def stop(*_: object, **__: object) -> NoReturn:
    os._exit(0)


# It is called when everything is ready for the first step.
Steps.train = stop  # type: ignore[method-assign]
runpy.run_path(str(TRAIN), run_name="__main__")
raise SystemExit("first_step.py: `train` ended without a step of training")
