"""Do one piece of work in the current project; print images and seconds, without imports."""

import sys
import time
from pathlib import Path


def main() -> None:
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
