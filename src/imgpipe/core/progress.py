"""How far a long step is: a bar on a terminal, nothing elsewhere."""

from typing import NoReturn, TypeAlias

from tqdm import tqdm

Bar: TypeAlias = "tqdm[NoReturn]"  # tqdm has type parameters in its stubs alone


def progress_bar(label: str, total: int, unit: str, *, done: int = 0) -> Bar:
    """Return a bar with rate and time left, on standard error; use it as a context manager.

    Where standard error is no terminal it shows nothing, and its attribute `disable` is true. A
    line that is printed meanwhile goes through its method `write`.

    Args:
        done: how much of the total was done before.
        unit: what is counted, "image"; of bytes "B", which are shown in kB, MB, ...
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
