"""Stage 4, train: fit the chosen network to the training images and their augmented copies.

Reads   `method` and `arithmetic`, the sections that they name, `network` and its section of
        `networks`, in params.yaml; data/records (training and validation splits), data/augmented
Writes  models/model.keras, the network: `training`, with the weights of the epoch of lowest
        validation loss; `transfer`, with the weights of the last iteration; its logits are divided
        by a temperature if that lowers the validation loss clearly. models/layers.txt, the
        table of its layers; data/training/examples.npz, some images as training sees them;
        data/training/out_of_sample.npz, probabilities of images by networks that were not fitted to
        these images; after each epoch, metrics/history.csv and metrics/train.json
Costs   most of the pipeline's time; small images are kept in memory if they fit in half of it

A stopped or killed training resumes: the state after each epoch, or the features of each shard, are
saved under .dvc/tmp. The outputs have the same bytes as without the stop.
"""

from collections.abc import Callable

from imgpipe.console.messages import report
from imgpipe.core.paths import AUGMENTED, RECORDS
from imgpipe.records.folders import AugmentedRecords, Records
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
    from imgpipe.nn.fitting.fitted_model import calibrate
    from imgpipe.nn.fitting.outputs import write_outputs
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
    if fitted.is_chief:
        write_outputs(fitted, records.info, images)
    parameters = fitted.model.count_params()
    report(f"train: {params.network}, {parameters:,} parameters", f"  {fitted.history}")
    return fitted.finish


if __name__ == "__main__":
    run_stage(main, __doc__)
