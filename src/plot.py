"""Stage 6, plot: draw the pictures, and write the model card. No TensorFlow.

Reads   `plot` in params.yaml; data/records, data/augmented, data/evaluation; and under metrics
        history.csv, train.json, test.json, per_class.csv, reliability.csv. For the card all other
        parameters, the dataset's entry in data/catalog.yaml, models/layers.txt, metrics/data.json
        and the pins in pyproject.toml
Writes  metrics/plots/*.png; metrics/report.html, one page that needs nothing beside it
Costs   some seconds; one pass over the test records for the gallery of mistakes
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from numpy.typing import NDArray

from imgpipe.core.errors import PipelineError
from imgpipe.core.files import read_json, replace_directory
from imgpipe.core.stage import run_stage
from imgpipe.datasets.catalog import load_entry
from imgpipe.evaluation.predictions import read_predictions
from imgpipe.evaluation.significance import score_intervals
from imgpipe.records.info import RecordsInfo, copy_folder, read_augmented_info, read_info
from imgpipe.records.shards import read_shard, read_split
from imgpipe.reporting import charts
from imgpipe.reporting.model_card import Findings, write_model_card
from imgpipe.settings.evaluate import Evaluate
from imgpipe.settings.params import Params, load_params
from imgpipe.settings.plot import Plot

RECORDS = Path("data/records")
AUGMENTED = Path("data/augmented")
EVALUATION = Path("data/evaluation")
METRICS = Path("metrics")
PLOTS = Path("metrics/plots")
REPORT = Path("metrics/report.html")
LAYERS = Path("models/layers.txt")
SHOWN_ORIGINALS = 6


def main(params: Params) -> None:
    settings = params.plot
    info = read_info(RECORDS)
    scores = read_json(METRICS / "test.json")
    drawn = 0
    with replace_directory(PLOTS) as folder:
        for name, figure in (*draw_data(info, settings), *draw_results(info, scores, settings)):
            charts.save_figure(figure, folder / f"{name}.png", settings.dpi)
            drawn += 1
    write_model_card(
        REPORT,
        Findings(
            params=params,
            entry=load_entry(params.dataset),
            info=info,
            layers=read_text(LAYERS),
            data=read_json(METRICS / "data.json"),
            trained=read_json(METRICS / "train.json"),
            scores=scores,
            intervals=find_intervals(scores, params.evaluate),
            per_class=read_table(METRICS / "per_class.csv", text=["class"]),
            pictures={path.stem: path.read_bytes() for path in sorted(PLOTS.iterdir())},
        ),
    )
    print(f"plot: {drawn} pictures in {PLOTS.as_posix()}; the model card is {REPORT.as_posix()}")


def draw_data(info: RecordsInfo, settings: Plot) -> Iterator[tuple[str, Figure]]:
    """Draw what the network is trained on."""
    samples: dict[str, list[NDArray[np.uint8]]] = {name: [] for name in info.classes}
    for batch in read_split(RECORDS, info, "train"):
        for image, label in zip(batch.images, batch.labels, strict=True):
            if len(samples[info.classes[label]]) < settings.samples_per_class:
                samples[info.classes[label]].append(image)
        if all(len(images) == settings.samples_per_class for images in samples.values()):
            break
    yield "samples", charts.draw_samples(samples)
    name, images = next(iter(samples.items()))
    yield "pixel_numbers", charts.draw_pixel_numbers(images[0], name)

    shards = [(RECORDS, info.splits["train"].shards[0])] + [
        (AUGMENTED / copy_folder(copy), of_copy[0])
        for copy, of_copy in enumerate(read_augmented_info(AUGMENTED).shards_of_copies, start=1)
    ]
    originals, *copies = [
        next(read_shard(folder, shard, info)).images[:SHOWN_ORIGINALS] for folder, shard in shards
    ]
    variants = [list(of_one) for of_one in zip(*copies, strict=True)] or [[] for _ in originals]
    yield "augmentation", charts.draw_variants(list(originals), variants)


def draw_results(
    info: RecordsInfo, scores: dict[str, float], settings: Plot
) -> Iterator[tuple[str, Figure]]:
    """Draw how training went, how good the network is, and what it sees."""
    history = read_table(METRICS / "history.csv")
    best_epoch = read_json(METRICS / "train.json")["best_epoch"]
    yield "learning_curves", charts.draw_learning_curves(history, best_epoch)

    predictions = read_table(EVALUATION / "predictions.csv", text=["actual", "predicted"])
    position = {name: label for label, name in enumerate(info.classes)}
    confusion = np.zeros((len(position), len(position)), dtype=np.int64)
    np.add.at(
        confusion,
        (predictions["actual"].map(position), predictions["predicted"].map(position)),
        1,
    )
    yield "confusion", charts.draw_confusion(confusion, info.classes)
    per_class = read_table(METRICS / "per_class.csv", text=["class"])
    yield "class_scores", charts.draw_class_scores(per_class)
    roc = read_table(EVALUATION / "roc.csv", text=["class"])
    areas = dict(zip(per_class["class"], per_class["roc_auc"], strict=True))
    yield "roc", charts.draw_roc(roc, areas)
    reliability = read_table(METRICS / "reliability.csv")
    yield "reliability", charts.draw_reliability(reliability, scores["calibration_error"])
    yield "mistakes", draw_mistakes(info, predictions, settings.mistakes)

    with np.load(EVALUATION / "views.npz") as views:
        yield "kernels", charts.draw_kernels(views["kernels"])
        images, maps = views["images"], views["activation_maps"]
        first = predictions.head(len(images))
        captions = [
            actual if actual == predicted else f"{actual}, taken for {predicted}"
            for actual, predicted in zip(first["actual"], first["predicted"], strict=True)
        ]
        yield "activation_maps", charts.draw_activation_maps(images, maps, captions)
        layers = [
            (str(name), views[f"feature_maps_{number}"][0])
            for number, name in enumerate(views["feature_layers"])
        ]
        if layers:  # a network without convolutions has none
            yield "feature_maps", charts.draw_feature_maps(images[0], layers)


def draw_mistakes(info: RecordsInfo, predictions: pd.DataFrame, most: int) -> Figure:
    """Draw the mistakes that the network was surest of."""
    confidence = predictions[[f"p({name})" for name in info.classes]].max(axis=1)
    wrong = predictions.assign(confidence=confidence).query("actual != predicted")
    shown = wrong.sort_values(["confidence", "index"], ascending=[False, True]).head(most)
    wanted = set(shown["index"])
    images = {}
    first = 0
    for batch in read_split(RECORDS, info, "test"):
        images.update(
            {first + n: image for n, image in enumerate(batch.images) if first + n in wanted}
        )
        first += len(batch.labels)
    total = f"on {len(predictions)} test images"
    return charts.draw_gallery(
        [images[index] for index in shown["index"]],
        [
            f"{row.actual}, taken for\n{row.predicted} ({row.confidence:.1%})"
            for row in shown.itertuples()
        ],
        f"The most confident of {len(wrong)} mistakes {total}" if images else f"No mistake {total}",
    )


def find_intervals(scores: dict[str, float], settings: Evaluate) -> dict[str, tuple[float, float]]:
    """Return the 95 % interval of each score."""
    intervals = score_intervals(
        read_predictions(EVALUATION / "predictions.csv"),
        top_k=settings.top_k,
        bins=settings.calibration_bins,
    )
    return intervals | {"accuracy": (scores["accuracy_low"], scores["accuracy_high"])}


def read_text(path: Path) -> str:
    """Read what an earlier stage wrote."""
    try:
        return path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise PipelineError(f"{path.as_posix()}: not found; `dvc repro` writes it") from None


def read_table(path: Path, text: list[str] | None = None) -> pd.DataFrame:
    """Read a CSV table; the columns `text` hold names, also where they look like numbers or NaN."""
    try:
        return pd.read_csv(path, dtype=dict.fromkeys(text or [], str), keep_default_na=False)
    except FileNotFoundError:
        raise PipelineError(f"{path.as_posix()}: not found; `dvc repro` writes it") from None


def uses(params: Params) -> dict[str, Any]:
    sections = {name: getattr(params, name) for name in Params.model_fields}
    sections.pop("architectures")
    return {
        **sections,
        f"architectures.{params.train.architecture}": params.chosen_architecture,
        params.dataset: load_entry(params.dataset),
    }


if __name__ == "__main__":
    run_stage(
        main,
        load_params=load_params,
        uses=uses,
        libraries=(
            "config",
            "arrays",
            "images",
            "charts",
            "nn",
        ),
        description=__doc__,
    )
