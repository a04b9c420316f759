"""Predict the classes of image files with the trained model.

    python src/predict.py IMAGE_OR_FOLDER ... [--top K] [--format table|csv|json] [--model FILE]

"-" is standard input. Folders are searched for images: files with the ending or the content of an
image. Other files, hidden files, and files that systems leave in folders are counted on standard
error. Answers are printed while they come. A file that cannot be read, a missing file, a folder
without images, and a link to a folder are reported on standard error, and in CSV and JSON in the
place of an answer; the exit status is then 1. In a table and in CSV, characters that cannot be
printed are escaped; JSON has the exact names.

Reads   models/model.keras, which includes its input size and class names; not params.yaml
Costs   starting TensorFlow; memory for 512 images at once
"""

import sys
from collections.abc import Iterable, Iterator, Sequence
from io import TextIOWrapper
from itertools import chain
from pathlib import Path

from imgpipe.console.command_line import make_parser
from imgpipe.console.messages import escape_unprintable, format_count, join_some, report
from imgpipe.console.progress import ProgressBar
from imgpipe.core.environment import count_workers
from imgpipe.core.errors import PipelineError, run_script
from imgpipe.core.paths import MODEL
from imgpipe.nn.inference.file_prediction import FilePrediction
from imgpipe.serving.input_files import InputFiles, read_image
from imgpipe.serving.prediction_list import FORMATTERS, Expected, Formatter

_SHOWN_NAMES = 5


def main() -> None:
    parser = make_parser(__doc__)
    parser.add_argument("places", nargs="+", metavar="IMAGE_OR_FOLDER")
    parser.add_argument("--top", type=int, default=3, metavar="K", help="classes to show: 3")
    parser.add_argument("--format", choices=FORMATTERS, default="table")
    parser.add_argument("--model", type=Path, default=MODEL, metavar="FILE")
    options = parser.parse_args()
    if options.top < 1:
        raise PipelineError(f"--top: expected at least 1; found {options.top}")
    found = InputFiles(options.places)
    if not options.model.exists():  # before TensorFlow's seconds
        raise PipelineError(f"{options.model}: not found; `dvc repro train` writes it")
    report_unused(found)
    classes: Sequence[str] = []
    results: Iterable[FilePrediction] = found.failures
    if found.images:
        from imgpipe.nn.inference.classifier import Classifier

        classifier = Classifier(options.model, threads=count_workers())
        classes = classifier.signature.classes
        answers = classifier.classify_files(found.images, read_image, top=options.top)
        results = chain(found.failures, answers)
    expected = Expected(
        [path.as_posix() for path in found.images], classes, top=min(options.top, len(classes))
    )
    failures = print_predictions(results, FORMATTERS[options.format], expected)
    if failures:
        count = len(found.images) + len(found.failures)
        raise PipelineError(f"{failures} of {count} files cannot be read")


def report_unused(found: InputFiles) -> None:
    """Print, on standard error, the number of files that are not predicted, by the reason."""
    for each in found.unused.to_metrics():
        names = join_some([escape_unprintable(name) for name in each["first"]], _SHOWN_NAMES)
        count = format_count(each["files"], "file")
        report(f"not predicted: {count}, {each['reason']}: {names}", stream=sys.stderr)


def print_predictions(
    results: Iterable[FilePrediction], formatter: Formatter, expected: Expected
) -> int:
    """Print each prediction as soon as it is there; return the number of files with an error.

    Errors are also printed on standard error.
    """
    failures = 0

    def report_errors() -> Iterator[FilePrediction]:
        nonlocal failures
        for result in results:
            if result.error is not None:
                failures += 1
                shown = escape_unprintable(f"{result.file}: {result.error}")
                ProgressBar.write(f"error: {shown}", file=sys.stderr)
            yield result

    if isinstance(sys.stdout, TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # what its encoding does not have
    for text in formatter(report_errors(), expected):
        ProgressBar.write(text, file=sys.stdout, end="")
        sys.stdout.flush()
    return failures


if __name__ == "__main__":
    run_script(main)
