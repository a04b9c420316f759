"""The replicas of a training: devices of one machine or of several, with equal weights.

Each replica computes the gradients of its slice of each batch. The sums of the gradients update the
weights of all replicas. The engine is `tf.distribute`: `MirroredStrategy` on one machine, and
`MultiWorkerMirroredStrategy` if the variable TF_CONFIG names several workers.

Tested with two logical devices of a processor, and with two processes of one machine; not tested
with GPUs, nor with several machines.
"""

import json
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import keras
import tensorflow as tf

from imgpipe.console.messages import format_count
from imgpipe.core.errors import PipelineError
from imgpipe.nn.common.batches import Slice
from imgpipe.settings.params import PARAMS_FILE

_LOST = (
    tf.errors.AbortedError,
    tf.errors.CancelledError,
    tf.errors.DeadlineExceededError,
    tf.errors.InternalError,
    tf.errors.UnavailableError,
)


class Replicas:
    """The replicas of a training, and the part of this process.

    Attributes:
        strategy: runs a function on each replica, and adds up the results.
        count: the number of replicas.
        rows: the slice of each batch that the replicas of this process take.
        is_chief: whether this process writes files; the other workers only compute.
    """

    def __init__(self, count: int) -> None:
        """Choose the devices; call this before any tensor exists.

        If TF_CONFIG names several workers, wait until all of them have started: up to an hour.

        Raises:
            PipelineError: there are fewer devices, TF_CONFIG is not valid, or a worker is missing.
        """
        worker, self._workers = _read_tf_config()
        self.count, self.is_chief = count, worker == 0
        local = count // self._workers
        self.rows = Slice(worker * local, (worker + 1) * local, count)
        self.strategy = tf.distribute.get_strategy()
        if self._workers > 1:
            gpus = tf.config.list_physical_devices("GPU")
            devices = gpus or tf.config.list_physical_devices("CPU")
            _check_devices(count, devices, self._workers)
            tf.config.set_visible_devices(gpus[:local], "GPU")
            print(f"train: worker {worker} of {self._workers} waits for the others", flush=True)
            try:
                self.strategy = tf.distribute.MultiWorkerMirroredStrategy()
            except tf.errors.OpError as error:
                raise PipelineError(
                    f"train: the workers in TF_CONFIG cannot connect: {error.message}"
                ) from None
        elif count > 1:
            gpus = tf.config.list_logical_devices("GPU")
            devices = gpus or tf.config.list_logical_devices("CPU")
            _check_devices(count, devices)
            names = [device.name for device in devices[:count]]
            self.strategy = tf.distribute.MirroredStrategy(names)

    @contextmanager
    def scope(self) -> Iterator[None]:
        """Make variables on all replicas; all work on these variables belongs into this context.

        Raises:
            PipelineError: another worker was lost.
        """
        with self._report_lost_workers(), self.strategy.scope():
            yield

    def take_rows(self, size: tf.Tensor, *columns: tf.Tensor) -> tuple[tf.Tensor, ...]:
        """Return the rows of a batch for the replica that calls this function.

        The columns (B, ...) have the rows of `self.rows`; the batch of all replicas has `size`.
        """
        if self.rows.end - self.rows.first == 1:
            return columns
        replica = tf.distribute.get_replica_context().replica_id_in_sync_group
        first, _ = self.rows.bounds(size)
        start, end = Slice(replica, replica + 1, self.count).bounds(size)
        with tf.device("/CPU:0"):  # the device of the replica gets only its own rows
            return tuple(column[start - first : end - first] for column in columns)

    def synchronize_batch_norm(self, model: keras.Model) -> None:
        """Make batch normalization use the statistics of the batch of all replicas."""
        for layer in model._flatten_layers():
            if isinstance(layer, keras.layers.BatchNormalization):
                layer.synchronized = self.count > 1

    def check_equal(self, values: Mapping[str, int]) -> None:
        """Check that all workers have the same integers of less than 64 bits, named in an error.

        Raises:
            PipelineError: a value differs in another worker, or a worker was lost.
        """
        if self._workers == 1:
            return
        row = tf.constant([list(values.values())], tf.int64)
        with self._report_lost_workers():
            local = self.strategy.experimental_distribute_values_from_function(lambda _: row)
            rows = self.strategy.gather(local, axis=0).numpy()
        differing = [
            name for name, column in zip(values, rows.T, strict=True) if len(set(column)) > 1
        ]
        if differing:
            raise PipelineError(
                f"train: the workers in TF_CONFIG have different {differing[0]}; start all workers"
                " at the same commit, with the same data, and in a folder that all of them share"
            )

    @contextmanager
    def _report_lost_workers(self) -> Iterator[None]:
        try:
            yield
        except _LOST as error:
            if self._workers == 1:
                raise
            raise PipelineError(
                "train: another worker in TF_CONFIG stopped or does not answer"
                f" ({type(error).__name__}); start all workers again: the training resumes after"
                " the last finished epoch"
            ) from None


def _check_devices(count: int, devices: Sequence[Any], workers: int = 1) -> None:
    """Check that the devices of this machine, and of equal ones, suffice for the replicas."""
    where = f"{PARAMS_FILE}: training.replicas: expected "
    if count % workers:
        raise PipelineError(
            f"{where}a multiple of {workers}, the number of workers in TF_CONFIG; found {count}"
        )
    most = len(devices) * workers
    if count > most:
        has = f"has {format_count(len(devices), devices[0].device_type)}"
        who = f"each of the {workers} workers" if workers > 1 else "this machine"
        raise PipelineError(f"{where}at most {most}, because {who} {has}; found {count}")


def _read_tf_config() -> tuple[int, int]:
    """Return the number of this worker, from 0, and the number of workers.

    Source: https://www.tensorflow.org/api_docs/python/tf/distribute/cluster_resolver/TFConfigClusterResolver

    Raises:
        PipelineError: TF_CONFIG is not valid.
    """
    setting = os.environ.get("TF_CONFIG")
    if not setting:
        return 0, 1
    try:
        config: dict[str, Any] = json.loads(setting)
        workers, task = config["cluster"]["worker"], config["task"]
        index = int(task["index"])
        valid = set(config["cluster"]) == {"worker"} and task["type"] == "worker"
    except (ValueError, KeyError, TypeError):
        valid = False
    if not valid or not 0 <= index < len(workers):
        raise PipelineError(
            'TF_CONFIG: expected {"cluster": {"worker": ["host:port", ...]}, "task": {"type":'
            f' "worker", "index": 0}}}}; found {setting}'
        )
    return index, len(workers)
