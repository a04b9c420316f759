"""Report on a folder of images, or on a dataset of the catalog, before any training.

    python src/data_report.py [FOLDER [--labels TABLE | --pattern REGEX] | --name NAME]

Copies and near copies with their pictures, pictures with two labels, unreadable files, sizes, and
the images of each class and split. Without FOLDER and NAME: the dataset in params.yaml.

Reads   FOLDER, which is not changed, or the files of the dataset; `preprocess` in params.yaml
Writes  data_report.html and data_report.json, which git ignores; the outputs of the stages stay as
        they are
Costs   one pass over the images, in parallel; a copy of the files on the disk during the run
"""

from imgpipe.console.command_line import make_parser
from imgpipe.console.messages import report
from imgpipe.core.errors import PipelineError, run_script
from imgpipe.intake.data_report import write_report
from imgpipe.intake.label_sources import add_label_options
from imgpipe.settings.params import load_params


def main() -> None:
    parser = make_parser(__doc__)
    parser.add_argument("folder", metavar="FOLDER", nargs="?", default="", help="your folder")
    parser.add_argument("--name", default="", metavar="NAME", help="a dataset of the catalog")
    add_label_options(parser)
    options = parser.parse_args()
    if options.folder and options.name:
        raise PipelineError("expected FOLDER or NAME, not both")
    if (options.labels or options.pattern) and not options.folder:
        raise PipelineError("LABELS and PATTERN are for a FOLDER; a dataset has its own labels")
    params = load_params()
    dataset = options.name or params.dataset
    report(*write_report(dataset, options.folder, params, options.labels, options.pattern))


if __name__ == "__main__":
    run_script(main)
