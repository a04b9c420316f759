"""Print one line about the last run: test accuracy, and where the pictures are.

Reads   data/records/info.json, metrics/test.json
"""

from pathlib import Path

from imgpipe.core.errors import run_script
from imgpipe.core.files import read_json
from imgpipe.records.info import read_info


def main() -> None:
    scores = read_json(Path("metrics/test.json"))
    print(
        f"{read_info(Path('data/records')).dataset}: test accuracy {scores['accuracy']:.4f}"
        f" (95 % interval {scores['accuracy_low']:.4f} to {scores['accuracy_high']:.4f},"
        f" {scores['images']} images); pictures in metrics/plots, model card metrics/report.html"
    )


if __name__ == "__main__":
    run_script(main)
