"""The choice of a method and a network, and the settings of each."""

from typing import Any

import pytest
from support import find_error

from imgpipe.core.schema import check
from imgpipe.settings.backbones import BACKBONES
from imgpipe.settings.networks import Networks, Pretrained
from imgpipe.settings.params import Params

FROM_SCRATCH = [name for name in Networks.model_fields if name not in BACKBONES]


def error_of(value: dict[str, Any]) -> str:
    return find_error(check, Params, value, "params.yaml")


def test_every_pretrained_network_has_an_entry_and_no_settings() -> None:
    without_settings = {
        name for name, field in Networks.model_fields.items() if field.annotation is Pretrained
    }
    assert without_settings == set(BACKBONES)


@pytest.mark.parametrize(
    ("method", "network"),
    [
        *(("training", name) for name in FROM_SCRATCH),
        *(("transfer", name) for name in BACKBONES),
    ],
)
def test_each_network_can_be_chosen_with_its_method(
    params_value: dict[str, Any], method: str, network: str
) -> None:
    params_value |= {"method": method, "network": network}
    params = check(Params, params_value, "params.yaml")
    assert params.network_settings.model_dump() == params_value["networks"][network]
    assert params.method_settings.model_dump() == params_value[method]


@pytest.mark.parametrize(
    ("method", "network", "message"),
    [
        ("training", "resnt", "one of mlp, cnn, resnet with method training; found 'resnt' (did you"
         " mean 'resnet'?)"),
        ("training", "efficientnet_lite0", "one of mlp, cnn, resnet with method training; found"
         " 'efficientnet_lite0'"),
        ("transfer", "cnn", "one of efficientnet_lite0, efficientnet_lite1, efficientnet_lite2 with"
         " method transfer; found 'cnn'"),
    ],
)  # fmt: skip
def test_a_network_of_another_method_is_reported_with_the_choices(
    params_value: dict[str, Any], method: str, network: str, message: str
) -> None:
    params_value |= {"method": method, "network": network}
    assert error_of(params_value) == f"params.yaml: network: expected {message}"


def test_an_unknown_method_is_reported_with_the_choices(params_value: dict[str, Any]) -> None:
    params_value["method"] = "trainings"
    assert error_of(params_value) == (
        "params.yaml: method: expected 'training' or 'transfer'; found 'trainings' (did you mean"
        " 'training'?)"
    )


def test_a_misspelled_section_is_reported_with_the_choices(params_value: dict[str, Any]) -> None:
    sections = params_value["networks"]
    sections["resnt"] = sections.pop("resnet")
    assert error_of(params_value).startswith(
        "params.yaml: networks.resnt: unknown key (did you mean 'resnet'?); known here:"
        f" {', '.join(Networks.model_fields)} (and"
    )


def test_a_convolutional_network_has_one_pool_for_each_convolution(
    params_value: dict[str, Any],
) -> None:
    params_value["networks"]["cnn"]["pool_px"] = [2]
    assert error_of(params_value) == (
        "params.yaml: networks.cnn.pool_px: expected one value for each of the 3 filters;"
        " found 1: [2]"
    )


@pytest.mark.parametrize("method", ["training", "transfer"])
@pytest.mark.parametrize("section", ["training", "transfer"])
def test_the_section_of_another_method_is_checked_too(
    params_value: dict[str, Any], method: str, section: str
) -> None:
    params_value |= {
        "method": method,
        "network": {"training": "cnn"}.get(method, "efficientnet_lite0"),
    }
    params_value[section]["batch_size"] = 0
    assert error_of(params_value) == (
        f"params.yaml: {section}.batch_size: expected a number of at least 1; found 0"
    )


@pytest.mark.parametrize(
    ("key", "value", "expected"),
    [
        ("folds", 1, "folds: expected a number of at least 2; found 1"),
        ("l2_penalties", [], "l2_penalties: expected at least 1 values; found []"),
        ("l2_penalties", [0.0], "l2_penalties.0: expected a number greater than 0; found 0.0"),
        ("l2_penalties", [0.1, 0.01], "l2_penalties: expected different values in ascending order;"
         " found [0.1, 0.01]"),
        ("l2_penalties", [0.1, 0.1], "l2_penalties: expected different values in ascending order;"
         " found [0.1, 0.1]"),
    ],
)  # fmt: skip
def test_a_wrong_value_of_transfer_is_reported(
    params_value: dict[str, Any], key: str, value: Any, expected: str
) -> None:
    params_value["transfer"][key] = value
    assert error_of(params_value) == f"params.yaml: transfer.{expected}"


@pytest.mark.parametrize(
    ("section", "key", "expected"),
    [
        (None, "train", "train: this key was removed; its values are now in the section training or"
         " transfer, by `method`; the value of `architecture` is now `network`"),
        (None, "architectures", "architectures: this key was removed; the section is now networks"),
        ("training", "architecture", "training.architecture: this key was removed; write the name"
         " of the network in `network`"),
        ("networks", "pretrained", "networks.pretrained: this key was removed; choose `method:"
         " transfer`; its backbone is now the value of `network`, its other values are in the"
         " section transfer"),
    ],
)  # fmt: skip
def test_an_old_key_is_reported_with_the_new_ones(
    params_value: dict[str, Any], section: str | None, key: str, expected: str
) -> None:
    (params_value[section] if section else params_value)[key] = {}
    assert error_of(params_value) == f"params.yaml: {expected}"
