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
from pathlib import Path
from typing import Any

from imgpipe.core.files import write_text
from imgpipe.core.messages import report
from imgpipe.core.stage import hash_sources, loaded_sources, run_stage
from imgpipe.records.info import read_augmented_info, read_info
from imgpipe.settings.architectures import Pretrained
from imgpipe.settings.params import Params, load_params

RECORDS, AUGMENTED = Path("data/records"), Path("data/augmented")
MODELS, METRICS, EXAMPLES = Path("models"), Path("metrics"), Path("data/training/examples.npz")


def main(params: Params) -> Callable[[], None] | None:
    sources, settings = hash_sources(), params.train
    info, augmented_info = read_info(RECORDS), read_augmented_info(AUGMENTED)
    from imgpipe.nn.common.runtime import configure_runtime  # first: it silences TensorFlow's start

    configure_runtime(threads=params.threads, seed=settings.seed, precision=settings.precision)
    from imgpipe.nn.common.model_signature import ModelSignature
    from imgpipe.nn.training.architectures import build_model
    from imgpipe.nn.training.checkpoint import Checkpoint
    from imgpipe.nn.training.examples import write_examples
    from imgpipe.nn.training.layer_table import describe_layers
    from imgpipe.nn.training.loop import train_model
    from imgpipe.nn.training.replicas import Replicas
    from imgpipe.nn.training.saved_model import save_model
    from imgpipe.nn.training.training_set import open_training_set
    from imgpipe.nn.training.transfer import TransferLearning

    replicas, chosen = Replicas(settings.replicas), params.chosen_architecture
    with replicas.scope():
        model = build_model(
            settings.architecture, chosen, image_shape=info.image_shape,
            classes=len(info.classes), normalization=info.normalization,
        )  # fmt: skip
    print(layers := describe_layers(model))
    sample_seed = settings.seed if settings.bootstrap else None
    open_set = partial(open_training_set, RECORDS, info, AUGMENTED, augmented_info, sample_seed)
    training_set, checkpoint = open_set(), None
    if isinstance(chosen, Pretrained):
        transfer = TransferLearning(model, info, params, sources)
        training = transfer.fit_output_layer(open_set(transfer.read_features), METRICS)
    else:
        code = {name: sources.get(name) for name in loaded_sources()}
        checkpoint = Checkpoint(sources=code, parameters=uses(params), data=training_set.digest)
        training = train_model(model, training_set, settings, checkpoint, METRICS, replicas)
    if replicas.is_chief:
        save_model(model, ModelSignature.of_records(info), MODELS / "model.keras")
        write_text(MODELS / "layers.txt", layers)
        write_examples(EXAMPLES, training_set, settings)
    report(f"train: {settings.architecture}, {model.count_params():,} parameters", f"  {training}")
    return checkpoint.delete if checkpoint and replicas.is_chief else None


def uses(params: Params) -> dict[str, Any]:
    chosen = f"architectures.{params.train.architecture}"
    return {"train": params.train, "threads": params.threads, chosen: params.chosen_architecture}


if __name__ == "__main__":
    libraries = ("config", "arrays", "nn", "transfer")
    run_stage(main, load_params=load_params, uses=uses, libraries=libraries, description=__doc__)
