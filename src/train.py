"""Stage 4, train: fit the chosen network to the training records and their augmented copies.

Reads   `train`, `threads` and the chosen section of `architectures` in params.yaml;
        data/records (training and validation splits), data/augmented
Writes  models/model.keras, the weights of the epoch of lowest validation loss;
        models/layers.txt, the table of layers; metrics/history.csv, a line for each epoch;
        metrics/train.json, the scores of the best epoch; both are written anew after each epoch
Costs   most of the pipeline's time; for small images, and those stored as PNG, memory for all in
        all variants, where they take no more than half of what there is

Each epoch's end is kept under .dvc/tmp until the stage has succeeded: a run that was stopped, even
killed, goes on from there when it is started again, and ends with the same bytes.
"""

import sys
from collections.abc import Callable
from dataclasses import astuple
from pathlib import Path
from typing import Any

import numpy as np

from imgpipe.core.errors import PipelineError
from imgpipe.core.files import replace_file, write_csv, write_json
from imgpipe.core.progress import progress_bar
from imgpipe.core.stage import hash_sources, loaded_sources, run_stage
from imgpipe.records.info import read_augmented_info, read_info
from imgpipe.settings.params import Params, load_params

RECORDS = Path("data/records")
AUGMENTED = Path("data/augmented")
MODELS = Path("models")
METRICS = Path("metrics")


def main(params: Params) -> Callable[[], None]:
    sources = hash_sources()
    settings = params.train
    info, augmented_info = read_info(RECORDS), read_augmented_info(AUGMENTED)

    from imgpipe.nn.common.runtime import configure_runtime  # first: it quietens TensorFlow's start

    configure_runtime(threads=params.threads, seed=settings.seed, precision=settings.precision)
    from imgpipe.nn.common.model_signature import ModelSignature
    from imgpipe.nn.training.architectures import build_model
    from imgpipe.nn.training.augmentation_layers import transform_while_training
    from imgpipe.nn.training.checkpoint import Checkpoint
    from imgpipe.nn.training.loop import (
        EPOCH_COLUMNS,
        Epoch,
        best_epoch,
        compile_model,
        train_model,
    )
    from imgpipe.nn.training.saved_model import describe_layers, save_model
    from imgpipe.nn.training.training_set import (
        draw_bootstrap,
        fits_in_memory,
        is_better_in_memory,
        name_split,
        name_variants,
    )

    model = build_model(
        settings.architecture,
        params.architectures,
        image_shape=info.image_shape,
        classes=len(info.classes),
        normalization=info.normalization,
    )
    layers = describe_layers(model)
    print(layers)
    variants = name_variants(RECORDS, info, AUGMENTED, augmented_info)
    validation_records = name_split(RECORDS, info, "validation")
    in_memory = is_better_in_memory(info)
    if in_memory and not fits_in_memory(variants.size_bytes + validation_records.size_bytes):
        print("train: the images stay in their files, for they would take too much memory")
        in_memory = False
    images, labels = variants.open(in_memory=in_memory)
    validation = validation_records.open(in_memory=in_memory)
    # Of each example the numbers of its images, a row for each variant.
    numbers = np.arange(len(labels)).reshape(1 + augmented_info.copies, -1)
    labels = labels[numbers[0]]
    if settings.bootstrap:
        drawn = draw_bootstrap(len(labels), settings.seed)
        numbers, labels = numbers[:, drawn], labels[drawn]
    learner = transform_while_training(model, settings)
    compile_model(learner, settings, examples=len(labels))
    unfinished = Checkpoint(
        {
            "sources": {name: sources.get(name) for name in loaded_sources()},
            "parameters": {name: repr(value) for name, value in uses(params).items()},
            "classes": info.classes,
            "normalization": info.normalization.model_dump(),
            "records": [variants.digest(), validation_records.digest()],
        }
    )
    reached = unfinished.load()
    if reached:
        print(f"train: {len(reached.history)} epochs were finished before; going on from there")

    def record(history: list[Epoch]) -> Epoch:
        best = best_epoch(history)
        write_csv(METRICS / "history.csv", EPOCH_COLUMNS, map(astuple, history))
        write_json(
            METRICS / "train.json",
            {
                "validation_accuracy": best.validation_accuracy,
                "validation_loss": best.validation_loss,
                "best_epoch": best.epoch,
                "epochs": len(history),
                "parameters": model.count_params(),
            },
        )
        return best

    done = len(reached.history) if reached else 0
    with progress_bar(
        "train", settings.epochs * len(labels), "image", done=done * len(labels)
    ) as bar:

        def report(history: list[Epoch]) -> None:
            record(history)
            epoch = history[-1]
            bar.write(
                f"epoch {epoch.epoch:3d}/{settings.epochs}"
                f"  loss {epoch.loss:.4f}  accuracy {epoch.accuracy:.4f}  validation"
                f"  loss {epoch.validation_loss:.4f}  accuracy {epoch.validation_accuracy:.4f}",
                file=sys.stdout,
            )
            sys.stdout.flush()

        def advance(epoch: int, images: int, loss: float, accuracy: float) -> None:
            bar.set_description(f"epoch {epoch}/{settings.epochs}", refresh=False)
            bar.set_postfix_str(f"loss {loss:.4f}, accuracy {accuracy:.4f}", refresh=False)
            bar.update(images)

        try:
            history = train_model(
                learner, images, numbers, labels, validation, settings, report,
                on_images=None if bar.disable else advance, reached=reached, keep=unfinished.keep,
            )  # fmt: skip
        except FloatingPointError as error:
            raise PipelineError(
                f"train: {error}; lower train.learning_rate in params.yaml"
            ) from None
    best = record(history)
    save_model(
        model,
        ModelSignature(
            dataset=info.dataset, classes=info.classes, image_spec=info.image_spec
        ),
        MODELS / "model.keras",
    )  # fmt: skip
    with replace_file(MODELS / "layers.txt") as partial:
        partial.write_text(layers, encoding="utf-8", newline="\n")
    print(
        f"train: {settings.architecture}, {model.count_params():,} parameters,"
        f" {len(history)} epochs; best is epoch {best.epoch}"
        f" with validation accuracy {best.validation_accuracy:.4f}"
    )
    return unfinished.forget


def uses(params: Params) -> dict[str, Any]:
    return {
        "train": params.train,
        "threads": params.threads,
        f"architectures.{params.train.architecture}": params.chosen_architecture,
    }


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
