"""Compare two runs on their common test images: what differs, which is better, by chance or not.

    python src/compare.py [A [B]] [--json] [--html FILE]

A and B are commits, branches, tags, experiments of `dvc exp run`, or "workspace" (the last run in
this folder). The defaults are HEAD and workspace. The predictions are read from the workspace,
DVC's cache or a remote; no stage is run and nothing is checked out. If the test sets differ, for
example after you added photographs, the images of both sets are compared. Runs of different
datasets, and runs that share less than half of the larger test set, are refused.

Costs   a few seconds; no TensorFlow
"""

from pathlib import Path

from imgpipe.console.command_line import make_parser
from imgpipe.console.messages import report
from imgpipe.core.errors import run_script
from imgpipe.experiments.comparison import compare_runs
from imgpipe.experiments.comparison_report import render_json, render_text, write_html
from imgpipe.experiments.run import load_run


def main() -> None:
    parser = make_parser(__doc__)
    parser.add_argument("first", nargs="?", default="HEAD", metavar="A")
    parser.add_argument("second", nargs="?", default="workspace", metavar="B")
    parser.add_argument("--json", action="store_true", help="print JSON instead of text")
    parser.add_argument("--html", type=Path, metavar="FILE", help="also write an HTML page")
    options = parser.parse_args()
    compared = compare_runs(load_run(options.first), load_run(options.second))
    if options.json:
        print(render_json(compared))
    else:
        report(*render_text(compared).splitlines())
    if options.html:
        write_html(compared, options.html)


if __name__ == "__main__":
    run_script(main)
