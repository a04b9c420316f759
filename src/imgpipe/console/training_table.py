"""The progress of a training: a table with a line for each epoch, and a bar on a terminal."""

import sys
from collections.abc import Sequence
from time import monotonic

from imgpipe.console.messages import format_duration
from imgpipe.console.progress import ProgressBar

_COLUMNS = ("training loss", "accuracy", "validation loss", "accuracy", "time")
_WIDTHS = (13, 8, 15, 8, 8, 12)


class TrainingProgress:
    """Prints a table of the epochs and shows a progress bar; use it as a context manager.

    The bar counts images, on standard error, only if that is a terminal.
    """

    def __init__(
        self, *, epochs: int, examples: int, finished_epochs: int, may_stop_early: bool
    ) -> None:
        """Show the bar, and start the clock.

        `examples` are in an epoch; `finished_epochs` of an earlier run are not repeated.
        """
        self._epochs, self._examples = epochs, examples
        self._may_stop_early = may_stop_early
        self._durations_s: list[float] = []
        self._last_s = monotonic()
        self._bar = ProgressBar(
            "train", epochs * examples, "image", done=finished_epochs * examples
        )

    def __enter__(self) -> "TrainingProgress":
        return self

    def __exit__(self, *error: object) -> None:
        self._bar.close()

    def show(self, epoch: int, images: int, loss: float, accuracy: float) -> None:
        """Advance the bar to a number of images in an epoch; show the metrics so far."""
        self._bar.set_description(f"epoch {epoch}/{self._epochs}", refresh=False)
        self._bar.set_postfix_str(f"loss {loss:.4f}, accuracy {accuracy:.4f}", refresh=False)
        self._bar.update((epoch - 1) * self._examples + images - self._bar.n)

    def print_epoch(self, epoch: int, metrics: Sequence[float]) -> None:
        """Print the line of an epoch, above the bar; before the first one, the names of columns.

        The last columns are the time of the epoch and the estimated time until the last one.

        The metrics are loss and accuracy of training, then of validation.
        """
        number = f"epoch {epoch:3d}/{self._epochs}"
        if not self._durations_s:
            left = "left at most" if self._may_stop_early else "left"
            self._print(" " * len(number), *_COLUMNS, left)
        now_s = monotonic()
        self._durations_s.append(now_s - self._last_s)
        self._last_s = now_s
        # The first epoch takes longer: TensorFlow compiles the training step.
        usual_s = self._durations_s[1:] or self._durations_s
        left_s = (self._epochs - epoch) * sum(usual_s) / len(usual_s)
        self._print(
            number,
            *(f"{value:.4f}" for value in metrics),
            format_duration(self._durations_s[-1]),
            format_duration(left_s),
        )

    def _print(self, first: str, *cells: str) -> None:
        """Print a line of the table, above the bar."""
        aligned = (f"{cell:>{width}}" for cell, width in zip(cells, _WIDTHS, strict=True))
        self._bar.write("  ".join([first, *aligned]), file=sys.stdout)
        sys.stdout.flush()
