"""Configure a training: loss, penalties, class weights, optimizer, learning rate, metrics."""

import keras
import numpy as np
from numpy.typing import NDArray

from imgpipe.nn.common.batches import count_steps
from imgpipe.settings.train import Train

# More steps in one call of Python save no more time (measured on two processor cores).
STEPS_PER_EXECUTION = 50


def compile_model(model: keras.Model, settings: Train, *, examples: int) -> None:
    """Give a model its optimizer, learning rate schedule, loss and metrics.

    The loss is binary cross-entropy for the sigmoid of two classes, else the cross-entropy of the
    labels as `encode_labels` returns them. The penalties on all kernels are added to the loss.
    Biases and the weights of batch normalization have no penalty.

    The metrics are `accuracy`; `cross_entropy`, in nats, without label smoothing and penalties, but
    with class weights; and, only with class weights, `cross_entropy_unweighted`.

    Args:
        model: from `build_model` or `add_random_layers`.
        settings: the section `train` of params.yaml.
        examples: the number of training examples in an epoch.
    """
    if settings.l1_penalty or settings.l2_penalty:
        for weights in model.trainable_variables:
            if weights.name == "kernel":
                weights.regularizer = keras.regularizers.L1L2(
                    settings.l1_penalty, settings.l2_penalty
                )
    steps_per_epoch = count_steps(examples, settings.batch_size)
    rate = _make_learning_rate(settings, settings.epochs * steps_per_epoch)
    loss: keras.losses.Loss
    if model.output_shape[-1] == 1:
        loss = keras.losses.BinaryCrossentropy(label_smoothing=settings.label_smoothing)
        cross_entropy = keras.metrics.BinaryCrossentropy
        accuracy = keras.metrics.BinaryAccuracy
    elif _is_one_hot(settings):
        loss = keras.losses.CategoricalCrossentropy(label_smoothing=settings.label_smoothing)
        cross_entropy = keras.metrics.CategoricalCrossentropy
        accuracy = keras.metrics.CategoricalAccuracy
    else:
        loss = keras.losses.SparseCategoricalCrossentropy()
        cross_entropy = keras.metrics.SparseCategoricalCrossentropy
        accuracy = keras.metrics.SparseCategoricalAccuracy
    metrics = [accuracy(name="accuracy")]
    if settings.class_weights == "balanced":
        metrics.append(cross_entropy(name="cross_entropy_unweighted"))
    model.compile(
        optimizer=_make_optimizer(settings.optimizer, rate),
        loss=loss,
        metrics=metrics,
        weighted_metrics=[cross_entropy(name="cross_entropy")],
        steps_per_execution=min(STEPS_PER_EXECUTION, steps_per_epoch),
        jit_compile=False,  # on a CPU, XLA more than doubles the time of an epoch
    )


def encode_labels(
    model: keras.Model, labels: NDArray[np.int64], settings: Train
) -> NDArray[np.int64 | np.float32]:
    """Return labels (N,) int64 in the form that the loss of the model takes.

    For two classes (N, 1) float32; else, by `train.label_encoding`, unchanged or as one-hot vectors
    (N, K) float32. Smoothed labels can only be expressed as vectors.
    """
    classes = model.output_shape[-1]
    if classes == 1:
        return labels[:, None].astype(np.float32)
    return np.eye(classes, dtype=np.float32)[labels] if _is_one_hot(settings) else labels


def balance_classes(labels: NDArray[np.int64]) -> dict[int, float]:
    """Return weights that give each class in `labels` the same total, with mean 1 over examples."""
    present, examples = np.unique(labels, return_counts=True)
    weights = len(labels) / (len(present) * examples)
    return dict(zip(present.tolist(), weights.tolist(), strict=True))


def _is_one_hot(settings: Train) -> bool:
    return settings.label_encoding == "one_hot" or settings.label_smoothing > 0


def _make_learning_rate(
    settings: Train, steps: int
) -> float | keras.optimizers.schedules.LearningRateSchedule:
    first, final_frac = settings.learning_rate, settings.learning_rate_final_frac
    match settings.learning_rate_schedule:
        case "cosine":
            return keras.optimizers.schedules.CosineDecay(first, steps, alpha=final_frac)
        case "exponential":
            return keras.optimizers.schedules.ExponentialDecay(first, steps, final_frac)
        case "constant":
            return first


def _make_optimizer(
    name: str, rate: float | keras.optimizers.schedules.LearningRateSchedule
) -> keras.optimizers.Optimizer:
    match name:
        case "adam":
            return keras.optimizers.Adam(rate)
        case "adamw":
            return keras.optimizers.AdamW(rate)
        case "rmsprop":
            return keras.optimizers.RMSprop(rate)
        case "sgd":
            return keras.optimizers.SGD(rate, momentum=0.9, nesterov=True)
    raise ValueError(f"{name!r}: unknown optimizer")
