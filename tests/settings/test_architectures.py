import re
from typing import Any

import pytest
from pydantic import create_model
from support import PRETRAINED_PARAMS, change_params

from imgpipe.core.errors import PipelineError
from imgpipe.core.schema import Count, Section, check
from imgpipe.settings.architectures import ARCHITECTURES, build_schemas
from imgpipe.settings.params import Params
from imgpipe.settings.train import Train


def error_of(model: type[Section], value: dict[str, Any]) -> str:
    with pytest.raises(PipelineError) as caught:
        check(model, value, "params.yaml")
    return str(caught.value)


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_each_architecture_can_be_chosen(params_value: dict[str, Any], name: str) -> None:
    if name == "pretrained":  # needs other values elsewhere
        params_value = PRETRAINED_PARAMS.model_dump()
    params_value["train"]["architecture"] = name
    params = check(Params, params_value, "params.yaml")
    assert type(params.chosen_architecture) is ARCHITECTURES[name]
    assert params.chosen_architecture.model_dump() == params_value["architectures"][name]


def test_an_unknown_architecture_is_reported_with_the_choices(params_value: dict[str, Any]) -> None:
    params_value["train"]["architecture"] = "resnt"
    names = [repr(name) for name in ARCHITECTURES]
    assert error_of(Params, params_value) == (
        f"params.yaml: train.architecture: expected {', '.join(names[:-1])} or {names[-1]};"
        " found 'resnt' (did you mean 'resnet'?)"
    )


def test_a_misspelled_section_is_reported_with_the_choices(params_value: dict[str, Any]) -> None:
    sections = params_value["architectures"]
    sections["resnt"] = sections.pop("resnet")
    assert error_of(Params, params_value).startswith(
        "params.yaml: architectures.resnt: unknown key (did you mean 'resnet'?); known here:"
        f" {', '.join(ARCHITECTURES)} (and"
    )


class Tiny(Section):
    units: Count


def test_a_registered_architecture_is_a_choice_with_settings(params_value: dict[str, Any]) -> None:
    name, section = build_schemas({**ARCHITECTURES, "tiny": Tiny})
    train = create_model("Train", __base__=Train, architecture=(name, ...))
    value = params_value["train"]
    assert check(train, value | {"architecture": "tiny"}, "params.yaml").architecture == "tiny"
    message = error_of(train, value | {"architecture": "tny"})
    assert message.endswith(" or 'tiny'; found 'tny' (did you mean 'tiny'?)")

    sections = params_value["architectures"]
    assert error_of(section, sections) == "params.yaml: tiny: this key is missing"
    message = error_of(section, sections | {"tiny": {"units": 0}})
    assert message == "params.yaml: tiny.units: expected a number of at least 1; found 0"
    found = check(section, sections | {"tiny": {"units": 3}}, "params.yaml")
    assert found.model_dump()["tiny"] == {"units": 3}


def test_a_convolutional_network_has_one_pool_for_each_convolution(
    params_value: dict[str, Any],
) -> None:
    params_value["architectures"]["cnn"]["pool_px"] = [2]
    assert error_of(Params, params_value) == (
        "params.yaml: architectures.cnn.pool_px: expected one value for each of the 3 filters;"
        " found 1: [2]"
    )


@pytest.mark.parametrize(
    ("key", "value", "named"),
    [
        ("preprocess__channels", 1, "preprocess.channels 3 (found 1)"),
        ("preprocess__normalization", "standardize", "preprocess.normalization rescale (found st"),
        ("train__optimizer", "adam", "train.optimizer lbfgs (found adam)"),
        ("train__learning_rate", 0.1, "train.learning_rate 1.0 (found 0.1)"),
        ("train__learning_rate_schedule", "cosine", "train.learning_rate_schedule constant"),
        ("train__l1_penalty", 0.1, "train.l1_penalty 0.0 (found 0.1)"),
        ("train__l2_penalty", 0.1, "train.l2_penalty 0.0 (found 0.1)"),
        ("train__random_flip", "both", "train.random_flip none (found both)"),
        ("train__random_rotation_deg", 5.0, "train.random_rotation_deg 0.0 (found 5.0)"),
        ("train__random_translation_frac", 0.1, "train.random_translation_frac 0.0"),
        ("train__random_zoom_frac", 0.1, "train.random_zoom_frac 0.0 (found 0.1)"),
        ("train__random_contrast_frac", 0.1, "train.random_contrast_frac 0.0 (found 0.1)"),
        ("train__early_stopping_patience_epochs", 3, "train.early_stopping_patience_epochs 0"),
        ("train__precision", "mixed_bfloat16", "train.precision float32 (found mixed_bfloat16)"),
        ("train__replicas", 2, "train.replicas 1 (found 2)"),
    ],
)
def test_pretrained_refuses_values_that_cannot_act(key: str, value: Any, named: str) -> None:
    with pytest.raises(ValueError, match=re.escape(named)) as raised:
        change_params(PRETRAINED_PARAMS, **{key: value})
    assert "train.architecture: pretrained needs" in str(raised.value)


def test_all_values_to_change_are_in_one_line(params_value: dict[str, Any]) -> None:
    params_value["train"]["architecture"] = "pretrained"
    with pytest.raises(PipelineError) as raised:
        check(Params, params_value, "params.yaml")
    message = str(raised.value)
    assert message.startswith("params.yaml: preprocess.height_px, width_px: expected at least 32")
    params_value["preprocess"].update(height_px=224, width_px=224)
    with pytest.raises(PipelineError) as raised:
        check(Params, params_value, "params.yaml")
    message = str(raised.value)
    assert "\n" not in message
    assert message.startswith("params.yaml: train.architecture: pretrained needs preprocess.chan")
    assert "train.optimizer lbfgs (found adam)" in message
    assert message.endswith("`make recipe NAME=photographs` writes these values")


def test_lbfgs_is_refused_without_a_pretrained_network() -> None:
    with pytest.raises(ValueError, match=r"train\.optimizer: lbfgs needs architecture pretrained"):
        change_params(train__optimizer="lbfgs")


@pytest.mark.parametrize("penalties", [[], [0.0], [0.1, 0.01], [0.1, 0.1]])
def test_the_penalties_to_choose_from_are_positive_and_ascend(penalties: list[float]) -> None:
    with pytest.raises(ValueError, match="l2_penalties"):
        change_params(architectures__pretrained__l2_penalties=penalties)


@pytest.mark.parametrize(
    ("key", "value", "expected"),
    [
        ("backbone", "resnet50", "'efficientnet_lite0', 'efficientnet_lite1' or 'efficientnet"),
        ("folds", 1, "folds: expected a number of at least 2; found 1"),
        ("l2_penalties", [0.1, 0.01], "expected different values in ascending order; found [0.1"),
    ],
)
def test_a_wrong_setting_of_pretrained_is_reported_in_one_line(
    params_value: dict[str, Any], key: str, value: Any, expected: str
) -> None:
    params_value["architectures"]["pretrained"][key] = value
    with pytest.raises(PipelineError) as raised:
        check(Params, params_value, "params.yaml")
    assert "\n" not in str(raised.value)
    assert str(raised.value).startswith("params.yaml: architectures.pretrained.")
    assert key in str(raised.value)
    assert expected in str(raised.value)


@pytest.mark.parametrize(("height_px", "width_px"), [(31, 224), (224, 31), (1, 1)])
def test_pretrained_refuses_images_that_are_too_small(height_px: int, width_px: int) -> None:
    value = PRETRAINED_PARAMS.model_dump()
    value["preprocess"] |= {"height_px": height_px, "width_px": width_px}
    with pytest.raises(PipelineError) as raised:
        check(Params, value, "params.yaml")
    assert str(raised.value) == (
        "params.yaml: preprocess.height_px, width_px: expected at least 32 with architecture"
        f" pretrained; found {min(height_px, width_px)}; best are 224 for efficientnet_lite0"
    )
