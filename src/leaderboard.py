"""List HEAD and all experiments, the best first, by validation accuracy (not by test accuracy).

    python src/leaderboard.py [--json]

Runs that differ only by their seeds are one line, with mean and standard deviation. A run that is
found twice counts once. Runs with different validation images are in separate tables, because
their metrics are not comparable. If accuracies are equal, the run with the lower validation loss
(without class weights) comes first.

Reads   dvc.lock and metrics/train.json of HEAD and of each experiment in git
Costs   a fraction of a second for each experiment; no TensorFlow
"""

from imgpipe.console.command_line import make_parser
from imgpipe.console.messages import report
from imgpipe.core.errors import run_script
from imgpipe.experiments.leaderboard import load_runs, rank_runs, render_json, render_text


def main() -> None:
    parser = make_parser(__doc__)
    parser.add_argument("--json", action="store_true", help="print JSON instead of text")
    options = parser.parse_args()
    runs, notes = load_runs()
    if options.json:
        print(render_json(rank_runs(runs), notes))
    else:
        report(*render_text(rank_runs(runs), notes).splitlines())


if __name__ == "__main__":
    run_script(main)
