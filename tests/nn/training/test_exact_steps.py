"""The steps of training and validation with exact arithmetic."""

from typing import Any

import pytest
from exact_graphs import find_forbidden_operations
from support import EASY_PARAMS, build_network, change_params, find_error, make_easy_images

pytestmark = pytest.mark.tf

CASES: dict[str, dict[str, Any]] = {
    "mlp": {"network": "mlp"},
    "mlp, rows": {"network": "mlp", "networks__mlp__sees": "row"},
    "cnn": {},
    "cnn, batch normalization": {"networks__cnn__batch_norm": True},
    "resnet": {"network": "resnet"},
    "all of the objective": {
        "training__class_weights": "balanced",
        "training__label_smoothing": 0.1,
        "training__l1_penalty": 0.001,
        "training__l2_penalty": 0.001,
        "training__random_flip": "both",
        "training__optimizer": "adamw",
    },
    "rmsprop": {"training__optimizer": "rmsprop"},
    "sgd": {"training__optimizer": "sgd", "training__learning_rate_schedule": "exponential"},
}


def make_trainer(changes: dict[str, Any]) -> Any:
    """Return the trainer of a network."""
    from imgpipe.nn.common.arithmetic import find_forward
    from imgpipe.nn.fitting.training_set import TrainingSet
    from imgpipe.nn.training.loop import Trainer
    from imgpipe.nn.training.replicas import Replicas
    from imgpipe.records.stored_images import LabeledInputs

    params = change_params(EASY_PARAMS, arithmetic="exact", **changes)
    images, labels = make_easy_images(70)
    model = build_network(params.network, params, shape=(12, 12, 1))
    training_set = TrainingSet(images, labels, LabeledInputs(images, labels))
    return Trainer(model, training_set, params.training, Replicas(1), find_forward("exact"))


@pytest.mark.parametrize("case", CASES)
def test_a_step_has_allowed_operations_only(case: str) -> None:
    import tensorflow as tf

    steps = make_trainer(CASES[case])._steps
    arguments = tf.TensorSpec([6, 12, 12, 1]), tf.TensorSpec([6], tf.int64), tf.constant(6)
    for step in (steps._train, steps._validate):
        traced = tf.function(step, autograph=False).get_concrete_function(*arguments)
        assert not find_forbidden_operations(traced)


@pytest.mark.parametrize("network", ["mlp", "cnn", "resnet"])
def test_a_training_that_diverges_ends_with_an_error(network: str) -> None:
    from imgpipe.console.training_table import TrainingProgress

    trainer = make_trainer({"network": network, "training__learning_rate": 1e38})
    with TrainingProgress(
        epochs=9, examples=70, finished_epochs=0, may_stop_early=False
    ) as progress:
        error = find_error(lambda: [trainer.run_epoch(progress) for _ in range(9)])
    assert "learning_rate" in error
