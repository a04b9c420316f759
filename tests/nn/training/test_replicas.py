"""The choice of replicas: devices, the setting of the workers, and the last batch."""

import json

import pytest
from support import EASY_PARAMS, build_network, find_error, make_easy_images

pytestmark = pytest.mark.tf


def test_too_few_devices_are_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    from imgpipe.nn.training.replicas import Replicas

    monkeypatch.delenv("TF_CONFIG", raising=False)
    message = find_error(Replicas, 2)
    assert message.startswith("params.yaml: training.replicas: expected at most 1, because ")
    assert message.endswith("; found 2")


def describe_task(kind: str, index: int, workers: int = 1) -> str:
    """Return a setting for a task of a cluster."""
    task = {"type": kind, "index": index}
    return json.dumps({"cluster": {"worker": ["a:1"] * workers}, "task": task})


NOT_VALID = 'TF_CONFIG: expected {"cluster": {"worker": ["host:port", ...]}, "task": '


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        (
            describe_task("worker", 0, workers=3),
            "params.yaml: training.replicas: expected a multiple of 3, the number of workers in"
            " TF_CONFIG; found 2",
        ),
        ("{}", NOT_VALID),
        ("no JSON", NOT_VALID),
        (describe_task("worker", 1), NOT_VALID),
        (describe_task("ps", 0), NOT_VALID),
    ],
    ids=["three workers", "empty", "no JSON", "index", "parameter server"],
)
def test_a_setting_that_does_not_fit_is_reported(
    setting: str, message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    from imgpipe.nn.training.replicas import Replicas

    monkeypatch.setenv("TF_CONFIG", setting)
    assert find_error(Replicas, 2).startswith(message)


def test_one_replica_needs_no_strategy(monkeypatch: pytest.MonkeyPatch) -> None:
    from imgpipe.nn.common.runtime import tf
    from imgpipe.nn.training.replicas import Replicas

    monkeypatch.delenv("TF_CONFIG", raising=False)
    replicas = Replicas(1)
    assert replicas.strategy is tf.distribute.get_strategy()
    assert replicas.is_chief


def test_a_last_batch_that_is_too_small_is_reported() -> None:
    from imgpipe.nn.common.arithmetic import find_forward
    from imgpipe.nn.fitting.training_set import TrainingSet
    from imgpipe.nn.training.loop import Trainer
    from imgpipe.nn.training.replicas import Replicas
    from imgpipe.records.stored_images import LabeledInputs

    images, labels = make_easy_images(33)
    training_set = TrainingSet(images, labels, LabeledInputs(images, labels))
    replicas, forward = Replicas(1), find_forward("native")
    replicas.count = 2
    model = build_network("cnn", EASY_PARAMS, shape=(12, 12, 1))
    assert find_error(Trainer, model, training_set, EASY_PARAMS.training, replicas, forward) == (
        "params.yaml: training.batch_size: the last batch of an epoch has 1 of 33 images, expected"
        " at least training.replicas, 2; choose another size"
    )
