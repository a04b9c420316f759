"""Do one piece of work in the current project; print images and seconds, without imports.

python timed.py preprocess|augment|read|batches
python timed.py epochs|train KEY=VALUE ...
"""

import sys
import time
from pathlib import Path
from typing import Any

import numpy as np

from imgpipe.records.info import read_augmented_info, read_info
from imgpipe.records.shards import read_split
from imgpipe.settings.params import load_params

RECORDS, AUGMENTED = Path("data/records"), Path("data/augmented")


def preprocess() -> tuple[int, float]:
    import preprocess as stage

    params = load_params()
    start = time.perf_counter()
    stage.main(params)
    seconds = time.perf_counter() - start
    return sum(split.examples for split in read_info(RECORDS).splits.values()), seconds


def augment() -> tuple[int, float]:
    import augment as stage

    params = load_params()
    start = time.perf_counter()
    stage.main(params)
    seconds = time.perf_counter() - start
    return params.augment.copies * read_info(RECORDS).splits["train"].examples, seconds


def read() -> tuple[int, float]:
    start = time.perf_counter()
    info = read_info(RECORDS)
    for split in info.splits:
        for _ in read_split(RECORDS, info, split):
            pass
    return sum(split.examples for split in info.splits.values()), time.perf_counter() - start


def batches() -> tuple[int, float]:
    """Read the training records, and take all batches of all epochs from them."""
    images, reading_s, epochs_s = _take_batches()
    return images, reading_s + epochs_s


def epochs(*changes: str) -> tuple[int, float]:
    """Take all batches of all epochs; reading the records does not count."""
    images, _, epochs_s = _take_batches(*changes)
    return images, epochs_s


def _take_batches(*changes: str) -> tuple[int, float, float]:
    from imgpipe.nn.common.runtime import configure_runtime  # first: it quietens TensorFlow's start

    params = load_params(changes=changes)
    settings = params.train
    configure_runtime(threads=params.threads, seed=1, precision="float32")
    import tensorflow as tf

    from imgpipe.nn.training.training_set import TrainingBatches, is_better_in_memory, name_variants

    start = time.perf_counter()
    info, augmented_info = read_info(RECORDS), read_augmented_info(AUGMENTED)
    images, labels = name_variants(RECORDS, info, AUGMENTED, augmented_info).open(
        in_memory=is_better_in_memory(info)
    )
    read = time.perf_counter()
    numbers = np.arange(len(labels)).reshape(1 + augmented_info.copies, -1)
    labels = labels[numbers[0]]
    of_training = TrainingBatches(
        images, numbers, labels, batch_size=settings.batch_size, seed=settings.seed
    )
    taken = 0
    for epoch in range(settings.epochs):
        # In TensorFlow's own loop, as `fit` does it.
        taken += int(
            of_training.of_epoch(epoch).reduce(
                np.int64(0), lambda count, batch: count + tf.shape(batch[0], tf.int64)[0]
            )
        )
    return taken, read - start, time.perf_counter() - read


def train(*changes: str) -> tuple[int, float]:
    """Run the stage; of its time, that of the epochs counts."""
    import train as stage
    from imgpipe.nn.common import runtime  # noqa: F401, the first quietens TensorFlow's start
    from imgpipe.nn.training import loop  # noqa: F401, the first quietens TensorFlow's start

    whole, told = training.train_model, []

    def timed(*arguments: Any, **options: Any) -> Any:
        start = time.perf_counter()
        history = whole(*arguments, **options)
        told.append((len(history) * len(arguments[3]), time.perf_counter() - start))
        return history

    training.train_model = timed
    stage.main(load_params(changes=changes))
    return told[0]


if __name__ == "__main__":
    images, seconds = {
        "preprocess": preprocess,
        "augment": augment,
        "read": read,
        "batches": batches,
        "epochs": epochs,
        "train": train,
    }[sys.argv[1]](*sys.argv[2:])
    print(images, seconds)
