"""Make a dataset of your own folder of photographs, or of archives at an address.

    python src/dataset.py FOLDER [--name NAME] [--labels TABLE | --pattern REGEX]

FOLDER holds a folder for each class; or folders named train, validation and test, each with a
folder for each class; or images whose labels are in a table or in their names. Prints the classes,
the sizes, and the files that are not images. Or it is an address with zip and tar archives, such as
s3://bucket/folder, which stay there.

Reads   FOLDER, which is not changed
Writes  data/local/NAME: hard links to your files if they are on the same disk, else copies;
        an entry at the end of data/catalog.yaml
        Of archives, only data/local/NAME/manifest.csv, their list with sizes and SHA-256
Costs   reading the beginning of each file; copying the files if they are on another disk. Archives
        are read whole
"""

from imgpipe.console.command_line import make_parser
from imgpipe.console.messages import report
from imgpipe.core.errors import run_script
from imgpipe.intake.adding import add_archives, add_dataset, format_choice, plan_dataset
from imgpipe.intake.label_sources import add_label_options, find_label_source
from imgpipe.intake.labeled_survey import survey_photographs

_NEXT = "to use the dataset: set `{}` in params.yaml, then `make run`"


def main() -> None:
    parser = make_parser(__doc__)
    parser.add_argument("folder", metavar="FOLDER", help="your folder, or an address")
    parser.add_argument("--name", default="", metavar="NAME", help="by default the folder's name")
    add_label_options(parser)
    options = parser.parse_args()
    if "://" in options.folder:
        name, lines = add_archives(options.folder, options.name)
        report(*lines, _NEXT.format(format_choice(name)))
        return
    new = plan_dataset(options.folder, options.name)
    labels = find_label_source(
        new.source, options.labels, options.pattern, is_in_place=new.is_in_place
    )
    survey = survey_photographs(new.source, labels)
    report(*survey.describe())
    report(add_dataset(new, survey.top, survey.files, survey.counts, survey.splits, labels))
    report(_NEXT.format(format_choice(new.name)))


if __name__ == "__main__":
    run_script(main)
