"""Train all weights of a network, from scratch."""

from collections.abc import Mapping
from typing import Any

from imgpipe.nn.common.arithmetic import find_forward
from imgpipe.nn.common.logits import make_logits_model
from imgpipe.nn.common.prediction import Predictor
from imgpipe.nn.fitting.fitted_model import FittedModel
from imgpipe.nn.fitting.layer_table import describe_layers
from imgpipe.nn.fitting.training_set import TrainingSet
from imgpipe.nn.networks import build_model
from imgpipe.nn.training.augmentation_layers import make_random_transformation
from imgpipe.nn.training.checkpoint import Checkpoint
from imgpipe.nn.training.loop import train_model
from imgpipe.nn.training.replicas import Replicas
from imgpipe.records.info import RecordsInfo
from imgpipe.settings.params import Params


def train_from_scratch(
    params: Params,
    info: RecordsInfo,
    training_set: TrainingSet,
    *,
    sources: Mapping[str, str],
    values: Mapping[str, Any],
) -> FittedModel:
    """Build the network that params.yaml names, and train it on all replicas.

    The checkpoint depends on the hashes of the source files, and on the values, of the stage.

    Raises:
        PipelineError: as `train_model`; or the settings do not fit the images or the devices.
    """
    settings = params.training
    replicas = Replicas(settings.replicas)
    with replicas.scope():
        model = build_model(
            params.network,
            params.network_settings,
            image_shape=info.image_shape,
            classes=len(info.classes),
            normalization=info.normalization,
        )
    print(describe_layers(model))
    checkpoint = Checkpoint(sources=sources, parameters=values, data=training_set.digest)
    forward = find_forward(params.arithmetic)
    history = train_model(model, training_set, settings, checkpoint, replicas, forward)
    # In all workers: reading a variable may need all of them.
    logits = Predictor(make_logits_model(model), forward).predict(training_set.validation.inputs)
    return FittedModel(
        model,
        history,
        logits,
        random_transformation=make_random_transformation(info.image_shape, settings),
        is_chief=replicas.is_chief,
        finish=checkpoint.delete if replicas.is_chief else None,
    )
