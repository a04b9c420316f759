"""The steps of training and validation on one device, compared with Keras's `fit`."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from support import EASY_PARAMS, build_network, change_params, make_easy_images

from imgpipe.nn.fitting.training_set import TrainingSet
from imgpipe.records.stored_images import LabeledInputs

pytestmark = pytest.mark.tf

CASES: dict[str, tuple[int, dict[str, Any]]] = {
    "plain": (10, {}),
    "batch normalization and dropout": (
        10,
        {"networks__cnn__batch_norm": True, "networks__cnn__dense_dropout_frac": 0.3},
    ),
    "two classes": (2, {}),
    "one-hot, smoothed": (
        10,
        {"training__label_encoding": "one_hot", "training__label_smoothing": 0.1},
    ),
    "class weights": (10, {"training__class_weights": "balanced"}),
    "penalties": (10, {"training__l1_penalty": 0.001, "training__l2_penalty": 0.01}),
    "random layers": (
        10,
        {"training__random_translation_frac": 0.1, "training__random_flip": "both"},
    ),
    "half precision": (10, {"training__precision": "mixed_float16"}),
    "sgd": (10, {"training__optimizer": "sgd", "training__learning_rate_schedule": "exponential"}),
}


@pytest.mark.parametrize("case", CASES)
def test_the_weights_are_equal_to_the_weights_from_fit(
    case: str, set_precision: Callable[[str], None]
) -> None:
    """To the last bit, after two epochs whose last batch is smaller than the others."""
    from imgpipe.console.training_table import TrainingProgress
    from imgpipe.nn.common.runtime import keras
    from imgpipe.nn.fitting.training_set import balance_classes
    from imgpipe.nn.training.augmentation_layers import add_random_layers
    from imgpipe.nn.training.loop import Trainer
    from imgpipe.nn.training.objective import make_optimizer, set_penalties
    from imgpipe.nn.training.replicas import Replicas
    from imgpipe.nn.training.shuffled_batches import TrainingBatches

    classes, changes = CASES[case]
    params = change_params(EASY_PARAMS, training__epochs=2, **changes)
    settings = params.training
    set_precision(settings.precision)
    images, labels = make_easy_images(90, classes)
    training_set = TrainingSet(images, labels, LabeledInputs(images, labels))

    def build() -> Any:
        keras.utils.set_random_seed(1)
        model = build_network("cnn", params, shape=(12, 12, 1), classes=classes)
        return add_random_layers(model, settings)

    trained = build()
    trainer = Trainer(trained, training_set, settings, Replicas(1))
    with TrainingProgress(
        epochs=settings.epochs, examples=90, finished_epochs=0, may_stop_early=False
    ) as progress:
        epochs = [trainer.run_epoch(progress) for _ in range(2)]

    fitted = build()
    set_penalties(fitted, settings)
    smoothing = settings.label_smoothing
    loss = "sparse_categorical_crossentropy"
    if settings.label_encoding == "one_hot":
        loss = keras.losses.CategoricalCrossentropy(label_smoothing=smoothing)
    fitted.compile(make_optimizer(settings, examples=90), loss, weighted_metrics=["accuracy"])
    fitted.optimizer.build(fitted.trainable_variables)
    batches = TrainingBatches(training_set, batch_size=settings.batch_size, seed=settings.seed)
    weights = balance_classes(labels) if settings.class_weights == "balanced" else None
    for epoch in range(2):

        def encode(inputs: Any, numbers: Any) -> Any:
            if settings.label_encoding == "one_hot":
                return inputs, keras.ops.one_hot(numbers, classes)
            return inputs, numbers

        fitted.fit(
            batches.of_epoch(epoch).map(encode),
            epochs=1,
            shuffle=False,
            verbose=0,
            class_weight=weights,
        )
    assert all(
        (a == b).all() for a, b in zip(trained.get_weights(), fitted.get_weights(), strict=True)
    )
    assert epochs[1].loss < epochs[0].loss


def test_validation_metrics_are_means_over_all_examples() -> None:
    """The batches have different sizes; a mean of means would differ."""
    from imgpipe.nn.common.batches import ordered_batches
    from imgpipe.nn.training.objective import Objective, make_optimizer
    from imgpipe.nn.training.replicas import Replicas
    from imgpipe.nn.training.steps import Steps

    images, labels = make_easy_images(33)
    model = build_network("cnn", EASY_PARAMS, shape=(12, 12, 1))
    optimizer = make_optimizer(EASY_PARAMS.training, examples=33)
    optimizer.build(model.trainable_variables)
    steps = Steps(model, optimizer, Objective(10, EASY_PARAMS.training, labels), Replicas(1))
    found = steps.validate(ordered_batches(images, labels, batch_size=32), 33, 32)
    # In the same batches, so that all sums have the same order.
    probabilities = np.concatenate(
        [np.asarray(model(batch), dtype=float) for batch in (images[:32], images[32:])]
    )
    losses = -np.log(probabilities[np.arange(33), labels])
    assert found.cross_entropy == pytest.approx(losses.mean(), rel=1e-5)
    assert found.cross_entropy_unweighted == found.cross_entropy
    assert found.accuracy == (probabilities.argmax(axis=1) == labels).mean()
