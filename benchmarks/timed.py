"""Do one piece of work in the current project; print images and seconds, without imports.

python timed.py preprocess|read|load
python timed.py train KEY=VALUE ...
"""

import sys
import time
from pathlib import Path
from typing import Any


def main() -> None:
    if sys.argv[1] == "train":
        train(sys.argv[2:])
        return
    seconds = {"preprocess": preprocess, "read": read, "load": load}[sys.argv[1]]()
    from imgpipe.records import read_info

    info = read_info(Path("data/records"))
    print(sum(split.examples for split in info.splits.values()), seconds)


def preprocess() -> float:
    import preprocess
    from imgpipe.params import load_params

    params = load_params()
    start = time.perf_counter()
    preprocess.main(params)
    return time.perf_counter() - start


def train(changes: list[str]) -> None:
    """Run the stage; of its time, that of the epochs counts."""
    import train as stage
    from imgpipe.nn import runtime, training  # noqa: F401, the first quietens TensorFlow's start
    from imgpipe.params import load_params

    whole, told = training.train_model, []

    def timed(*arguments: Any, **options: Any) -> Any:
        start = time.perf_counter()
        history = whole(*arguments, **options)
        told.append((len(history) * len(arguments[2]), time.perf_counter() - start))
        return history

    training.train_model = timed
    stage.main(load_params(changes=changes))
    print(*told[0])


def read() -> float:
    from imgpipe.records import read_info, read_split

    start = time.perf_counter()
    info = read_info(Path("data/records"))
    for split in info.splits:
        for _ in read_split(Path("data/records"), info, split):
            pass
    return time.perf_counter() - start


def load() -> float:
    from imgpipe.nn import runtime  # noqa: F401, first: it quietens TensorFlow's start
    from imgpipe.nn.dataset import load_split
    from imgpipe.records import read_info

    start = time.perf_counter()
    info = read_info(Path("data/records"))
    for split in info.splits:
        load_split(Path("data/records"), info, split)
    return time.perf_counter() - start


if __name__ == "__main__":
    main()
