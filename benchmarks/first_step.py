"""Run the `train` stage in the current project up to its first step, and stop there."""

import os
from typing import NoReturn

import train
from imgpipe.core.stage import run_stage
from imgpipe.nn.common import runtime  # first: it decides what Keras loads


def stop(*_: object, **__: object) -> NoReturn:
    os._exit(0)


# What `fit` calls when all is ready for the first step.
runtime.keras.Model.make_train_function = stop  # type: ignore[attr-defined]  # not its own
run_stage(train.main, train.uses, __doc__)
