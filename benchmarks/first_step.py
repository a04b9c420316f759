"""Run the `train` stage in the current project up to its first step, and stop there."""

import os
import runpy
from pathlib import Path
from typing import NoReturn

from imgpipe.nn.common import runtime  # first: it decides what Keras loads

TRAIN = Path(__file__).resolve().parent.parent / "src" / "train.py"


def stop(*_: object, **__: object) -> NoReturn:
    os._exit(0)


# `fit` calls it when everything is ready for the first step.
runtime.keras.Model.make_train_function = stop  # type: ignore[attr-defined]  # not its own
runpy.run_path(str(TRAIN), run_name="__main__")
raise SystemExit("first_step.py: `train` ended without a step of training")
