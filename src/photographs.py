"""Train a classifier on your own folder of photographs, and report how good it is.

    python src/photographs.py FOLDER [--name NAME] [--labels TABLE | --pattern REGEX]

Makes a dataset of the folder, as `python src/dataset.py` does; writes the values of the recipe
`photographs`, with this dataset, into params.yaml; runs the pipeline. A folder is accepted once:
afterwards, `make run` resumes or repeats the run.

Reads   FOLDER, which is not changed
Writes  data/local/NAME, an entry in data/catalog.yaml, params.yaml, the outputs of all stages
Costs   the estimated time and disk are printed before the run
"""

from imgpipe.console.command_line import make_parser
from imgpipe.console.messages import report
from imgpipe.core.errors import run_script
from imgpipe.experiments.pipeline import describe_cost, describe_result, run_pipeline, share_outputs
from imgpipe.experiments.recipes import apply_change, describe_change, plan_change
from imgpipe.intake.adding import add_dataset, plan_dataset
from imgpipe.intake.label_sources import add_label_options, find_label_source
from imgpipe.intake.labeled_survey import survey_photographs
from imgpipe.settings.params import load_params

RECIPE = "photographs"


def main() -> None:
    parser = make_parser(__doc__)
    parser.add_argument("folder", metavar="FOLDER", help="your folder of photographs")
    parser.add_argument("--name", default="", metavar="NAME", help="by default the folder's name")
    add_label_options(parser)
    options = parser.parse_args()
    new = plan_dataset(options.folder, options.name)
    labels = find_label_source(
        new.source, options.labels, options.pattern, is_in_place=new.is_in_place
    )
    survey = survey_photographs(new.source, labels)
    change = plan_change(RECIPE, dataset=new.name, groups="column" if survey.has_groups else "none")
    report(*survey.describe())
    report(add_dataset(new, survey.top, survey.files, survey.counts, survey.splits, labels))
    report(*describe_change(change))
    apply_change(change)
    report(describe_cost(len(survey.images), survey.size_bytes, load_params()))
    run_pipeline()
    share_outputs()
    report(*describe_result())


if __name__ == "__main__":
    run_script(main)
