"""Batches in order, for validation and prediction."""

import numpy as np
import pytest
from support import make_easy_images

pytestmark = pytest.mark.tf


def test_batches_of_large_images_hold_fewer_images() -> None:
    """With the usual number, the layers of a network would take gigabytes of memory for a batch."""
    from imgpipe.nn.common.batches import evaluation_batch_size, ordered_batches

    assert evaluation_batch_size((28, 28, 1)) == 512
    assert evaluation_batch_size((150, 150, 3)) == 62
    assert evaluation_batch_size((4096, 4096, 3)) == 1
    images = np.zeros((150, 150, 150, 3), dtype=np.uint8)
    taken = list(ordered_batches(images, np.arange(150)))
    assert [batch.shape[0] for batch, _ in taken] == [62, 62, 26]
    assert np.concatenate([numbers for _, numbers in taken]).tolist() == list(range(150))


def test_batches_hold_images_and_columns_in_order() -> None:
    from imgpipe.nn.common.batches import ordered_batches

    images, labels = make_easy_images(600)
    batches = ordered_batches(images, labels, labels / 2)
    assert int(batches.cardinality()) == 2
    columns = [np.concatenate(column) for column in zip(*batches, strict=True)]
    for found, expected in zip(columns, (images, labels, labels / 2), strict=True):
        assert (found == expected).all()


def test_autotuning_of_tf_data_is_off() -> None:
    """With autotuning, an epoch would take up to twice as long."""
    from imgpipe.nn.common.batches import ordered_batches

    assert ordered_batches(*make_easy_images(25)).options().autotune.enabled is False
