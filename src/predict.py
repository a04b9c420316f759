"""Predict the classes of images with the trained network, which sees them as in training.

    python src/predict.py IMAGE_OR_FOLDER ... [--top K] [--format table|csv|json] [--model FILE]

Of a folder all JPEG, PNG, BMP, GIF and WebP files are taken, in it and below. What cannot be read
is said on standard error, a line each; the others are predicted all the same, and the exit status
is 1.

Reads   models/model.keras, which says itself how images become its input; no params.yaml
Costs   starting TensorFlow; memory for 512 images at once
"""

import argparse
import csv
import json
import sys
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from imgpipe.core.errors import PipelineError, UnreadableImageError, run_script
from imgpipe.core.progress import progress_bar
from imgpipe.parallel import count_workers
from imgpipe.preprocessing.decoding import FORMAT_OF_SUFFIX, decode_and_resize, open_image
from imgpipe.reporting.text_table import format_columns
from imgpipe.settings.image_spec import ImageSpec

AT_ONCE = 512

Prediction = tuple[Path, list[tuple[str, float]]]


def list_files(places: Sequence[Path]) -> list[Path]:
    """Return files as they are named, and of folders all images below, sorted.

    Raises:
        PipelineError: a place does not exist, or a folder holds no images.
    """
    files = []
    for place in places:
        if place.is_dir():
            found = sorted(
                path
                for path in place.rglob("*")
                if path.suffix.lower() in FORMAT_OF_SUFFIX and path.is_file()
            )
            if not found:
                endings = ", ".join(sorted(FORMAT_OF_SUFFIX))
                raise PipelineError(f"{place}: no images in this folder (endings: {endings})")
            files += found
        elif place.exists():
            files.append(place)
        else:
            raise PipelineError(f"{place}: no such file or folder")
    return files


def read_image(path: Path, image_spec: ImageSpec) -> NDArray[np.uint8] | str:
    """Return an image as the network takes it, (H, W, C), or why it cannot be read."""
    try:
        return decode_and_resize(open_image(path.read_bytes(), path.suffix.lower()), image_spec)
    except (UnreadableImageError, OSError) as error:
        return str(error)


def predict_files(files: Sequence[Path], model_path: Path, top: int) -> Iterator[Prediction | str]:
    """Yield for each file its likeliest classes with their probabilities, or an error's line."""
    from imgpipe.nn.common.runtime import configure_runtime  # first: it quietens TensorFlow's start

    configure_runtime(threads=count_workers(), seed=0, precision="float32")
    from imgpipe.nn.inference.loading import load_model, read_signature
    from imgpipe.nn.inference.prediction import predict_probabilities

    signature = read_signature(model_path)
    model = load_model(model_path)
    waiting = iter(files)
    with (
        progress_bar("predict", len(files), "image") as bar,
        ThreadPoolExecutor(count_workers()) as pool,
    ):
        while batch := list(islice(waiting, AT_ONCE)):
            read = list(pool.map(lambda path: read_image(path, signature.image_spec), batch))
            images = [image for image in read if not isinstance(image, str)]
            rows = iter(predict_probabilities(model, np.stack(images))) if images else iter(())
            for path, image in zip(batch, read, strict=True):
                if isinstance(image, str):
                    yield f"{path}: {image}"
                    continue
                row = next(rows)
                order = np.argsort(-row, kind="stable")[:top]
                yield path, [(signature.classes[label], float(row[label])) for label in order]
            bar.update(len(batch))


def print_predictions(predictions: Sequence[Prediction], style: str) -> None:
    """Print them as a table, as CSV or as JSON."""
    if style == "json":
        listed = [
            {
                "file": path.as_posix(),
                "classes": [{"class": name, "probability": value} for name, value in classes],
            }
            for path, classes in predictions
        ]
        print(json.dumps(listed, indent=2, ensure_ascii=False))
        return
    count = len(predictions[0][1]) if predictions else 0
    header = ["file"]
    for rank in range(1, count + 1):
        header += [f"class_{rank}", f"probability_{rank}"]
    digits = ".9g" if style == "csv" else ".4f"  # nine give back the float32 exactly
    rows = [
        [
            path.as_posix(),
            *(text for name, value in classes for text in (name, f"{value:{digits}}")),
        ]
        for path, classes in predictions
    ]
    if style == "csv":
        csv.writer(sys.stdout, lineterminator="\n").writerows([header, *rows])
    else:
        print("\n".join(format_columns([header, *rows])))


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("places", nargs="+", type=Path, metavar="IMAGE_OR_FOLDER")
    parser.add_argument("--top", type=int, default=3, metavar="K", help="classes of each image: 3")
    parser.add_argument("--format", choices=["table", "csv", "json"], default="table")
    parser.add_argument("--model", type=Path, default=Path("models/model.keras"), metavar="FILE")
    options = parser.parse_args()
    if options.top < 1:
        raise PipelineError(f"--top: expected a number of at least 1; found {options.top}")
    files = list_files(options.places)
    if not options.model.exists():  # before TensorFlow's seconds
        raise PipelineError(f"{options.model}: not found; `dvc repro train` writes it")
    predictions, failures = [], []
    for result in predict_files(files, options.model, options.top):
        if isinstance(result, str):
            failures.append(result)
        else:
            predictions.append(result)
    if predictions:
        print_predictions(predictions, options.format)
    for failure in failures:
        print(f"error: {failure}", file=sys.stderr)
    if failures:
        raise PipelineError(f"{len(failures)} of {len(files)} files could not be read")


if __name__ == "__main__":
    run_script(main)
