"""The progress of a long step: a bar on a terminal, and now and then a line elsewhere."""

import sys
from time import monotonic
from typing import Any

from tqdm import tqdm

from imgpipe.console.messages import format_bytes, format_duration, report

LOG_PAUSE_S = 30.0
"""Time between two lines if standard error is not a terminal."""


class ProgressBar(tqdm):  # type: ignore[type-arg]  # tqdm has parameters in its stubs only
    """A bar with rate and remaining time, on standard error; use it as a context manager.

    Without a terminal, a line every LOG_PAUSE_S seconds. The method `write` prints a line while the
    bar is shown.
    """

    monitor_interval = 0  # no thread: a process with threads should not fork

    def __init__(self, label: str, total: int, unit: str, *, done: int = 0) -> None:
        """Show the bar if standard error is a terminal; if not, the attribute `disable` is true.

        The unit is a noun such as "image", or "B" for bytes. `done` units are from an earlier run.
        """
        super().__init__(
            desc=label,
            total=total,
            initial=done,
            unit=unit if unit == "B" else f" {unit}s",
            unit_scale=unit == "B",
            dynamic_ncols=True,
            leave=False,
            miniters=1,
            disable=None,
        )
        if self.disable:
            self._label, self._unit, self._start, self._whole = label, unit, done, total
            self._start_s = self._last_s = monotonic()

    def update(self, n: float | None = 1) -> Any:
        """Advance by `n` units."""
        if not self.disable:
            return super().update(n)
        self.n += n or 0
        now_s = monotonic()
        if now_s - self._last_s >= LOG_PAUSE_S and self.n > self._start:
            self._last_s = now_s
            pace_s = (now_s - self._start_s) / (self.n - self._start)
            left = format_duration(max(0, self._whole - self.n) * pace_s)
            done, total = (
                format_bytes(count) if self._unit == "B" else f"{count:,}"
                for count in (self.n, self._whole)
            )
            noun = "" if self._unit == "B" else f" {self._unit}s"
            report(f"{self._label}: {done} of {total}{noun}, {left} left", stream=sys.stderr)
        return None
