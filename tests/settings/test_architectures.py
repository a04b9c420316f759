from typing import Any, get_args

import pytest
from pydantic import create_model

from imgpipe.core.errors import PipelineError
from imgpipe.core.schema import Count, Section, check
from imgpipe.settings.architectures import ARCHITECTURES, ArchitectureName, build_schemas
from imgpipe.settings.params import Params
from imgpipe.settings.train import Train


def error_of(model: type[Section], value: dict[str, Any]) -> str:
    with pytest.raises(PipelineError) as caught:
        check(model, value, "params.yaml")
    return str(caught.value)


def test_the_names_are_those_of_the_registry(params_value: dict[str, Any]) -> None:
    assert list(get_args(ArchitectureName)) == list(ARCHITECTURES)
    assert list(params_value["architectures"]) == list(ARCHITECTURES)


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_each_architecture_can_be_chosen(params_value: dict[str, Any], name: str) -> None:
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
