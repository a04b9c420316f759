"""Stage 4, train: fit the chosen network to the training images and their augmented copies.

Reads   `train`, `threads` and the chosen section of `architectures` in params.yaml;
        data/records (training and validation splits), data/augmented
Writes  models/model.keras, the network with the weights of the epoch of lowest validation loss
        (optimizer lbfgs: of the last iteration); models/layers.txt, the table of its layers;
        data/training/examples.npz, some images as training sees them; after each epoch,
        metrics/history.csv and metrics/train.json
Costs   most of the pipeline's time; small images are kept in memory if they fit in half of it

A stopped or killed training resumes: the state after each epoch, or the features of each shard, are
saved under .dvc/tmp. The outputs have the same bytes as without the stop.
"""

from collections.abc import Callable
from functools import partial

from imgpipe.console.messages import report
from imgpipe.core.files import write_text
from imgpipe.core.paths import AUGMENTED, LAYERS, MODEL, RECORDS, TRAINING_EXAMPLES
from imgpipe.records.folders import AugmentedRecords, Records
from imgpipe.running.stage import StageRun, run_stage
from imgpipe.settings.architectures import Pretrained


def main(run: StageRun) -> Callable[[], None] | None:
    params, settings = run.params, run.params.train
    records = Records.open(RECORDS)
    info, augmented = records.info, AugmentedRecords.open(AUGMENTED, records)
    from imgpipe.nn.common.runtime import configure_runtime  # first: it silences TensorFlow's start

    configure_runtime(threads=params.threads, seed=settings.seed, precision=settings.precision)
    from imgpipe.nn.common.model_signature import ModelSignature
    from imgpipe.nn.fitting.examples import write_examples
    from imgpipe.nn.fitting.layer_table import describe_layers
    from imgpipe.nn.fitting.saved_model import save_model
    from imgpipe.nn.fitting.training_set import open_training_set
    from imgpipe.nn.networks import build_model
    from imgpipe.nn.training.augmentation_layers import make_random_transformation
    from imgpipe.nn.training.checkpoint import Checkpoint
    from imgpipe.nn.training.loop import train_model
    from imgpipe.nn.training.replicas import Replicas
    from imgpipe.nn.transfer.output_layer import TransferLearning

    replicas, chosen = Replicas(settings.replicas), params.chosen_architecture
    with replicas.scope():
        model = build_model(
            settings.architecture, chosen, image_shape=info.image_shape,
            classes=len(info.classes), normalization=info.normalization,
        )  # fmt: skip
    print(layers := describe_layers(model))
    sample_seed = settings.seed if settings.bootstrap else None
    open_set = partial(open_training_set, records, augmented, sample_seed)
    training_set, checkpoint = open_set(), None
    if isinstance(chosen, Pretrained):
        transfer = TransferLearning(model, info, params, run.sources)
        training = transfer.fit_output_layer(open_set(transfer.read_features))
    else:
        checkpoint = Checkpoint(
            sources=run.sources, parameters=run.entry.values, data=training_set.digest
        )
        training = train_model(model, training_set, settings, checkpoint, replicas)
    if replicas.is_chief:
        save_model(model, ModelSignature.of_records(info), MODEL)
        write_text(LAYERS, layers)
        transform = make_random_transformation(training_set.input_shape, settings)
        write_examples(TRAINING_EXAMPLES, training_set, transform)
    report(f"train: {settings.architecture}, {model.count_params():,} parameters", f"  {training}")
    return checkpoint.delete if checkpoint and replicas.is_chief else None


if __name__ == "__main__":
    run_stage(main, __doc__)
