"""Stage 5, evaluate: score the trained model on the test split, every example exactly once.

Reads   `evaluate` and `threads` in params.yaml; models/model.keras; data/records (test split)
Writes  metrics/test.json, the scores; metrics/per_class.csv and metrics/reliability.csv, tables;
        data/evaluation/predictions.csv, each example with its probabilities;
        data/evaluation/roc.csv, points of the receiver operating characteristics;
        data/evaluation/views.npz, what the network sees, for the pictures
Costs   starting TensorFlow, and two passes over the test images; memory for 512 at once
"""

from dataclasses import astuple
from pathlib import Path
from typing import Any

import numpy as np

from imgpipe.core.files import replace_file, write_csv, write_json
from imgpipe.core.progress import progress_bar
from imgpipe.core.stage import run_stage
from imgpipe.evaluation.metrics import (
    measure_reliability,
    measure_roc,
    score_classes,
    score_predictions,
)
from imgpipe.evaluation.predictions import Predictions, write_predictions
from imgpipe.records.info import read_info
from imgpipe.records.shards import index_shard
from imgpipe.records.stored_images import StoredImages
from imgpipe.settings.params import Params, load_params

RECORDS = Path("data/records")
MODEL = Path("models/model.keras")
METRICS = Path("metrics")
EVALUATION = Path("data/evaluation")
VIEWED_IMAGES = 5


def main(params: Params) -> None:
    settings = params.evaluate
    info = read_info(RECORDS)
    shards = [index_shard(RECORDS, shard, info) for shard in info.splits["test"].shards]
    labels = np.concatenate([shard.labels for shard in shards])
    identities = [identity for shard in shards for identity in shard.identities]
    images = StoredImages(shards, info)

    from imgpipe.nn.common.runtime import configure_runtime  # first: it quietens TensorFlow's start

    configure_runtime(threads=params.threads, seed=0, precision="float32")
    from imgpipe.nn.inference import explanation, prediction
    from imgpipe.nn.inference.loading import load_model

    model = load_model(MODEL)
    with progress_bar("evaluate", len(labels), "image") as bar:
        probabilities = prediction.predict_probabilities(model, images, bar.update)

    table = score_classes(labels, probabilities, info.classes)
    reliability = measure_reliability(labels, probabilities, settings.calibration_bins)
    scores = score_predictions(
        labels, probabilities, top_k=settings.top_k, bins=settings.calibration_bins
    )
    write_json(METRICS / "test.json", scores)
    write_csv(
        METRICS / "per_class.csv",
        ["class", "precision", "recall", "f1", "roc_auc", "images"],
        map(astuple, table),
    )
    write_csv(
        METRICS / "reliability.csv",
        ["low", "high", "images", "confidence", "accuracy"],
        map(astuple, reliability),
    )
    write_csv(
        EVALUATION / "roc.csv",
        ["class", "false_positive_rate", "true_positive_rate"],
        map(astuple, measure_roc(labels, probabilities, info.classes)),
    )
    write_predictions(
        EVALUATION / "predictions.csv",
        Predictions(info.classes, identities, labels, probabilities),
    )
    viewed = images[np.arange(min(VIEWED_IMAGES, len(labels)))]
    maps = explanation.feature_maps(model, viewed)
    with replace_file(EVALUATION / "views.npz") as partial, partial.open("wb") as stream:
        arrays: dict[str, Any] = {
            "images": viewed,
            "kernels": explanation.first_kernels(model),
            "activation_maps": explanation.activation_maps(model, viewed),
            "feature_layers": np.array([name for name, _ in maps], dtype=np.str_),
        }
        arrays |= {f"feature_maps_{number}": values for number, (_, values) in enumerate(maps)}
        np.savez_compressed(stream, **arrays)
    print(
        f"evaluate: {len(labels)} test images, accuracy {scores['accuracy']:.4f}"
        f" (95 % interval {scores['accuracy_low']:.4f} to {scores['accuracy_high']:.4f})"
    )


def uses(params: Params) -> dict[str, Any]:
    return {"evaluate": params.evaluate, "threads": params.threads}


if __name__ == "__main__":
    run_stage(
        main,
        load_params=load_params,
        uses=uses,
        libraries=(
            "config",
            "arrays",
            "nn",
        ),
        description=__doc__,
    )
