"""The training loop: epochs until the validation loss stops falling, then the best weights.

The loop calls Keras's `fit` for one epoch at a time, because a stopped training must resume with
the same bytes: Keras's `BackupAndRestore` does not restore the random generators of dropout, the
order of the images, the state of early stopping, the best weights and the history.
"""

from dataclasses import astuple
from pathlib import Path
from typing import Any

import keras
import numpy as np
from numpy.typing import NDArray

from imgpipe.core.errors import PipelineError
from imgpipe.nn.common.batches import ordered_batches
from imgpipe.nn.training.augmentation_layers import add_random_layers
from imgpipe.nn.training.batches import TrainingBatches
from imgpipe.nn.training.checkpoint import Checkpoint, TrainingState
from imgpipe.nn.training.compilation import balance_classes, compile_model, encode_labels
from imgpipe.nn.training.history import (
    Epoch,
    Training,
    best_epoch,
    is_patience_spent,
    write_metrics,
)
from imgpipe.nn.training.progress import TrainingProgress
from imgpipe.nn.training.training_set import TrainingSet
from imgpipe.settings.params import PARAMS_FILE
from imgpipe.settings.train import Train


def train_model(
    model: keras.Model,
    training_set: TrainingSet,
    settings: Train,
    checkpoint: Checkpoint,
    metrics_folder: Path,
) -> Training:
    """Train a model; leave it with the weights of the epoch of lowest validation loss.

    After each epoch, save the checkpoint, write the metrics and print a line. If the checkpoint
    holds a state, resume there.

    Args:
        model: from `build_model`.
        training_set: the examples to train and to validate on.
        settings: the section `train` of params.yaml.
        checkpoint: the checkpoint of this training.
        metrics_folder: where `write_metrics` writes.

    Returns:
        the metrics of all epochs, also the epochs of an earlier run.

    Raises:
        PipelineError: the loss is no longer a number.
    """
    trainer = Trainer(add_random_layers(model, settings), training_set, settings)
    if state := checkpoint.load():
        trainer.resume(state)
        print(f"train: resuming after {len(trainer.history)} of {settings.epochs} epochs")
        write_metrics(metrics_folder, trainer.training, model.count_params())
    with TrainingProgress(settings, training_set.examples, len(trainer.history)) as progress:
        while not trainer.is_finished:
            epoch = trainer.run_epoch(progress)
            checkpoint.save(trainer.state)
            write_metrics(metrics_folder, trainer.training, model.count_params())
            progress.print_epoch(epoch)
    trainer.restore_best_weights()
    return trainer.training


class Trainer:
    """Trains a model epoch by epoch.

    Attributes:
        history: the metrics of the finished epochs.
    """

    def __init__(self, model: keras.Model, training_set: TrainingSet, settings: Train) -> None:
        """Compile the model and prepare the batches.

        Args:
            model: from `build_model` or `add_random_layers`.
            training_set: the examples to train and to validate on.
            settings: the section `train` of params.yaml.
        """
        compile_model(model, settings, examples=training_set.examples)
        self._model, self._settings = model, settings
        self._batches = TrainingBatches(
            training_set,
            encode_labels(model, training_set.labels, settings),
            batch_size=settings.batch_size,
            seed=settings.seed,
        )
        self._class_weights = (
            balance_classes(training_set.labels) if settings.class_weights == "balanced" else None
        )
        self._validation_batches = ordered_batches(
            training_set.validation.inputs, *self._validation_columns(training_set)
        )
        # The optimizer is built before the first step, as after a resume: then the order of its
        # variables is the same.
        model.optimizer.build(model.trainable_variables)
        self._variables = [*model.variables, *model.optimizer.variables]
        self.history: list[Epoch] = []
        self._best_weights: list[NDArray[Any]] = []

    def _validation_columns(self, training_set: TrainingSet) -> list[NDArray[Any]]:
        labels = training_set.validation.labels
        encoded = encode_labels(self._model, labels, self._settings)
        if self._class_weights is None:
            return [encoded]
        # A class without training examples has no weight.
        weights = [self._class_weights.get(label, 0.0) for label in labels.tolist()]
        return [encoded, np.array(weights)]

    def resume(self, state: TrainingState) -> None:
        """Continue an earlier run of the same training."""
        self.history = [Epoch(int(number), *metrics) for number, *metrics in state.history]
        self._best_weights = state.best_weights
        for variable, value in zip(self._variables, state.variables, strict=True):
            variable.assign(value)

    @property
    def is_finished(self) -> bool:
        """Whether all epochs are run, or the validation loss has stopped falling."""
        return len(self.history) >= self._settings.epochs or is_patience_spent(
            self.history, self._settings.early_stopping_patience_epochs
        )

    @property
    def training(self) -> Training:
        """The result so far; at least one epoch must be finished."""
        return Training(self.history, best_epoch(self.history))

    @property
    def state(self) -> TrainingState:
        """Everything that a later run needs to resume here."""
        return TrainingState(
            [list(astuple(epoch)) for epoch in self.history],
            [np.asarray(variable) for variable in self._variables],
            self._best_weights,
        )

    def run_epoch(self, progress: TrainingProgress) -> Epoch:
        """Train and validate one epoch; add its metrics to the history, and return them.

        Raises:
            PipelineError: the loss is no longer a number.
        """
        model, number = self._model, len(self.history) + 1
        learning_rate = float(model.optimizer.learning_rate)
        trained = model.fit(
            self._batches.of_epoch(number - 1),
            epochs=1,
            shuffle=False,
            verbose=0,
            class_weight=self._class_weights,
            callbacks=progress.callbacks(number),
        ).history
        validated = model.evaluate(self._validation_batches, verbose=0, return_dict=True)
        epoch = Epoch(
            epoch=number,
            learning_rate=learning_rate,
            loss=trained["cross_entropy"][0],
            accuracy=trained["accuracy"][0],
            validation_loss=validated["cross_entropy"],
            validation_accuracy=validated["accuracy"],
            validation_loss_unweighted=validated.get(
                "cross_entropy_unweighted", validated["cross_entropy"]
            ),
        )
        if not np.isfinite([epoch.loss, epoch.validation_loss]).all():
            raise PipelineError(
                f"train: the loss is {epoch.loss} after epoch {number}; lower train.learning_rate"
                f" in {PARAMS_FILE}"
            )
        self.history.append(epoch)
        if best_epoch(self.history) is epoch:
            self._best_weights = model.get_weights()
        return epoch

    def restore_best_weights(self) -> None:
        """Give the model the weights of the epoch of lowest validation loss."""
        self._model.set_weights(self._best_weights)
