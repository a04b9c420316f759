"""Do the missing runs of a study as DVC experiments, and write the results.

    python src/study.py NAME

Reads   studies/NAME.yaml; params.yaml; dvc.lock and outputs of the experiments, of HEAD and of the
        workspace
Writes  an experiment for each run that is missing (see them with `dvc exp show` and
        `python src/leaderboard.py`); tables, scores and pictures in studies/NAME
Costs   a few seconds, and the time of the missing runs; the workspace is not touched

Interrupt it at any time: the runs that finished are found again.
"""

import argparse

from imgpipe.core.errors import run_script
from imgpipe.experiments.studies import run_study


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "name", metavar="NAME", help="the name of a file in studies, such as bagging"
    )
    print(run_study(parser.parse_args().name))


if __name__ == "__main__":
    run_script(main)
