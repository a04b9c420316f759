"""Report the last run: test accuracy, the worst class, the mistakes, and where the pictures are.

`make run` ends with it. First it lets the outputs share the disk with DVC's cache.

Reads   data/records/info.json, metrics/test.json, metrics/per_class.csv
"""

from imgpipe.core.errors import run_script
from imgpipe.experiments.pipeline import describe_result, share_outputs


def main() -> None:
    share_outputs()
    for line in describe_result():
        print(line)


if __name__ == "__main__":
    run_script(main)
