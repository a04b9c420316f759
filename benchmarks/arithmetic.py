"""The arithmetic of a training step in the current project, and of this machine, with TensorFlow.

    python arithmetic.py PRECISION

Prints the floating-point operations for one image, and the operations per second of a large matrix
product.
"""

import math
import sys
import time

import keras
import tensorflow as tf

from imgpipe.nn.common.runtime import configure_runtime
from imgpipe.records.normalization import Normalization
from imgpipe.settings.params import load_params

SIDE = 4096
REPETITIONS = 5


def count_operations(model: keras.Model) -> int:
    """Return the floating-point operations of one image in a training step.

    The function counts convolutions and dense layers, which do almost all operations. A
    multiplication and an addition are two operations. A step computes the outputs, the gradients of
    the weights, and the gradients of each layer's input. The first layer's input is the image, so
    it needs no gradient.
    """
    forward: list[int] = []
    for layer in model.layers:
        if isinstance(layer, keras.layers.Conv2D | keras.layers.Dense):
            places = math.prod(layer.output.shape[1:-1])
            forward.append(2 * math.prod(layer.kernel.shape) * places)
    return 3 * sum(forward) - forward[0]


def peak_operations_s(dtype: str) -> float:
    """Return floating-point operations per second, the best of some large matrix products."""
    generator = tf.random.Generator.from_seed(1)
    first, second = (tf.cast(generator.normal([SIDE, SIDE]), dtype) for _ in range(2))
    best_s = math.inf
    for _ in range(REPETITIONS):
        start = time.perf_counter()
        tf.reduce_sum(tf.matmul(first, second)).numpy()
        best_s = min(best_s, time.perf_counter() - start)
    return 2 * SIDE**3 / best_s


def main() -> None:
    (precision,) = sys.argv[1:]
    params = load_params()
    configure_runtime(params.arithmetic, native_threads=params.arithmetics.native.threads, seed=1)
    from imgpipe.nn.networks import build_model

    channels = params.preprocess.channels
    model = build_model(
        params.network,
        params.network_settings,
        image_shape=params.preprocess.image_shape,
        classes=10,
        normalization=Normalization(
            method="rescale", scale=[1 / 255] * channels, offset=[0.0] * channels
        ),
    )
    print(count_operations(model), peak_operations_s(precision.removeprefix("mixed_")))


if __name__ == "__main__":
    main()
