"""A function over shards: in this process, in several, or on a Dask cluster.

The results are the same.
"""

from collections.abc import Callable, Sequence

from imgpipe.console.progress import ProgressBar
from imgpipe.core.environment import count_workers
from imgpipe.parallel.cluster import find_scheduler, map_on_cluster
from imgpipe.parallel.processes import map_in_processes
from imgpipe.parallel.task import ContentT, ResultT, Task


def map_shards(
    function: Callable[[ContentT], ResultT],
    tasks: Sequence[Task[ContentT]],
    *,
    label: str,
    unit: str = "image",
    in_process_up_to: int = 1,
) -> list[ResultT]:
    """Return `[function(task.content) for task in tasks]`, by processes or on a Dask cluster.

    `function` and the tasks must be picklable. `function` is sent once to each process, so data
    that all tasks share belong to `function` (`functools.partial`). Up to `in_process_up_to` tasks,
    no other process is started.

    The text `label` is before the progress bar, which counts units.

    Raises:
        PipelineError: `function` raised it, a worker died, `IMGPIPE_WORKERS` is not a whole number,
            or the cluster cannot be used. The other tasks are canceled.
    """
    address = find_scheduler()
    with ProgressBar(label, sum(task.images for task in tasks), unit) as bar:

        def advance(task: Task[ContentT]) -> None:
            bar.update(task.images)

        if address:
            return map_on_cluster(function, tasks, address, label=label, on_finished=advance)
        return map_in_processes(
            function,
            tasks,
            processes=count_workers() if len(tasks) > in_process_up_to else 1,
            label=label,
            on_finished=advance,
        )
