"""Make a dataset of your own folder of photographs.

    python src/dataset.py FOLDER [--name NAME]

FOLDER holds a folder for each class; or folders named train, validation and test, each with a
folder for each class. Prints the classes, the sizes, and the files that are not images.

Reads   FOLDER, which is not changed
Writes  data/local/NAME: hard links to your files if they are on the same disk, else copies;
        an entry at the end of data/catalog.yaml
Costs   reading the beginning of each file; copying the files if they are on another disk
"""

import argparse

from imgpipe.core.errors import run_script
from imgpipe.core.messages import report
from imgpipe.datasets.adding import add_dataset, plan_dataset
from imgpipe.preprocessing.survey import survey_folder


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", metavar="FOLDER", help="your folder of photographs")
    parser.add_argument("--name", default="", metavar="NAME", help="by default the folder's name")
    options = parser.parse_args()
    new = plan_dataset(options.folder, options.name)
    survey = survey_folder(new.source)
    report(*survey.describe())
    report(add_dataset(new, survey.top, survey.images, survey.counts, survey.splits))
    report(f"to use the dataset: set `dataset: {new.name}` in params.yaml, then `make run`")


if __name__ == "__main__":
    run_script(main)
