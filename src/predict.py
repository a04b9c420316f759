"""Predict the classes of image files with the trained model.

    python src/predict.py IMAGE_OR_FOLDER ... [--top K] [--format table|csv|json] [--model FILE]

Folders are searched for images, except hidden ones. A file that cannot be read is reported on
standard error, and the exit status is then 1; the other files are predicted.

Reads   models/model.keras, which includes its input size and class names; not params.yaml
Costs   starting TensorFlow; memory for 512 images at once
"""

import sys
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from imgpipe.console.command_line import make_parser
from imgpipe.core.errors import PipelineError, run_script
from imgpipe.core.paths import MODEL
from imgpipe.parallel.processes import count_workers
from imgpipe.preprocessing.decoding import ENDINGS, decode_and_resize, has_image_name, open_image
from imgpipe.serving.prediction_list import FORMATTERS
from imgpipe.settings.image_spec import ImageSpec


def main() -> None:
    parser = make_parser(__doc__)
    parser.add_argument("places", nargs="+", type=Path, metavar="IMAGE_OR_FOLDER")
    parser.add_argument("--top", type=int, default=3, metavar="K", help="classes to show: 3")
    parser.add_argument("--format", choices=FORMATTERS, default="table")
    parser.add_argument("--model", type=Path, default=MODEL, metavar="FILE")
    options = parser.parse_args()
    if options.top < 1:
        raise PipelineError(f"--top: expected at least 1; found {options.top}")
    files = list_files(options.places)
    if not options.model.exists():  # before TensorFlow's seconds
        raise PipelineError(f"{options.model}: not found; `dvc repro train` writes it")
    from imgpipe.nn.inference.classifier import Classifier

    classifier = Classifier(options.model, threads=count_workers())
    results = list(classifier.classify_files(files, read_image, top=options.top))
    if readable := [(each.path, each.classes) for each in results if each.error is None]:
        print(FORMATTERS[options.format](readable), end="")
    for result in results:
        if result.error is not None:
            print(f"error: {result.path}: {result.error}", file=sys.stderr)
    if len(readable) < len(files):
        raise PipelineError(f"{len(files) - len(readable)} of {len(files)} files cannot be read")


def list_files(places: list[Path]) -> list[Path]:
    """Return the named files, and all images in the named folders and below, sorted.

    Raises:
        PipelineError: a place does not exist, or a folder holds no images.
    """
    files = []
    for place in places:
        if place.is_dir():
            below = sorted(path for path in place.rglob("*") if path.is_file())
            images = [path for path in below if has_image_name(path.relative_to(place))]
            if not images:
                raise PipelineError(f"{place}: no images in this folder (endings: {ENDINGS})")
            files += images
        elif place.exists():
            files.append(place)
        else:
            raise PipelineError(f"{place}: no such file or folder")
    return files


def read_image(path: Path, image_spec: ImageSpec) -> NDArray[np.uint8]:
    return decode_and_resize(open_image(path.read_bytes()), image_spec)


if __name__ == "__main__":
    run_script(main)
