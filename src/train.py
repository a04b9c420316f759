"""Stage 4, train: fit the chosen network to the training images and their augmented copies.

Reads   `method` and `arithmetic`, the sections that they name, `network` and its section of
        `networks`, in params.yaml; data/records (training and validation splits), data/augmented
Writes  models/model.keras, the network: `training`, with the weights of the epoch of lowest
        validation loss; `transfer`, with the weights of the last iteration; its logits are divided
        by a temperature if that lowers the validation loss clearly. models/layers.txt, the
        table of its layers; data/training/examples.npz, some images as training sees them; after
        each epoch, metrics/history.csv and metrics/train.json
Costs   most of the pipeline's time; small images are kept in memory if they fit in half of it

A stopped or killed training resumes: the state after each epoch, or the features of each shard, are
saved under .dvc/tmp. The outputs have the same bytes as without the stop.
"""

from collections.abc import Callable

from imgpipe.console.messages import report
from imgpipe.core.files import write_text
from imgpipe.core.paths import AUGMENTED, LAYERS, MODEL, RECORDS, TRAINING_EXAMPLES
from imgpipe.records.folders import AugmentedRecords, Records
from imgpipe.records.npz_file import write_npz
from imgpipe.running.stage import StageRun, run_stage


def main(run: StageRun) -> Callable[[], None] | None:
    params = run.params
    settings = params.method_settings
    records = Records.open(RECORDS)
    augmented = AugmentedRecords.open(AUGMENTED, records)
    from imgpipe.nn.common.runtime import configure_runtime  # first: it silences TensorFlow's start

    configure_runtime(
        params.arithmetic,
        native_threads=params.arithmetics.native.threads,
        seed=settings.seed,
        precision=settings.precision,
    )
    from imgpipe.nn.common.model_signature import ModelSignature
    from imgpipe.nn.fitting.examples import draw_examples
    from imgpipe.nn.fitting.fitted_model import calibrate
    from imgpipe.nn.fitting.history import write_metrics
    from imgpipe.nn.fitting.layer_table import describe_layers
    from imgpipe.nn.fitting.saved_model import save_model
    from imgpipe.nn.fitting.training_set import open_training_set

    images = open_training_set(records, augmented, params.bootstrap_seed)
    if params.method == "training":
        from imgpipe.nn.training.from_scratch import train_from_scratch

        fitted = train_from_scratch(
            params, records.info, images, sources=run.sources, values=run.entry.values
        )
    else:
        from imgpipe.nn.transfer.pretrained_classifier import fit_classifier

        fitted = fit_classifier(params, records, augmented, sources=run.sources)
    if settings.calibration == "temperature":
        fitted = calibrate(fitted, images.validation.labels)
    model = fitted.model
    if fitted.is_chief:
        write_metrics(fitted.history, model.count_params(), fitted.temperature)
        save_model(model, ModelSignature.of_records(records.info), MODEL)
        write_text(LAYERS, describe_layers(model))
        examples = draw_examples(images, fitted.random_transformation)
        write_npz(TRAINING_EXAMPLES, examples._asdict())
    report(f"train: {params.network}, {model.count_params():,} parameters", f"  {fitted.history}")
    return fitted.finish


if __name__ == "__main__":
    run_stage(main, __doc__)
