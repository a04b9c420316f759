"""The metrics of the finished epochs of a training, and their files."""

from collections.abc import Sequence
from typing import NamedTuple

from imgpipe.console.messages import format_count
from imgpipe.core.files import write_csv, write_json
from imgpipe.core.paths import HISTORY, TRAINING_METRICS


class Epoch(NamedTuple):
    """Metrics of one epoch; the training metrics are means over its steps, with dropout active.

    Losses are cross-entropies in nats, without label smoothing and penalties. With balanced class
    weights, `loss` and `validation_loss` are means over the classes.
    """

    epoch: int
    """Counted from 1."""
    learning_rate: float
    """At the first step of the epoch."""
    loss: float
    accuracy: float
    validation_loss: float
    """Decides the best epoch and early stopping."""
    validation_accuracy: float
    validation_loss_unweighted: float
    """Comparable between trainings with and without class weights."""


class History(NamedTuple):
    """The epochs of a training."""

    epochs: Sequence[Epoch]
    """All epochs, also the epochs of an earlier run."""
    best: Epoch
    """The epoch whose weights the model gets."""
    l2_penalty: float | None = None
    """Penalty of a fitted output layer, whose epochs are iterations of L-BFGS; else None."""

    def __str__(self) -> str:
        accuracy = f"validation accuracy {self.best.validation_accuracy:.4f}"
        if self.l2_penalty is None:
            return (
                f"{format_count(len(self.epochs), 'epoch')}; best is epoch {self.best.epoch}:"
                f" lowest validation loss {self.best.validation_loss:.4f}, {accuracy}"
            )
        return (
            f"{format_count(len(self.epochs), 'iteration')} of L-BFGS with l2_penalty"
            f" {self.l2_penalty:g}; weights of the last one: {accuracy}"
        )


def best_epoch(epochs: Sequence[Epoch]) -> Epoch:
    """Return the epoch whose weights the model gets: the first of lowest validation loss."""
    return min(epochs, key=lambda epoch: epoch.validation_loss)


def is_patience_spent(epochs: Sequence[Epoch], patience_epochs: int) -> bool:
    """Return whether the validation loss did not fall in the last `patience_epochs` epochs.

    A patience of 0 is never spent.
    """
    if not patience_epochs or not epochs:
        return False
    return epochs[-1].epoch - best_epoch(epochs).epoch >= patience_epochs


def write_metrics(history: History, parameters: int, temperature: float = 1.0) -> None:
    """Write the metrics of each epoch, a line for each, and the metrics of the best epoch.

    At least one epoch must be finished. `parameters` is the number of parameters of the network.
    The validation loss is measured without the temperature.
    """
    # The table leaves out the last metric, which is only for comparisons with other trainings.
    write_csv(HISTORY, Epoch._fields[:-1], (epoch[:-1] for epoch in history.epochs))
    best = history.best
    write_json(
        TRAINING_METRICS,
        {
            "validation_accuracy": best.validation_accuracy,
            "validation_loss": best.validation_loss,
            "validation_loss_unweighted": best.validation_loss_unweighted,
            "best_epoch": best.epoch,
            "epochs": len(history.epochs),
            "parameters": parameters,
            "temperature": temperature,
        },
    )
