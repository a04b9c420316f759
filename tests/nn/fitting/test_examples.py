"""The training images that the picture of the augmentation shows."""

from typing import Any

import numpy as np
import pytest
from support import EASY_PARAMS, build_network, change_params, make_easy_images

from imgpipe.nn.fitting.training_set import TrainingSet
from imgpipe.records.stored_images import LabeledInputs
from imgpipe.records.training_examples import TrainingExamples

pytestmark = pytest.mark.tf

RANDOM: dict[str, Any] = {"training__random_flip": "both", "training__random_translation_frac": 0.2}
IMAGES, LABELS = make_easy_images(24)


def make_set(variants: int = 1, bootstrap_seed: int | None = None) -> TrainingSet:
    """A training set; the pixels of variant v are divided by v + 1."""
    images = np.concatenate([IMAGES // (variant + 1) for variant in range(variants)])
    validation = LabeledInputs(IMAGES, LABELS)
    return TrainingSet(images, LABELS, validation, bootstrap_seed=bootstrap_seed)


def draw(training_set: TrainingSet, **changes: Any) -> TrainingExamples:
    from imgpipe.nn.fitting.examples import draw_examples
    from imgpipe.nn.training.augmentation_layers import make_random_transformation

    settings = change_params(arithmetic="native", **changes).training
    transform = make_random_transformation(training_set.input_shape, settings)
    return draw_examples(training_set, transform)


def test_without_random_transformations_there_are_no_transformed_images() -> None:
    found = draw(make_set())
    assert (found.images == IMAGES[:6]).all()
    assert found.draws.shape == (6, 0, *IMAGES.shape[1:])


@pytest.mark.parametrize("bootstrap_seed", [None, 3])
def test_the_images_are_the_variants_of_the_first_epoch(
    bootstrap_seed: int | None,
) -> None:
    training_set = make_set(3, bootstrap_seed)
    found = draw(training_set, **RANDOM)
    assert (found.images == training_set.take(np.arange(6), epoch=0)).all()
    if bootstrap_seed is None:
        assert (found.images[1] == IMAGES[1] // 2).all()
        assert (found.images[2] == IMAGES[2] // 3).all()


def test_each_draw_is_another_transformation_of_its_image() -> None:
    found = draw(make_set(), training__random_flip="horizontal")
    assert found.draws.shape == (6, 4, *IMAGES.shape[1:])
    assert found.draws.dtype == np.uint8
    flipped = [(found.draws[:, draw] == IMAGES[:6, :, ::-1]).all((1, 2, 3)) for draw in range(4)]
    unchanged = [(found.draws[:, draw] == IMAGES[:6]).all((1, 2, 3)) for draw in range(4)]
    assert np.logical_xor(flipped, unchanged).all()
    assert 0.2 < np.mean(flipped) < 0.8
    moved = draw(make_set(), **RANDOM).draws
    assert len({draw.tobytes() for of_image in moved for draw in of_image}) == 24


def test_a_small_training_set_has_fewer_examples() -> None:
    small = TrainingSet(IMAGES[:2], LABELS[:2], LabeledInputs(IMAGES, LABELS))
    assert draw(small, **RANDOM).draws.shape[:2] == (2, 4)


def test_the_draws_depend_on_the_seed_only_and_the_training_does_not_change() -> None:
    """The draws are between two epochs: a shared random state would change the second one."""
    from imgpipe.console.training_table import TrainingProgress
    from imgpipe.nn.common.arithmetic import find_forward
    from imgpipe.nn.common.runtime import keras
    from imgpipe.nn.training.loop import Trainer
    from imgpipe.nn.training.replicas import Replicas

    draws, weights = [], []
    for repetitions in (0, 2):
        params = change_params(EASY_PARAMS, arithmetic="native", **RANDOM, training__epochs=2)
        keras.utils.set_random_seed(params.training.seed)
        training_set = make_set()
        model = build_network("cnn", params, shape=IMAGES.shape[1:])
        forward = find_forward(params.arithmetic)
        trainer = Trainer(model, training_set, params.training, Replicas(1), forward)
        with TrainingProgress(
            epochs=1,
            examples=len(LABELS),
            finished_epochs=0,
            may_stop_early=False,
        ) as progress:
            trainer.run_epoch(progress)
            for _ in range(repetitions):
                draws.append(draw(training_set, **RANDOM).draws)
            trainer.run_epoch(progress)
        weights.append(model.get_weights())
    assert (draws[0] == draws[1]).all()
    assert all((a == b).all() for a, b in zip(*weights, strict=True))
    assert (draw(make_set(), **RANDOM, training__seed=2).draws != draws[0]).any()
