"""Compare two runs on shared test images: their differences, a verdict, and its significance.

    python src/compare.py [A [B]] [--json] [--html FILE]

A and B are commits, branches, tags, experiments of `dvc exp run`, or "workspace", the last run
here. The defaults are HEAD and workspace. Predictions come from the workspace, DVC's cache or its
remote; no stage is run and nothing is checked out. If the test sets differ, for example because a
folder has grown, the comparison is on the images that both have. Runs of different datasets, and
runs that share less than half of the larger test set, are refused.

Costs   a few seconds; no TensorFlow
"""

import argparse
from pathlib import Path

from imgpipe.core.errors import run_script
from imgpipe.experiments.comparison import compare_runs
from imgpipe.experiments.comparison_report import render_json, render_text, write_html
from imgpipe.experiments.run import load_run


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("first", nargs="?", default="HEAD", metavar="A")
    parser.add_argument("second", nargs="?", default="workspace", metavar="B")
    parser.add_argument("--json", action="store_true", help="print JSON instead of text")
    parser.add_argument("--html", type=Path, metavar="FILE", help="also write a page")
    options = parser.parse_args()
    compared = compare_runs(load_run(options.first), load_run(options.second))
    print(render_json(compared) if options.json else render_text(compared))
    if options.html:
        write_html(compared, options.html)


if __name__ == "__main__":
    run_script(main)
