"""Stage 4, train: fit the chosen network to the training records and their augmented copies.

Reads   `train`, `threads` and the chosen section of `architectures` in params.yaml;
        data/records (training and validation splits), data/augmented
Writes  models/model.keras, the weights of the epoch of lowest validation loss;
        models/layers.txt, the table of layers; metrics/history.csv, a line for each epoch;
        metrics/train.json, the scores of the best epoch
Costs   most of the pipeline's time; memory for the training images in all variants
"""

from dataclasses import astuple
from pathlib import Path

from imgpipe.errors import PipelineError
from imgpipe.files import replace_file, write_csv, write_json
from imgpipe.params import Params
from imgpipe.records import read_augmented_info, read_info
from imgpipe.stage import run_stage


def main(
    params: Params,
    *,
    records: Path = Path("data/records"),
    augmented: Path = Path("data/augmented"),
    models: Path = Path("models"),
    metrics: Path = Path("metrics"),
) -> None:
    settings = params.train
    info, augmented_info = read_info(records), read_augmented_info(augmented)

    from imgpipe.nn.runtime import configure_runtime  # first: it quietens TensorFlow's start

    configure_runtime(threads=params.threads, seed=settings.seed, precision=settings.precision)
    from imgpipe.nn.architectures import build_model
    from imgpipe.nn.dataset import draw_bootstrap, load_split, load_variants
    from imgpipe.nn.model_file import describe_layers, save_model
    from imgpipe.nn.random_transforms import transform_while_training
    from imgpipe.nn.training import EPOCH_COLUMNS, Epoch, best_epoch, compile_model, train_model

    model = build_model(
        settings.architecture,
        params.architectures,
        image_shape=info.image_shape,
        classes=len(info.classes),
        normalization=info.normalization,
    )
    layers = describe_layers(model)
    print(layers)
    variants, labels = load_variants(records, info, augmented, augmented_info)
    if settings.bootstrap:
        variants, labels = draw_bootstrap(variants, labels, settings.seed)
    learner = transform_while_training(model, settings)
    compile_model(learner, settings, examples=len(labels))

    def report(epoch: Epoch) -> None:
        print(
            f"epoch {epoch.epoch:3d}/{settings.epochs}"
            f"  loss {epoch.loss:.4f}  accuracy {epoch.accuracy:.4f}  validation"
            f"  loss {epoch.validation_loss:.4f}  accuracy {epoch.validation_accuracy:.4f}",
            flush=True,
        )

    try:
        history = train_model(
            learner, variants, labels, load_split(records, info, "validation"), settings, report
        )
    except FloatingPointError as error:
        raise PipelineError(f"train: {error}; lower train.learning_rate in params.yaml") from None
    best = best_epoch(history)

    save_model(model, models / "model.keras")
    with replace_file(models / "layers.txt") as partial:
        partial.write_text(layers, encoding="utf-8", newline="\n")
    write_csv(metrics / "history.csv", EPOCH_COLUMNS, map(astuple, history))
    write_json(
        metrics / "train.json",
        {
            "validation_accuracy": best.validation_accuracy,
            "validation_loss": best.validation_loss,
            "best_epoch": best.epoch,
            "epochs": len(history),
            "parameters": model.count_params(),
        },
    )
    print(
        f"train: {settings.architecture}, {model.count_params():,} parameters,"
        f" {len(history)} epochs; best is epoch {best.epoch}"
        f" with validation accuracy {best.validation_accuracy:.4f}"
    )


if __name__ == "__main__":
    run_stage(main, __doc__)
