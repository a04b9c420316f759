"""How far a training is: a line for each epoch, and a bar on a terminal."""

import sys
from types import TracebackType
from typing import Any

import keras

from imgpipe.core.progress import progress_bar
from imgpipe.nn.training.history import Epoch
from imgpipe.settings.train import Train


class TrainingProgress:
    """Prints a line for each epoch and shows a progress bar; use it as a context manager.

    The bar counts images, on standard error, only if that is a terminal.
    """

    def __init__(self, settings: Train, examples: int, finished_epochs: int) -> None:
        """Show the bar.

        Args:
            settings: the section `train` of params.yaml.
            examples: training images in an epoch.
            finished_epochs: epochs of an earlier run that are not repeated.
        """
        self._epochs, self._batch_size = settings.epochs, settings.batch_size
        self._examples = examples
        self._bar = progress_bar(
            "train", settings.epochs * examples, "image", done=finished_epochs * examples
        )

    def __enter__(self) -> "TrainingProgress":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._bar.close()

    def callbacks(self, epoch: int) -> list[keras.callbacks.Callback]:
        """Return the callbacks by which Keras advances the bar in an epoch, counted from 1."""
        return [] if self._bar.disable else [_AdvanceBar(self, epoch)]

    def show_steps(self, epoch: int, steps: int, loss: float, accuracy: float) -> None:
        """Advance the bar to the end of some steps of an epoch; show the metrics so far."""
        images = min(steps * self._batch_size, self._examples)
        self._bar.set_description(f"epoch {epoch}/{self._epochs}", refresh=False)
        self._bar.set_postfix_str(f"loss {loss:.4f}, accuracy {accuracy:.4f}", refresh=False)
        self._bar.update((epoch - 1) * self._examples + images - self._bar.n)

    def print_epoch(self, epoch: Epoch) -> None:
        """Print the line of an epoch, above the bar."""
        self._bar.write(
            f"epoch {epoch.epoch:3d}/{self._epochs}"
            f"  loss {epoch.loss:.4f}  accuracy {epoch.accuracy:.4f}  validation"
            f"  loss {epoch.validation_loss:.4f}  accuracy {epoch.validation_accuracy:.4f}",
            file=sys.stdout,
        )
        sys.stdout.flush()


class _AdvanceBar(keras.callbacks.Callback):  # type: ignore[misc]  # Keras has no types
    """Advances a progress bar in one epoch, after each group of steps that Keras executes."""

    def __init__(self, progress: TrainingProgress, epoch: int) -> None:
        super().__init__()
        self._progress, self._epoch = progress, epoch

    def on_train_batch_end(self, batch: int, logs: dict[str, Any]) -> None:
        self._progress.show_steps(self._epoch, batch + 1, logs["cross_entropy"], logs["accuracy"])
