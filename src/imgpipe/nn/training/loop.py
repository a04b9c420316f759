"""The training loop: epochs until the validation loss stops falling, then the best weights.

A stopped training resumes with the same bytes. Keras's `BackupAndRestore` does not restore the
random generators of dropout, the order of the images, the state of early stopping, the best weights
and the history.
"""

from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
from numpy.typing import NDArray

from imgpipe.console.training_table import TrainingProgress
from imgpipe.core.errors import PipelineError
from imgpipe.nn.common.arithmetic import Forward
from imgpipe.nn.common.batches import evaluation_batch_size, ordered_batches
from imgpipe.nn.common.logits import make_logits_model
from imgpipe.nn.fitting.history import (
    Epoch,
    History,
    best_epoch,
    is_patience_spent,
    write_metrics,
)
from imgpipe.nn.fitting.training_set import TrainingSet
from imgpipe.nn.training.augmentation_layers import add_random_layers
from imgpipe.nn.training.checkpoint import Checkpoint, TrainingState
from imgpipe.nn.training.objective import Objective
from imgpipe.nn.training.optimizer import make_optimizer
from imgpipe.nn.training.replicas import Replicas
from imgpipe.nn.training.shuffled_batches import TrainingBatches
from imgpipe.nn.training.steps import Steps
from imgpipe.settings.params import PARAMS_FILE
from imgpipe.settings.training import Training


def train_model(
    model: keras.Model,
    training_set: TrainingSet,
    settings: Training,
    checkpoint: Checkpoint,
    replicas: Replicas,
    forward: Forward,
) -> History:
    """Train a model; leave it with the weights of the epoch of lowest validation loss.

    The model is from `build_model`, made in the scope of the replicas. After each epoch, save the
    checkpoint, write the metrics and print a line. If the checkpoint holds a state, resume there.
    If several workers train, only the chief writes files.

    Returns:
        the metrics of all epochs, also the epochs of an earlier run.

    Raises:
        PipelineError: the loss or a weight is no longer a number, the last batch is too small for
            the replicas, another worker was lost or trains something else, or exact arithmetic
            lacks a layer.
    """
    with replicas.scope():
        trainer = Trainer(model, training_set, settings, replicas, forward)
        _resume(trainer, checkpoint, replicas)

        def write() -> None:
            if replicas.is_chief:
                write_metrics(trainer.history, model.count_params())

        if trainer.epochs:
            print(f"train: resuming after {len(trainer.epochs)} of {settings.epochs} epochs")
            write()
        with TrainingProgress(
            epochs=settings.epochs,
            examples=training_set.examples,
            finished_epochs=len(trainer.epochs),
            may_stop_early=settings.early_stopping_patience_epochs > 0,
        ) as progress:
            while not trainer.is_finished:
                epoch = trainer.run_epoch(progress)
                state = trainer.state  # in all workers, because reading it may need all of them
                if replicas.is_chief:
                    checkpoint.save(state)
                write()
                progress.print_epoch(
                    epoch.epoch,
                    (epoch.loss, epoch.accuracy, epoch.validation_loss, epoch.validation_accuracy),
                )
        trainer.restore_best_weights()
    return trainer.history


def _resume(trainer: "Trainer", checkpoint: Checkpoint, replicas: Replicas) -> None:
    """Load the checkpoint, if there is one, in all workers; check that it is the same."""
    state = checkpoint.load()
    replicas.check_equal(
        {
            "code, libraries, parameters or data": int(checkpoint.digest[:15], 16),
            "checkpoints": len(state.history) if state else 0,
        }
    )
    if state:
        trainer.resume(state)


class Trainer:
    """Trains a model epoch by epoch."""

    def __init__(
        self,
        model: keras.Model,
        training_set: TrainingSet,
        settings: Training,
        replicas: Replicas,
        forward: Forward,
    ) -> None:
        """Prepare the optimizer, the loss and the batches; call this in the scope of the replicas.

        Args:
            model: the network, which returns probabilities; `forward` computes it.
            training_set: the images to train and to validate on.
            settings: the section `training` of params.yaml.
            replicas: the devices.
            forward: computes the network.

        Raises:
            PipelineError: the last batch of an epoch has fewer examples than there are replicas.
        """
        last_batch = training_set.examples % settings.batch_size or settings.batch_size
        if last_batch < replicas.count:
            raise PipelineError(
                f"{PARAMS_FILE}: training.batch_size: the last batch of an epoch has {last_batch}"
                f" of {training_set.examples:,} images, expected at least training.replicas,"
                f" {replicas.count}; choose another size"
            )
        replicas.synchronize_batch_norm(model)
        trained = add_random_layers(make_logits_model(model), settings)
        self._model, self._settings, self._training_set = model, settings, training_set
        self._optimizer = make_optimizer(settings, examples=training_set.examples)
        # The optimizer is built before the first step, as after a resume: then the order of its
        # variables is the same.
        self._optimizer.build(trained.trainable_variables)
        objective = Objective(model.output_shape[-1], settings, training_set.labels)
        self._steps = Steps(trained, self._optimizer, objective, replicas, forward)
        self._batches = TrainingBatches(
            training_set,
            batch_size=settings.batch_size,
            seed=settings.seed,
            rows=replicas.rows,
        )
        inputs, labels = training_set.validation
        self._validation_batch_size = replicas.count * evaluation_batch_size(inputs.shape[1:])
        self._validation_batches = ordered_batches(
            inputs, labels, batch_size=self._validation_batch_size, rows=replicas.rows
        )
        self._variables = [*trained.variables, *self._optimizer.variables]
        self.epochs: list[Epoch] = []
        self._best_weights: list[NDArray[Any]] = []

    def resume(self, state: TrainingState) -> None:
        """Continue an earlier run of the same training."""
        self.epochs = [Epoch(int(number), *metrics) for number, *metrics in state.history]
        self._best_weights = state.best_weights
        for variable, value in zip(self._variables, state.variables, strict=True):
            variable.assign(value)

    @property
    def is_finished(self) -> bool:
        """Whether all epochs are run, or the validation loss has stopped falling."""
        return len(self.epochs) >= self._settings.epochs or is_patience_spent(
            self.epochs, self._settings.early_stopping_patience_epochs
        )

    @property
    def history(self) -> History:
        """The result so far; at least one epoch must be finished."""
        return History(self.epochs, best_epoch(self.epochs))

    @property
    def state(self) -> TrainingState:
        """Everything that a later run needs to resume here."""
        return TrainingState(
            [list(epoch) for epoch in self.epochs],
            [np.asarray(variable) for variable in self._variables],
            self._best_weights,
        )

    def run_epoch(self, progress: TrainingProgress) -> Epoch:
        """Train and validate one epoch; add its metrics to the history, and return them.

        Raises:
            PipelineError: the loss or a weight is no longer a number.
        """
        number, examples = len(self.epochs) + 1, self._training_set.examples
        learning_rate = float(np.asarray(self._optimizer.learning_rate))
        batches = self._batches.of_epoch(number - 1)
        for images, trained in self._steps.train(batches, examples, self._settings.batch_size):
            progress.show(number, images, trained.cross_entropy, trained.accuracy)
        validated = self._steps.validate(
            self._validation_batches,
            len(self._training_set.validation.labels),
            self._validation_batch_size,
        )
        epoch = Epoch(
            epoch=number,
            learning_rate=learning_rate,
            loss=trained.cross_entropy,
            accuracy=trained.accuracy,
            validation_loss=validated.cross_entropy,
            validation_accuracy=validated.accuracy,
            validation_loss_unweighted=validated.cross_entropy_unweighted,
        )
        weights = self._model.get_weights()
        _check_finite(epoch, weights)
        self.epochs.append(epoch)
        if best_epoch(self.epochs) is epoch:
            self._best_weights = weights
        return epoch

    def restore_best_weights(self) -> None:
        """Give the model the weights of the epoch of lowest validation loss."""
        self._model.set_weights(self._best_weights)


def _check_finite(epoch: Epoch, weights: Sequence[NDArray[Any]]) -> None:
    """Check that an epoch ended with numbers: ReLU and max pooling may hide NaN from the loss.

    Raises:
        PipelineError: a loss or a weight is infinite or not a number.
    """
    if not np.isfinite([epoch.loss, epoch.validation_loss]).all():
        what = f"the loss is {epoch.loss}"
    elif not all(np.isfinite(values).all() for values in weights):
        what = "some weights are not finite"
    else:
        return
    raise PipelineError(
        f"train: {what} after epoch {epoch.epoch}; lower training.learning_rate in {PARAMS_FILE}"
    )
