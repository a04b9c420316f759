"""Training: epochs until the validation loss stops falling, and the best weights kept."""

from collections.abc import Callable
from dataclasses import astuple, dataclass, fields
from functools import partial
from typing import Any

import keras
import numpy as np
from numpy.typing import NDArray

from imgpipe.nn.common.batches import count_steps, ordered_batches
from imgpipe.nn.training.checkpoint import TrainingState, collect_variables
from imgpipe.nn.training.training_set import TrainingBatches
from imgpipe.records.stored_images import Images
from imgpipe.settings.train import Train

# Measured on two processor cores: beyond this, fewer returns to Python no longer show.
STEPS_PER_EXECUTION = 50


@dataclass(frozen=True)
class Epoch:
    """Scores of one epoch; the training ones are means over its steps, with dropout at work."""

    epoch: int
    """Counted from 1."""
    learning_rate: float
    """At the epoch's first step."""
    loss: float
    """Cross-entropy in nats, without label smoothing or penalties. With balanced class weights it
    is a mean over the classes, and so is the validation loss, by which the best epoch is chosen."""
    accuracy: float
    validation_loss: float
    validation_accuracy: float


EPOCH_COLUMNS = [field.name for field in fields(Epoch)]


def compile_model(model: keras.Model, settings: Train, *, examples: int) -> None:
    """Give the model its optimiser, learning-rate schedule and loss.

    The loss is binary cross-entropy for the sigmoid of two classes, else the cross-entropy of the
    labels as `encode_labels` gives them; to it come the penalties on the kernels, the weights
    that multiply (not biases, nor batch normalisation's).
    """
    if settings.l1_penalty or settings.l2_penalty:
        for weights in model.trainable_variables:
            if weights.name == "kernel":
                weights.regularizer = keras.regularizers.L1L2(
                    settings.l1_penalty, settings.l2_penalty
                )
    steps_per_epoch = count_steps(examples, settings.batch_size)
    rate = _learning_rate(settings, settings.epochs * steps_per_epoch)
    losses, metrics = keras.losses, keras.metrics
    loss: keras.losses.Loss
    if model.output_shape[-1] == 1:
        loss = losses.BinaryCrossentropy(label_smoothing=settings.label_smoothing)
        scores = [metrics.BinaryCrossentropy, metrics.BinaryAccuracy]
    elif _one_hot(settings):
        loss = losses.CategoricalCrossentropy(label_smoothing=settings.label_smoothing)
        scores = [metrics.CategoricalCrossentropy, metrics.CategoricalAccuracy]
    else:
        loss = losses.SparseCategoricalCrossentropy()
        scores = [metrics.SparseCategoricalCrossentropy, metrics.SparseCategoricalAccuracy]
    cross_entropy, accuracy = scores
    model.compile(
        optimizer=_optimizer(settings.optimizer, rate),
        loss=loss,
        metrics=[accuracy(name="accuracy")],
        weighted_metrics=[cross_entropy(name="cross_entropy")],
        steps_per_execution=min(STEPS_PER_EXECUTION, steps_per_epoch),
        jit_compile=False,  # XLA more than doubles the time of an epoch on a processor
    )


def train_model(
    model: keras.Model,
    images: Images,
    numbers: NDArray[np.int64],
    labels: NDArray[np.int64],
    validation: tuple[Images, NDArray[np.int64]],
    settings: Train,
    on_epoch: Callable[[list[Epoch]], None],
    *,
    on_images: Callable[[int, int, float, float], None] | None = None,
    reached: TrainingState | None = None,
    keep: Callable[[TrainingState], None] | None = None,
) -> list[Epoch]:
    """Train a compiled model and leave it with the weights of the epoch of lowest validation loss.

    Args:
        images: of all examples in all variants.
        numbers: (V, N), see `dataset.TrainingBatches`.
        labels: (N,) int64.
        validation: images (M, H, W, C) uint8 and labels (M,) int64.
        on_epoch: called after each epoch with all that were finished.
        on_images: called within each epoch, now and then: its number, how many images have been
            added to those seen, and the epoch's loss and accuracy so far.
        reached: where an earlier run of this training has stopped; this one goes on from there.
        keep: called after each epoch with what a later run would need to go on.

    Returns:
        one `Epoch` for each that was run, now or before.

    Raises:
        FloatingPointError: the training loss is no longer a number.
    """
    encoded = encode_labels(model, labels, settings)
    validation_images, validation_labels = validation
    columns: list[NDArray[Any]] = [encode_labels(model, validation_labels, settings)]
    class_weights = None
    if settings.class_weights == "balanced":
        class_weights = balance_classes(labels)
        weights = [class_weights.get(label, 0.0) for label in validation_labels.tolist()]
        columns.append(np.array(weights))
    validation_batches = ordered_batches(validation_images, *columns)
    batches = TrainingBatches(
        images, numbers, encoded, batch_size=settings.batch_size, seed=settings.seed
    )
    history: list[Epoch] = []
    best_weights: list[np.ndarray] = []
    # From the start, for it is built here: later, the order of its variables may be another.
    variables = collect_variables(model)
    if reached:
        history = [Epoch(int(number), *scores) for number, *scores in reached.history]
        best_weights = reached.best_weights
        for variable, value in zip(variables, reached.variables, strict=True):
            variable.assign(value)
    while len(history) < settings.epochs and not _is_patience_spent(history, settings):
        rate = float(model.optimizer.learning_rate)
        callbacks = []
        if on_images:
            tell = partial(on_images, len(history) + 1)
            callbacks.append(_Told(tell, len(labels), settings.batch_size))
        trained = model.fit(
            batches.of_epoch(len(history)),
            epochs=1,
            shuffle=False,
            verbose=0,
            class_weight=class_weights,
            callbacks=callbacks,
        ).history
        validated = model.evaluate(validation_batches, verbose=0, return_dict=True)
        epoch = Epoch(
            epoch=len(history) + 1,
            learning_rate=rate,
            loss=trained["cross_entropy"][0],
            accuracy=trained["accuracy"][0],
            validation_loss=validated["cross_entropy"],
            validation_accuracy=validated["accuracy"],
        )
        if not np.isfinite([epoch.loss, epoch.validation_loss]).all():
            raise FloatingPointError(f"the loss is {epoch.loss} after epoch {epoch.epoch}")
        history.append(epoch)
        if best_epoch(history) is epoch:
            best_weights = model.get_weights()
        if keep:
            rows = [list(astuple(row)) for row in history]
            values = [np.asarray(variable) for variable in variables]
            keep(TrainingState(rows, values, best_weights))
        on_epoch(history)
    model.set_weights(best_weights)
    return history


class _Told(keras.callbacks.Callback):  # type: ignore[misc]  # Keras has no types
    """Tells how far an epoch is."""

    def __init__(
        self, on_images: Callable[[int, float, float], None], examples: int, batch_size: int
    ) -> None:
        super().__init__()
        self._on_images = on_images
        self._examples, self._batch_size = examples, batch_size
        self._seen = 0

    def on_train_batch_end(self, batch: int, logs: dict[str, Any]) -> None:
        seen = min((batch + 1) * self._batch_size, self._examples)
        self._on_images(seen - self._seen, logs["cross_entropy"], logs["accuracy"])
        self._seen = seen


def _is_patience_spent(history: list[Epoch], settings: Train) -> bool:
    patience = settings.early_stopping_patience_epochs
    if not patience or not history:
        return False
    return history[-1].epoch - best_epoch(history).epoch >= patience


def encode_labels(
    model: keras.Model, labels: NDArray[np.int64], settings: Train
) -> NDArray[np.int64 | np.float32]:
    """Return labels (N,) int64 in the form that the model's loss takes.

    For two classes (N, 1) float32; else, by `train.label_encoding`, as they are or as one-hot
    vectors (N, K) float32. Smoothed labels can only be expressed as vectors.
    """
    classes = model.output_shape[-1]
    if classes == 1:
        return labels[:, None].astype(np.float32)
    return np.eye(classes, dtype=np.float32)[labels] if _one_hot(settings) else labels


def balance_classes(labels: NDArray[np.int64]) -> dict[int, float]:
    """Return a weight for each class there is, so that all weigh the same and 1 on average."""
    present, images = np.unique(labels, return_counts=True)
    weights = len(labels) / (len(present) * images)
    return dict(zip(present.tolist(), weights.tolist(), strict=True))


def _one_hot(settings: Train) -> bool:
    return settings.label_encoding == "one_hot" or settings.label_smoothing > 0


def best_epoch(history: list[Epoch]) -> Epoch:
    """Return the epoch whose weights the model bears: the first of lowest validation loss."""
    return min(history, key=lambda epoch: epoch.validation_loss)


def _learning_rate(
    settings: Train, steps: int
) -> float | keras.optimizers.schedules.LearningRateSchedule:
    first, final_frac = settings.learning_rate, settings.learning_rate_final_frac
    match settings.learning_rate_schedule:
        case "cosine":
            return keras.optimizers.schedules.CosineDecay(first, steps, alpha=final_frac)
        case "exponential":
            return keras.optimizers.schedules.ExponentialDecay(first, steps, final_frac)
        case _:
            return first


def _optimizer(
    name: str, rate: float | keras.optimizers.schedules.LearningRateSchedule
) -> keras.optimizers.Optimizer:
    match name:
        case "adam":
            return keras.optimizers.Adam(rate)
        case "adamw":
            return keras.optimizers.AdamW(rate)
        case "rmsprop":
            return keras.optimizers.RMSprop(rate)
        case _:
            return keras.optimizers.SGD(rate, momentum=0.9, nesterov=True)
