"""The metrics of epochs, and their files."""

import json
from pathlib import Path

import pytest

from imgpipe.core.paths import HISTORY, TRAINING_METRICS
from imgpipe.nn.fitting.history import (
    Epoch,
    History,
    best_epoch,
    is_patience_spent,
    write_metrics,
)


def make_epochs(*validation_losses: float) -> list[Epoch]:
    return [
        Epoch(
            epoch=number,
            learning_rate=0.1,
            loss=1 / 3,
            accuracy=0.5,
            validation_loss=loss,
            validation_accuracy=0.25,
            validation_loss_unweighted=2 * loss,
        )
        for number, loss in enumerate(validation_losses, start=1)
    ]


def test_the_best_epoch_is_the_first_of_lowest_validation_loss() -> None:
    assert best_epoch(make_epochs(3.0, 1.0, 2.0, 1.0)).epoch == 2


@pytest.mark.parametrize(
    ("losses", "patience_epochs", "expected"),
    [
        ([], 2, False),
        ([1.0], 1, False),
        ([1.0, 2.0], 2, False),
        ([1.0, 2.0, 1.5], 2, True),
        ([1.0, 1.0, 1.0], 2, True),
        ([3.0, 2.0, 1.0], 2, False),
        ([1.0, 2.0, 3.0, 4.0], 0, False),
    ],
)
def test_patience_is_spent_after_epochs_without_a_lower_loss(
    losses: list[float], patience_epochs: int, expected: bool
) -> None:
    assert is_patience_spent(make_epochs(*losses), patience_epochs) == expected


def test_the_metric_files_have_a_line_for_each_epoch_and_the_best_epoch(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    epochs = make_epochs(1.0, 0.5, 0.75)
    write_metrics(History(epochs, best_epoch(epochs)), parameters=7)
    assert HISTORY.read_bytes().decode() == (
        "epoch,learning_rate,loss,accuracy,validation_loss,validation_accuracy\n"
        "1,0.1,0.3333333333333333,0.5,1.0,0.25\n"
        "2,0.1,0.3333333333333333,0.5,0.5,0.25\n"
        "3,0.1,0.3333333333333333,0.5,0.75,0.25\n"
    )
    assert list(json.loads(TRAINING_METRICS.read_text()).items()) == [
        ("validation_accuracy", 0.25),
        ("validation_loss", 0.5),
        ("validation_loss_unweighted", 1.0),
        ("best_epoch", 2),
        ("epochs", 3),
        ("parameters", 7),
        ("temperature", 1.0),
    ]


def test_the_summary_of_an_early_stopped_training_names_the_best_epoch() -> None:
    epochs = make_epochs(1.0, 0.5, 0.75)
    assert str(History(epochs, best_epoch(epochs))) == (
        "3 epochs; best is epoch 2: lowest validation loss 0.5000, validation accuracy 0.2500"
    )


def test_the_summary_of_a_fitted_layer_names_the_last_iteration_and_the_penalty() -> None:
    epochs = make_epochs(1.0, 0.5, 0.75)
    assert str(History(epochs, epochs[-1], l2_penalty=0.03)) == (
        "3 iterations of L-BFGS with l2_penalty 0.03; weights of the last one: validation accuracy"
        " 0.2500"
    )
