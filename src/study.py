"""Run the missing runs of a study as DVC experiments, and write the results of the study.

    python src/study.py NAME

Reads   studies/NAME.yaml, whose comments state its cost; params.yaml; dvc.lock and outputs of the
        experiments, of HEAD and of the workspace
Writes  an experiment for each missing run (list them with `dvc exp show` or
        `python src/leaderboard.py`); tables, metrics and pictures in studies/NAME
Costs   a few seconds, and the time of the missing runs; the workspace does not change

You may interrupt the study: finished runs are not run again.
"""

from imgpipe.console.command_line import make_parser
from imgpipe.console.messages import report
from imgpipe.core.errors import run_script
from imgpipe.experiments.studies import run_study


def main() -> None:
    parser = make_parser(__doc__)
    parser.add_argument("name", metavar="NAME", help="name of a file in studies, such as bagging")
    report(run_study(parser.parse_args().name))


if __name__ == "__main__":
    run_script(main)
