"""A progress bar for a long step: on a terminal only."""

from typing import NoReturn, TypeAlias

from tqdm import tqdm

Bar: TypeAlias = "tqdm[NoReturn]"  # tqdm has type parameters in its stubs only


def progress_bar(label: str, total: int, unit: str, *, done: int = 0) -> Bar:
    """Return a bar with rate and remaining time, on standard error; use it as a context manager.

    If standard error is not a terminal, the bar shows nothing, and its attribute `disable` is true.
    Print a line while the bar is shown with its method `write`.

    Args:
        label: text before the bar.
        total: number of units of the whole step.
        unit: name of one unit, such as "image"; "B" for bytes, which are shown in kB, MB, ...
        done: number of units that an earlier run completed.
    """
    bar: Bar = tqdm(
        desc=label,
        total=total,
        initial=done,
        unit=unit if unit == "B" else f" {unit}s",
        unit_scale=unit == "B",
        dynamic_ncols=True,
        leave=False,
        disable=None,
    )
    return bar
