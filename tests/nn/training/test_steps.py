"""The steps of training and validation on one device, compared with Keras's `fit`."""

from typing import Any

import numpy as np
import pytest
from support import EASY_PARAMS, build_network, change_params, make_easy_images

from imgpipe.nn.fitting.training_set import TrainingSet
from imgpipe.records.stored_images import LabeledInputs
from imgpipe.settings.training import Training

pytestmark = pytest.mark.tf

CASES: dict[str, tuple[int, dict[str, Any]]] = {
    "plain": (10, {}),
    "batch normalization": (10, {"networks__cnn__batch_norm": True}),
    "two classes": (2, {}),
    "smoothed": (10, {"training__label_smoothing": 0.1}),
    "class weights": (10, {"training__class_weights": "balanced"}),
    "penalties": (10, {"training__l1_penalty": 0.001, "training__l2_penalty": 0.01}),
    "adamw": (10, {"training__optimizer": "adamw"}),
    "rmsprop": (10, {"training__optimizer": "rmsprop"}),
    "sgd": (10, {"training__optimizer": "sgd", "training__learning_rate_schedule": "exponential"}),
    "constant": (10, {"training__learning_rate_schedule": "constant"}),
}


@pytest.mark.parametrize("arithmetic", ["exact", "native"])
@pytest.mark.parametrize("case", CASES)
def test_training_moves_the_weights_as_fit_of_keras_does(case: str, arithmetic: str) -> None:
    """In an epoch whose last batch is smaller; up to rounding, which training amplifies.

    The bound is half of the smallest effect that a case has: weight decay moves the weights by
    0.00065 of their way. RMSprop divides each gradient by its size, also a gradient near 0, of
    which rounding changes a larger share.
    """
    from imgpipe.console.training_table import TrainingProgress
    from imgpipe.nn.common.arithmetic import find_forward
    from imgpipe.nn.common.runtime import keras
    from imgpipe.nn.fitting.training_set import balance_classes
    from imgpipe.nn.training.loop import Trainer
    from imgpipe.nn.training.replicas import Replicas
    from imgpipe.nn.training.shuffled_batches import TrainingBatches

    classes, changes = CASES[case]
    params = change_params(EASY_PARAMS, arithmetic=arithmetic, training__epochs=1, **changes)
    settings = params.training
    images, labels = make_easy_images(90, classes)
    rare = (labels > 0) | (np.arange(90) < 40)  # the first class has fewer images than the others
    images, labels = images[rare], labels[rare]
    training_set = TrainingSet(images, labels, LabeledInputs(images, labels))

    def build() -> Any:
        keras.utils.set_random_seed(1)
        return build_network("cnn", params, shape=(12, 12, 1), classes=classes)

    trained, fitted = build(), build()
    start = flatten(fitted)
    trainer = Trainer(trained, training_set, settings, Replicas(1), find_forward(arithmetic))
    with TrainingProgress(
        epochs=1, examples=len(labels), finished_epochs=0, may_stop_early=False
    ) as progress:
        epoch = trainer.run_epoch(progress)

    if settings.l1_penalty or settings.l2_penalty:
        for weights in fitted.trainable_variables:
            if weights.name == "kernel":
                weights.regularizer = keras.regularizers.L1L2(
                    settings.l1_penalty, settings.l2_penalty
                )
    loss = keras.losses.CategoricalCrossentropy(label_smoothing=settings.label_smoothing)
    fitted.compile(make_keras_optimizer(settings, examples=len(labels)), loss)
    batches = TrainingBatches(training_set, batch_size=settings.batch_size, seed=settings.seed)
    history = fitted.fit(
        batches.of_epoch(0).map(lambda rows, numbers: (rows, keras.ops.one_hot(numbers, classes))),
        shuffle=False,
        verbose=0,
        class_weight=balance_classes(labels) if settings.class_weights == "balanced" else None,
    )
    way = np.linalg.norm(flatten(fitted) - start)
    bound = 0.01 if settings.optimizer == "rmsprop" else 0.0003
    assert np.linalg.norm(flatten(trained) - flatten(fitted)) < bound * way
    if case == "plain":
        assert epoch.loss == pytest.approx(history.history["loss"][0], rel=1e-4)


def flatten(model: Any) -> np.ndarray:
    """Return all weights of a model as one vector."""
    return np.concatenate([weights.ravel() for weights in model.get_weights()])


def make_keras_optimizer(settings: Training, *, examples: int) -> Any:
    """Return Keras's own optimizer and schedule."""
    from imgpipe.nn.common.batches import count_steps
    from imgpipe.nn.common.runtime import keras

    steps = settings.epochs * count_steps(examples, settings.batch_size)
    first, final = settings.learning_rate, settings.learning_rate_final_frac
    schedules = keras.optimizers.schedules
    rate = {
        "cosine": schedules.CosineDecay(first, steps, alpha=final),
        "exponential": schedules.ExponentialDecay(first, steps, final),
        "constant": first,
    }[settings.learning_rate_schedule]
    if settings.optimizer == "sgd":
        return keras.optimizers.SGD(rate, momentum=0.9, nesterov=True)
    kinds = {name.lower(): getattr(keras.optimizers, name) for name in ("Adam", "AdamW", "RMSprop")}
    return kinds[settings.optimizer](rate)


def test_validation_metrics_are_means_over_all_examples() -> None:
    """The batches have different sizes; a mean of means would differ."""
    from imgpipe.nn.common.arithmetic import find_forward
    from imgpipe.nn.common.batches import ordered_batches
    from imgpipe.nn.common.logits import make_logits_model
    from imgpipe.nn.training.objective import Objective
    from imgpipe.nn.training.optimizer import make_optimizer
    from imgpipe.nn.training.replicas import Replicas
    from imgpipe.nn.training.steps import Steps

    images, labels = make_easy_images(33)
    model = build_network("cnn", EASY_PARAMS, shape=(12, 12, 1))
    optimizer = make_optimizer(EASY_PARAMS.training, examples=33)
    optimizer.build(model.trainable_variables)
    objective = Objective(10, EASY_PARAMS.training, labels)
    steps = Steps(
        make_logits_model(model), optimizer, objective, Replicas(1), find_forward("native")
    )
    found = steps.validate(ordered_batches(images, labels, batch_size=32), 33, 32)
    # In the same batches, so that all sums have the same order.
    probabilities = np.concatenate(
        [np.asarray(model(batch), dtype=float) for batch in (images[:32], images[32:])]
    )
    losses = -np.log(probabilities[np.arange(33), labels])
    assert found.cross_entropy == pytest.approx(losses.mean(), rel=1e-5)
    assert found.cross_entropy_unweighted == found.cross_entropy
    assert found.accuracy == (probabilities.argmax(axis=1) == labels).mean()
