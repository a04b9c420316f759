"""The table of layers."""

import pytest
from support import build_network, change_params

pytestmark = pytest.mark.tf


def test_the_parameters_of_the_layers_add_up_to_the_total() -> None:
    from imgpipe.nn.fitting.layer_table import describe_layers

    model = build_network("cnn", change_params(networks__cnn__batch_norm=True))
    lines = describe_layers(model).splitlines()
    assert lines[0].split("  ")[0].strip() == "layer"
    counts = {
        line.split()[0]: int(line.split()[-1].replace(",", ""))
        for line in lines[2:]
        if line[0] != "-"
    }
    total, trainable = counts.pop("total"), counts.pop("trainable")
    assert list(counts) == [layer.name for layer in model.layers]
    assert sum(counts.values()) == total
    assert total - trainable == 2 * (32 + 64 + 64)  # moving mean and variance
    assert any("13 x 13 x 32" in line for line in lines)
