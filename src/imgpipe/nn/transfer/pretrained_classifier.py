"""A classifier on a pretrained network: features computed once, and a fitted output layer."""

from collections.abc import Mapping, Sequence

import numpy as np

from imgpipe.nn.fitting.fitted_model import FittedModel
from imgpipe.nn.fitting.layer_table import describe_layers
from imgpipe.nn.fitting.training_set import open_training_set
from imgpipe.nn.transfer.cluster_features import store_on_cluster
from imgpipe.nn.transfer.features import make_extractor
from imgpipe.nn.transfer.output_layer import fit_output_layer
from imgpipe.parallel.cluster import find_scheduler
from imgpipe.records.folders import AugmentedRecords, Records
from imgpipe.records.shards import StoredShard
from imgpipe.records.stored_images import LabeledInputs
from imgpipe.settings.params import Params


def fit_classifier(
    params: Params,
    records: Records,
    augmented: AugmentedRecords,
    *,
    sources: Mapping[str, str],
) -> FittedModel:
    """Build the pretrained network that params.yaml names, and fit its output layer.

    If there is a Dask cluster, its workers compute the features that are not stored.

    Args:
        params: the whole of params.yaml; its method is `transfer`.
        records: training and validation split.
        augmented: copies of the training split.
        sources: the SHA-256 of the project's source files, by their names under `src`.

    Raises:
        PipelineError: the weights of the network are not installed, or differ from the declared
            hash; a shard is damaged; or the cluster cannot be used.
    """
    info = records.info
    extractor = make_extractor(params, info, sources)
    model = extractor.model
    print(describe_layers(model))

    def read_features(shards: Sequence[StoredShard]) -> LabeledInputs:
        stored = 0
        if find_scheduler():
            stored = store_on_cluster(extractor, info, params, sources, shards)
        return extractor.read(shards, computed_elsewhere=stored)

    features = open_training_set(records, augmented, params.bootstrap_seed, read_features)
    fitted = fit_output_layer(features, len(info.classes), params.transfer)
    model.get_layer("logits").set_weights(
        [fitted.layer.kernel.astype(np.float32), fitted.layer.bias.astype(np.float32)]
    )
    return FittedModel(model, fitted.history, fitted.validation_logits, fitted.out_of_fold)
