"""TensorFlow's process-wide settings, so that equal inputs give equal bytes; import this first."""

import os
import sys
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager


@contextmanager
def _held_back_stderr() -> Iterator[None]:
    """Drop what native code writes to standard error, unless the block fails."""
    sys.stderr.flush()
    original = os.dup(2)
    with tempfile.TemporaryFile() as held_back:
        os.dup2(held_back.fileno(), 2)
        try:
            yield
        except BaseException:
            held_back.seek(0)
            os.write(original, held_back.read())
            raise
        finally:
            os.dup2(original, 2)
            os.close(original)


# Keras imports these where it finds them, for conveniences that nothing here makes use of. They
# take as long to load as TensorFlow and the rest of Keras do.
NOT_FOR_KERAS = ("matplotlib", "pandas", "scipy", "sklearn")


@contextmanager
def _hidden(modules: Iterable[str]) -> Iterator[None]:
    """Let modules that are not loaded seem not to be installed."""
    hidden = [name for name in modules if name not in sys.modules]
    for name in hidden:
        sys.modules[name] = None  # type: ignore[assignment]  # as Python documents it
    try:
        yield
    finally:
        for name in hidden:
            del sys.modules[name]


# While TensorFlow loads, it reports which of its parts it has found, in lines marked as warnings
# that no log level silences; later messages heed the level.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
with _held_back_stderr(), _hidden(NOT_FOR_KERAS):
    import keras
    import tensorflow as tf


def configure_runtime(*, threads: int, seed: int, precision: str) -> None:
    """Fix the number of threads, the seed, the precision and the order of every operation.

    To be called once, before any tensor exists.

    Args:
        threads: threads of one operation; sums are split among them, so their number shows in the
            last bits of a result.
        precision: a Keras dtype policy.
    """
    tf.config.threading.set_intra_op_parallelism_threads(threads)
    tf.config.threading.set_inter_op_parallelism_threads(threads)
    tf.config.experimental.enable_op_determinism()
    keras.utils.set_random_seed(seed)
    keras.config.set_dtype_policy(precision)
