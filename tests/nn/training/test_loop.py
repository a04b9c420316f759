"""The training loop: metrics, the best epoch, early stopping, precision, resume."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from support import (
    EASY_PARAMS,
    build_network,
    change_params,
    make_easy_images,
    predict_probabilities,
    train_easily,
    train_network,
)

from imgpipe.core.errors import PipelineError
from imgpipe.nn.fitting.history import best_epoch
from imgpipe.nn.fitting.training_set import TrainingSet
from imgpipe.records.stored_images import LabeledInputs
from imgpipe.settings.params import Params

pytestmark = pytest.mark.tf


def test_a_training_raises_the_accuracy_and_records_metrics() -> None:
    _, history = train_easily()
    assert [epoch.epoch for epoch in history] == [1, 2, 3, 4]
    assert history[-1].validation_accuracy > 0.95
    assert history[-1].loss < history[0].loss
    rates = [epoch.learning_rate for epoch in history]
    assert rates[0] == pytest.approx(0.01)
    assert rates == sorted(rates, reverse=True)  # cosine


def test_early_stopping_waits_for_its_patience() -> None:
    params = change_params(
        EASY_PARAMS, training__epochs=9, training__early_stopping_patience_epochs=2
    )
    _, history = train_easily(params, misleading=True)
    assert len(history) == best_epoch(history).epoch + 2 < 9
    params = change_params(params, training__early_stopping_patience_epochs=0)
    assert len(train_easily(params, misleading=True)[1]) == 9


@pytest.mark.parametrize("precision", ["mixed_bfloat16", "mixed_float16"])
def test_mixed_precision_learns_and_returns_float32(
    precision: str, set_precision: Callable[[str], None]
) -> None:
    set_precision(precision)
    model, history = train_easily(
        change_params(EASY_PARAMS, arithmetic="native", training__precision=precision)
    )
    assert model.layers[2].compute_dtype == precision.removeprefix("mixed_")
    assert history[-1].validation_accuracy > 0.9
    probabilities = predict_probabilities(model, make_easy_images(5)[0])
    assert probabilities.dtype == np.float32


def test_a_diverging_loss_is_an_error() -> None:
    params = change_params(EASY_PARAMS, training__optimizer="sgd", training__learning_rate=1e30)
    message = r"the loss is nan after epoch 1; lower training\.learning_rate in params\.yaml$"
    with pytest.raises(PipelineError, match=rf"^train: {message}"):
        train_easily(params)


def test_a_weight_that_is_not_a_number_is_an_error() -> None:
    """ReLU and max pooling may replace NaN, so the loss may stay finite."""
    params = change_params(EASY_PARAMS, training__epochs=1)
    model = build_network("cnn", params, shape=(12, 12, 1))
    kernel, *others = model.get_weights()
    kernel[0, 0, 0, 0] = np.nan
    model.set_weights([kernel, *others])
    message = r"(the loss is nan|some weights are not finite) after epoch 1; lower training\."
    with pytest.raises(PipelineError, match=rf"^train: {message}"):
        train_network(model, params, *make_easy_images(50))


def test_a_trained_model_has_the_weights_of_the_best_epoch(repository: Path) -> None:
    from imgpipe.nn.common.arithmetic import find_forward
    from imgpipe.nn.common.runtime import keras
    from imgpipe.nn.training.checkpoint import Checkpoint
    from imgpipe.nn.training.loop import train_model
    from imgpipe.nn.training.replicas import Replicas

    params = change_params(
        EASY_PARAMS, training__early_stopping_patience_epochs=2, training__epochs=9
    )
    training_set = make_training_set(params)
    keras.utils.set_random_seed(1)
    model = build_network("cnn", params, shape=(12, 12, 1))
    checkpoint = Checkpoint(sources={}, parameters={}, data="")
    history = train_model(
        model,
        training_set,
        params.training,
        checkpoint,
        Replicas(1),
        find_forward(params.arithmetic),
    ).epochs
    images, labels = training_set.validation
    probabilities = np.asarray(model(images[np.arange(200)]))
    loss = -np.log(np.maximum(probabilities[range(200), labels], 1e-7)).mean()
    assert best_epoch(history).validation_loss < history[-1].validation_loss
    assert loss == pytest.approx(best_epoch(history).validation_loss, rel=1e-3)


def make_training_set(params: Params) -> TrainingSet:
    """Return easy images; wrong validation labels stop the training early if it may stop."""
    images, labels = make_easy_images(200)
    stops_early = params.training.early_stopping_patience_epochs < params.training.epochs
    wrong_labels = (labels + 1) % 10
    return TrainingSet(
        images, labels, LabeledInputs(images, wrong_labels if stops_early else labels)
    )


REGULARIZED = {
    "networks__cnn__conv_dropout_frac": 0.3,
    "networks__cnn__batch_norm": True,
    "training__random_flip": "horizontal",
    "training__class_weights": "balanced",
    "training__l2_penalty": 0.001,
    "training__epochs": 5,
}


@pytest.mark.parametrize(
    "changes",
    [
        REGULARIZED,
        {
            **REGULARIZED,
            "training__optimizer": "sgd",
            "training__learning_rate_schedule": "exponential",
        },
        {
            "arithmetic": "native",
            "training__precision": "mixed_float16",
            "training__epochs": 5,
        },  # with a scaled loss
        {"training__early_stopping_patience_epochs": 2, "training__epochs": 9},
    ],
    ids=["adam", "sgd", "float16", "early-stopping"],
)
def test_a_resumed_training_equals_an_uninterrupted_training(
    changes: dict[str, Any],
    repository: Path,
    set_precision: Callable[[str], None],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """History and weights are equal to the last bit, for each epoch after which a run stops."""
    from imgpipe.nn.common.arithmetic import find_forward
    from imgpipe.nn.common.runtime import keras
    from imgpipe.nn.training.checkpoint import Checkpoint, TrainingState
    from imgpipe.nn.training.loop import train_model
    from imgpipe.nn.training.replicas import Replicas
    from imgpipe.nn.training.shuffled_batches import TrainingBatches

    params = change_params(EASY_PARAMS, **changes)
    set_precision(params.training.precision)
    epochs_run: list[int] = []
    of_epoch = TrainingBatches.of_epoch

    def record_epoch(batches: Any, epoch: int) -> Any:
        epochs_run.append(epoch)
        return of_epoch(batches, epoch)

    monkeypatch.setattr(TrainingBatches, "of_epoch", record_epoch)
    states: list[TrainingState] = []
    save = Checkpoint.save

    def record_state(checkpoint: Checkpoint, state: TrainingState) -> None:
        states.append(state)
        save(checkpoint, state)

    monkeypatch.setattr(Checkpoint, "save", record_state)

    def run() -> tuple[list[Any], list[np.ndarray]]:
        epochs_run.clear()
        keras.utils.set_random_seed(1)
        model = build_network("cnn", params, shape=(12, 12, 1))
        checkpoint = Checkpoint(sources={}, parameters={}, data="")
        training_set = make_training_set(params)
        training = train_model(
            model,
            training_set,
            params.training,
            checkpoint,
            Replicas(1),
            find_forward(params.arithmetic),
        )
        return list(training.epochs), model.get_weights()

    history, weights = run()
    assert "resuming" not in capsys.readouterr().out
    assert [len(state.history) for state in states] == list(range(1, len(history) + 1))
    metrics = {path.name: path.read_bytes() for path in Path("metrics").iterdir()}
    first_states = list(states)
    for stopped_after in (1, len(history) - 1, len(history)):
        Checkpoint(sources={}, parameters={}, data="").delete()
        save(Checkpoint(sources={}, parameters={}, data=""), first_states[stopped_after - 1])
        for path in Path("metrics").iterdir():  # DVC does the same before it runs a stage
            path.unlink()
        resumed_history, resumed_weights = run()
        epochs = params.training.epochs
        assert (
            f"train: resuming after {stopped_after} of {epochs} epochs\n" in capsys.readouterr().out
        )
        assert epochs_run == list(range(stopped_after, len(history)))
        assert resumed_history == history
        assert all((a == b).all() for a, b in zip(weights, resumed_weights, strict=True))
        assert {path.name: path.read_bytes() for path in Path("metrics").iterdir()} == metrics


def test_metrics_are_written_and_printed_after_each_epoch(
    repository: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from imgpipe.console.training_table import TrainingProgress
    from imgpipe.nn.common.arithmetic import find_forward
    from imgpipe.nn.training.checkpoint import Checkpoint
    from imgpipe.nn.training.loop import train_model
    from imgpipe.nn.training.replicas import Replicas

    params = change_params(EASY_PARAMS, training__epochs=3)
    written: list[tuple[int, int]] = []
    print_epoch = TrainingProgress.print_epoch

    def count_written(progress: TrainingProgress, *arguments: Any) -> None:
        rows = len(pd.read_csv("metrics/history.csv"))
        written.append((rows, json.loads(Path("metrics/train.json").read_text())["epochs"]))
        print_epoch(progress, *arguments)

    monkeypatch.setattr(TrainingProgress, "print_epoch", count_written)
    model = build_network("cnn", params, shape=(12, 12, 1))
    checkpoint = Checkpoint(sources={}, parameters={}, data="")
    training_set = make_training_set(params)
    train_model(
        model,
        training_set,
        params.training,
        checkpoint,
        Replicas(1),
        find_forward(params.arithmetic),
    )
    assert written == [(1, 1), (2, 2), (3, 3)]
    _, *lines = capsys.readouterr().out.splitlines()  # after the names of the columns
    assert [line[:11] for line in lines] == ["epoch   1/3", "epoch   2/3", "epoch   3/3"]
    trained = json.loads(Path("metrics/train.json").read_text())
    assert trained["parameters"] == model.count_params()
