"""Print the CPU milliseconds of a training step of some networks, and of features of a photograph.

    python step_times.py exact|native

The images are random. IMGPIPE_WORKERS must be 1: then one thread computes. The last line is a JSON
object, from name to milliseconds.
"""

import json
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from imgpipe.experiments.recipes import DEFAULTS
from imgpipe.records.normalization import Normalization
from imgpipe.settings.params import Params
from measuring import load_values

BATCH_SIZE = 32
PHOTOGRAPHS = 8
REPETITIONS = 4


@dataclass(frozen=True)
class Subject:
    """A network: the recipe with its values, and changes of these."""

    recipe: str
    changes: dict[str, Any]
    steps: int
    """In one repetition: fewer for slow networks."""


SUBJECTS = {
    "`digits`: default `cnn`": Subject(DEFAULTS, {}, 20),
    "MNIST: recipe `mnist_tutorial_cnn`": Subject("mnist_tutorial_cnn", {}, 20),
    "`digits`: default `cnn`, batch normalization": Subject(
        DEFAULTS, {"networks.cnn.batch_norm": True}, 20
    ),
    "`digits`: default `resnet`, batch normalization": Subject(DEFAULTS, {"network": "resnet"}, 8),
    "cats and dogs, 150 px: recipe `cats_vs_dogs`": Subject("cats_vs_dogs", {}, 1),
}
FEATURES = "features of a photograph, 224 px: recipe `photographs`"


def main() -> None:
    (arithmetic,) = sys.argv[1:]
    from imgpipe.nn.common.runtime import configure_runtime

    configure_runtime(arithmetic, native_threads=1, seed=1)
    times = {
        name: _milliseconds(_prepare_steps(subject, arithmetic), subject.steps)
        for name, subject in SUBJECTS.items()
    }
    times[FEATURES] = _milliseconds(_prepare_features(arithmetic), PHOTOGRAPHS)
    print(json.dumps(times))


def _milliseconds(run: Callable[[], object], count: int) -> float:
    """Return the least CPU milliseconds of a function of several calls, for each of its parts."""
    run()  # TensorFlow compiles
    times_s = []
    for _ in range(REPETITIONS):
        start = time.process_time()
        run()
        times_s.append(time.process_time() - start)
    return 1000 * min(times_s) / count


def _prepare_steps(subject: Subject, arithmetic: str) -> Callable[[], object]:
    """Return a function that runs the training steps of a network."""
    import tensorflow as tf

    from imgpipe.nn.common.arithmetic import find_forward
    from imgpipe.nn.common.logits import make_logits_model
    from imgpipe.nn.networks import build_model
    from imgpipe.nn.training.objective import Objective
    from imgpipe.nn.training.optimizer import make_optimizer
    from imgpipe.nn.training.replicas import Replicas
    from imgpipe.nn.training.steps import Steps

    params = _params_of(subject.recipe, arithmetic, subject.changes)
    shape, classes = params.preprocess.image_shape, 10
    model = build_model(
        params.network,
        params.network_settings,
        image_shape=shape,
        classes=classes,
        normalization=Normalization(
            method="rescale", scale=[1 / 255] * shape[-1], offset=[0.0] * shape[-1]
        ),
    )
    trained = make_logits_model(model)
    examples = subject.steps * BATCH_SIZE
    optimizer = make_optimizer(params.training, examples=examples)
    optimizer.build(trained.trainable_variables)
    images, labels = _random_images(examples, shape), np.arange(examples) % classes
    objective = Objective(classes, params.training, labels)
    steps = Steps(trained, optimizer, objective, Replicas(1), find_forward(arithmetic))
    batches = tf.data.Dataset.from_tensor_slices((images, labels)).batch(BATCH_SIZE)
    return lambda: list(steps.train(batches, examples, BATCH_SIZE))


def _prepare_features(arithmetic: str) -> Callable[[], object]:
    """Return a function that computes features as `train` does, without storing them."""
    import keras
    import tensorflow as tf

    from imgpipe.nn.common.arithmetic import find_forward
    from imgpipe.nn.transfer.weights import build_pretrained

    params = _params_of("photographs", arithmetic, {})
    shape = params.preprocess.image_shape
    model = build_pretrained(params.network, image_shape=shape, classes=2)
    network = keras.Model(model.input, model.get_layer("logits").input)
    forward = find_forward(arithmetic)
    extract = tf.function(lambda images: forward(network, images, training=False), autograph=False)
    images = tf.constant(_random_images(params.transfer.batch_size, shape))
    return lambda: [extract(images) for _ in range(PHOTOGRAPHS // len(images))]


def _params_of(recipe: str, arithmetic: str, changes: Mapping[str, Any]) -> Params:
    values = load_values(recipe, {"arithmetic": arithmetic, **changes})
    return Params.model_validate(values)


def _random_images(count: int, shape: Sequence[int]) -> NDArray[np.uint8]:
    return np.random.default_rng(1).integers(0, 256, (count, *shape), dtype=np.uint8)


if __name__ == "__main__":
    main()
