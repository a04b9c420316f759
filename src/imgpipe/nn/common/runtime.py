"""Import TensorFlow and Keras fast and silently, and configure them; import this module first."""

import os
import sys
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

from imgpipe.core.environment import count_workers

# Keras imports these if they are installed, for functions that this project does not use. They take
# as long to load as TensorFlow and the rest of Keras.
UNUSED_BY_KERAS = ("matplotlib", "pandas", "scipy", "sklearn")


@contextmanager
def _silent_stderr() -> Iterator[None]:
    """Drop what native code writes to standard error, unless the block fails."""
    sys.stderr.flush()
    original = os.dup(2)
    with tempfile.TemporaryFile() as dropped:
        os.dup2(dropped.fileno(), 2)
        try:
            yield
        except BaseException:
            dropped.seek(0)
            os.write(original, dropped.read())
            raise
        finally:
            os.dup2(original, 2)
            os.close(original)


@contextmanager
def _hidden(modules: Iterable[str]) -> Iterator[None]:
    """Make modules that are not loaded seem not to be installed."""
    hidden = [name for name in modules if name not in sys.modules]
    for name in hidden:
        sys.modules[name] = None  # type: ignore[assignment]  # as Python documents it
    try:
        yield
    finally:
        for name in hidden:
            del sys.modules[name]


# While TensorFlow loads, it reports which of its parts it has found, in lines marked as warnings
# that no log level silences; later messages obey the level.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
# Reuse the memory of tensors. Without this, TensorFlow does so only if it uses oneDNN, and returns
# the memory of each large tensor to the system: a training step with photographs of 150 pixels then
# takes 1.5 times the processor time, exact features 1.4 times.
os.environ.setdefault("TF_CPU_ALLOCATOR_USE_BFC", "1")
with _silent_stderr(), _hidden(UNUSED_BY_KERAS):
    import keras
    import tensorflow as tf


def configure_runtime(
    arithmetic: str, *, native_threads: int, seed: int = 0, precision: str = "float32"
) -> None:
    """Fix everything that equal bytes need: threads, seed, precision and the order of operations.

    Call it once, before any tensor exists.

    Args:
        arithmetic: exact or native. With exact arithmetic, TensorFlow's graph optimizer is off: it
            replaces divisions and square roots by instructions that differ between processors.
        native_threads: number of threads of one operation with native arithmetic: sums are split
            among the threads, so this number changes the last bits of a result. With exact
            arithmetic the number has no effect on a result; it is IMGPIPE_WORKERS, or all.
        seed: seed of initial weights, dropout and random transformations.
        precision: a dtype policy of Keras.
    """
    threads = native_threads if arithmetic == "native" else count_workers()
    tf.config.threading.set_intra_op_parallelism_threads(threads)
    tf.config.threading.set_inter_op_parallelism_threads(threads)
    tf.config.experimental.enable_op_determinism()
    tf.config.optimizer.set_experimental_options({"disable_meta_optimizer": arithmetic == "exact"})
    keras.utils.set_random_seed(seed)
    keras.config.set_dtype_policy(precision)
