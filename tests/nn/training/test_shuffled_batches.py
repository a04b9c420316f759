"""Epochs of training batches."""

from itertools import chain, pairwise
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from imgpipe.nn.fitting.training_set import TrainingSet
from imgpipe.records.stored_images import LabeledInputs

pytestmark = pytest.mark.tf

EXAMPLES, VARIANTS = 25, 2


def make_batches(*, bootstrap_seed: int | None = None, **options: Any) -> Any:
    """Batches of images with one pixel, the number of the image: 25 * variant + example."""
    from imgpipe.nn.training.shuffled_batches import TrainingBatches

    images = np.arange(VARIANTS * EXAMPLES, dtype=np.uint8)[:, None, None, None]
    labels = np.arange(EXAMPLES)
    training_set = TrainingSet(
        images, labels, LabeledInputs(images, labels), bootstrap_seed=bootstrap_seed
    )
    return TrainingBatches(training_set, **{"batch_size": 8, "seed": 3, **options})


def take_epoch(batches: Any, epoch: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return the numbers of the images of an epoch, and their labels."""
    taken = list(batches.of_epoch(epoch))
    assert [len(labels) for _, labels in taken] == [8, 8, 8, 1]
    images, labels = (np.concatenate(column) for column in zip(*taken, strict=True))
    return images[:, 0, 0, 0].astype(int), labels


def test_an_epoch_shows_every_example_once_and_v_epochs_show_every_variant() -> None:
    batches = make_batches()
    seen: list[int] = []
    for epoch in range(VARIANTS):
        numbers, labels = take_epoch(batches, epoch)
        assert sorted(labels) == list(range(EXAMPLES))
        assert (numbers % EXAMPLES == labels).all()
        assert len(set(numbers // EXAMPLES)) == VARIANTS  # every epoch mixes the variants
        seen += numbers.tolist()
    assert sorted(seen) == list(range(VARIANTS * EXAMPLES))


def test_the_order_is_a_function_of_seed_and_epoch() -> None:
    batches = make_batches()
    first = take_epoch(batches, 4)[1]
    assert (first != take_epoch(batches, 5)[1]).any()
    assert (first == take_epoch(batches, 4)[1]).all()
    assert (first == take_epoch(make_batches(), 4)[1]).all()
    assert (first != take_epoch(make_batches(seed=9), 4)[1]).any()


def test_images_and_labels_of_a_bootstrap_sample_belong_together() -> None:
    batches = make_batches(bootstrap_seed=3)
    for epoch in range(VARIANTS):
        numbers, labels = take_epoch(batches, epoch)
        assert (numbers % EXAMPLES == labels).all()
        assert len(set(labels)) < EXAMPLES


@pytest.mark.parametrize("bytes_at_once", [1, 16, 24])
def test_batches_do_not_depend_on_how_many_are_taken_at_once(
    bytes_at_once: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    from imgpipe.nn.training import shuffled_batches as batches

    expected = take_epoch(make_batches(), 1)  # all batches at once
    monkeypatch.setattr(batches, "_BYTES_AT_ONCE", bytes_at_once)
    assert np.array_equal(take_epoch(make_batches(), 1), expected)


def test_the_number_of_batches_is_known_and_autotuning_is_off() -> None:
    """With autotuning by tf.data, an epoch would take up to twice as long."""
    batches = make_batches().of_epoch(0)
    assert int(batches.cardinality()) == 4
    assert batches.options().autotune.enabled is False


@pytest.mark.parametrize("bytes_at_once", [1, 16, 1 << 20])
@pytest.mark.parametrize("bounds", [(0, 1, 2, 3), (0, 2, 3), (0, 3)])
def test_the_slices_of_all_workers_together_are_the_batch(
    bounds: tuple[int, ...], bytes_at_once: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Three replicas, on three, two or one workers; the last batch has 4 examples."""
    from imgpipe.nn.common.batches import Slice
    from imgpipe.nn.training import shuffled_batches as batches

    batches_of_7 = make_batches(batch_size=7).of_epoch(1)
    expected = [labels.numpy().tolist() for _, labels in batches_of_7]
    monkeypatch.setattr(batches, "_BYTES_AT_ONCE", bytes_at_once)
    of_workers = []
    for first, end in pairwise(bounds):
        made = make_batches(batch_size=7, rows=Slice(first, end, 3)).of_epoch(1)
        taken = [(images.numpy()[:, 0, 0, 0] % EXAMPLES, labels.numpy()) for images, labels in made]
        assert all((images == labels).all() for images, labels in taken)
        of_workers.append([labels.tolist() for _, labels in taken])
    assert [list(chain(*slices)) for slices in zip(*of_workers, strict=True)] == expected
