"""Do one piece of work in the current project; print images and seconds, without imports.

python timed.py preprocess|augment|read|batches|epochs|train
"""

import inspect
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np

from imgpipe.records.folders import AugmentedRecords, Records
from imgpipe.records.info import read_info
from imgpipe.running.stage import prepare_run
from imgpipe.settings.params import load_params

RECORDS, AUGMENTED = Path("data/records"), Path("data/augmented")


def preprocess() -> tuple[int, float]:
    import preprocess as stage

    start = time.perf_counter()
    stage.main(prepare_run(stage.__name__))
    seconds = time.perf_counter() - start
    return sum(split.examples for split in read_info(RECORDS).splits.values()), seconds


def augment() -> tuple[int, float]:
    import augment as stage

    params = load_params()
    start = time.perf_counter()
    stage.main(prepare_run(stage.__name__))
    seconds = time.perf_counter() - start
    return params.augment.copies * read_info(RECORDS).splits["train"].examples, seconds


def read() -> tuple[int, float]:
    start = time.perf_counter()
    info = read_info(RECORDS)
    for split in info.splits:
        for _ in Records(RECORDS, info).read(split):
            pass
    return sum(split.examples for split in info.splits.values()), time.perf_counter() - start


def batches() -> tuple[int, float]:
    """Read the records of the training, and take all batches of all epochs from them."""
    images, reading_s, epochs_s = _take_batches()
    return images, reading_s + epochs_s


def epochs() -> tuple[int, float]:
    """Take all batches of all epochs; reading the records does not count."""
    images, _, epochs_s = _take_batches()
    return images, epochs_s


def _take_batches() -> tuple[int, float, float]:
    from imgpipe.nn.common.runtime import configure_runtime  # first: it silences TensorFlow's start

    params = load_params()
    settings = params.training
    configure_runtime(
        params.arithmetic,
        native_threads=params.arithmetics.native.threads,
        seed=settings.seed,
    )
    import tensorflow as tf

    from imgpipe.nn.fitting.training_set import open_training_set
    from imgpipe.nn.training.shuffled_batches import TrainingBatches

    start = time.perf_counter()
    records = Records.open(RECORDS)
    training_set = open_training_set(records, AugmentedRecords.open(AUGMENTED, records), None)
    read = time.perf_counter()
    training_batches = TrainingBatches(
        training_set, batch_size=settings.batch_size, seed=settings.seed
    )
    taken = 0
    for epoch in range(settings.epochs):
        # In TensorFlow's own loop, as in training.
        taken += int(
            training_batches.of_epoch(epoch).reduce(
                np.int64(0), lambda count, batch: count + tf.shape(batch[0], tf.int64)[0]
            )
        )
    return taken, read - start, time.perf_counter() - read


def train() -> tuple[int, float]:
    """Run the stage; only the time of `train_model`, the epochs, counts."""
    import train as stage
    from imgpipe.nn.common import runtime  # noqa: F401, the first silences TensorFlow's start
    from imgpipe.nn.training import loop

    train_model, signature = loop.train_model, inspect.signature(loop.train_model)
    measured: list[tuple[int, float]] = []

    def timed(*arguments: Any, **options: Any) -> Any:
        training_set = signature.bind(*arguments, **options).arguments["training_set"]
        start = time.perf_counter()
        history = train_model(*arguments, **options)
        seconds = time.perf_counter() - start
        measured.append((len(history.epochs) * training_set.examples, seconds))
        return history

    loop.train_model = timed  # the stage imports it when it runs
    stage.main(prepare_run("train"))
    return measured[0]


if __name__ == "__main__":
    work = {
        "preprocess": preprocess,
        "augment": augment,
        "read": read,
        "batches": batches,
        "epochs": epochs,
        "train": train,
    }
    images, seconds = work[sys.argv[1]]()
    print(images, seconds)
