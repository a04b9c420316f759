"""Report the last run: test accuracy, worst class, number of mistakes, paths of card and pictures.

`make run` runs this script at its end. The script first links the outputs to the files in DVC's
cache, so that they share the disk.

Reads   data/records/info.json, metrics/test.json, metrics/per_class.csv
"""

from imgpipe.console.messages import report
from imgpipe.core.errors import run_script
from imgpipe.experiments.pipeline import describe_result, share_outputs


def main() -> None:
    share_outputs()
    report(*describe_result())


if __name__ == "__main__":
    run_script(main)
