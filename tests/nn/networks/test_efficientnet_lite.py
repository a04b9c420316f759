"""Networks with weights from ImageNet."""

import dataclasses
import io
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from imgpipe.core.errors import PipelineError
from imgpipe.settings.backbones import BACKBONES

pytestmark = pytest.mark.tf

# Recorded features of `make_image`, computed with float64: 16 features, and the mean of all. The 16
# lie between 0.3 and 4, so ReLU6 did not limit them.
EXPECTED: dict[str, tuple[dict[int, float], float]] = {
    "efficientnet_lite0": ({
        2: 2.14666, 116: 0.32858, 264: 1.90573, 306: 1.72293, 362: 0.74516, 461: 0.82897,
        559: 2.96832, 664: 0.32108, 755: 2.58828, 833: 3.63251, 902: 3.65739, 974: 1.12207,
        1054: 3.2131, 1138: 0.30089, 1204: 0.52967, 1260: 1.61668,
    }, 0.34083),
    "efficientnet_lite1": ({
        7: 0.66584, 92: 1.41864, 176: 1.83777, 258: 1.72852, 382: 3.16441, 449: 1.44576,
        531: 0.51842, 604: 1.33842, 725: 0.56443, 803: 3.80889, 882: 3.84698, 968: 1.41186,
        1051: 1.87805, 1128: 0.31784, 1189: 0.68023, 1279: 0.72238,
    }, 0.43672),
    "efficientnet_lite2": ({
        2: 1.92609, 118: 1.58385, 222: 1.9126, 310: 0.57204, 442: 0.94584, 560: 0.72657,
        625: 1.12299, 755: 0.58022, 818: 1.35399, 885: 3.71476, 957: 1.52912, 1005: 2.26672,
        1059: 1.56304, 1136: 0.6065, 1205: 1.34963, 1277: 1.73419,
    }, 0.29153),
}  # fmt: skip
# Class numbers in ImageNet-1k.
CATS, DOGS = slice(281, 286), slice(151, 269)
IMAGES = 100


def make_image() -> NDArray[np.uint8]:
    """Return an image with one gradient in each channel, (64, 64, 3)."""
    rows, columns = np.mgrid[0:64, 0:64]
    return np.stack([4 * rows, 4 * columns, 2 * (rows + columns)], axis=2).astype(np.uint8)


def build_backbone(name: str, side_px: int, channels: int = 3) -> Any:
    """Return a network from images to features, with the weights from ImageNet."""
    import keras

    from imgpipe.nn.transfer.weights import build_pretrained

    model = build_pretrained(name, image_shape=(side_px, side_px, channels), classes=2)
    return keras.Model(model.input, model.get_layer("features").output)


@pytest.mark.parametrize("name", BACKBONES)
def test_the_features_of_an_image_have_their_known_values(
    name: str, set_precision: Callable[[str], None]
) -> None:
    """With float64, rounding errors are far below the five recorded digits on every processor."""
    set_precision("float64")
    features = np.asarray(build_backbone(name, 64)(make_image()[None]))[0]
    expected, mean = EXPECTED[name]
    assert features.shape == (1280,)
    assert features.mean() == pytest.approx(mean, abs=5.1e-6)
    assert features[list(expected)] == pytest.approx(list(expected.values()), abs=5.1e-6)


@pytest.mark.parametrize("name", BACKBONES)
def test_the_network_distinguishes_cats_and_dogs(mirror: Path, name: str) -> None:
    """The images are real photographs; the output layer for ImageNet is in the weight file."""
    from imgpipe.nn.transfer.torch_file import read_weights
    from imgpipe.nn.transfer.weights import find_weight_file

    archive = mirror / "cats_and_dogs_small" / "cats_and_dogs_small.zip"
    if not archive.exists():
        pytest.skip(f"no photographs: DATASET_MIRROR has no {archive.name}")
    images, are_dogs, side_px = [], [], BACKBONES[name].image_px
    with zipfile.ZipFile(archive) as opened:
        names = [found for found in sorted(opened.namelist()) if found.endswith(".jpg")]
        for kind in ("cats", "dogs"):
            for member in [found for found in names if f"/{kind}/" in found][: IMAGES // 2]:
                with Image.open(io.BytesIO(opened.read(member))) as picture:
                    images.append(np.asarray(picture.convert("RGB").resize((side_px, side_px))))
                are_dogs.append(kind == "dogs")
    weights = read_weights(find_weight_file(BACKBONES[name]))
    features = build_backbone(name, side_px).predict(np.stack(images), batch_size=10, verbose=0)
    logits = features @ weights["_fc.weight"].T + weights["_fc.bias"]
    probabilities = np.exp(logits - logits.max(axis=1, keepdims=True))
    say_dog = probabilities[:, DOGS].sum(axis=1) > probabilities[:, CATS].sum(axis=1)
    assert len(images) == IMAGES
    assert (say_dog == np.array(are_dogs)).mean() > 0.9


@pytest.mark.parametrize(
    ("before", "layer", "kernel", "norm", "stride"),
    [
        ("backbone_input", "stem", "_conv_stem", "_bn0", 2),
        ("stem_relu", "block_01_depthwise", "_blocks.0._depthwise_conv", "_blocks.0._bn1", 1),
        ("block_05_add", "block_06_expand", "_blocks.5._expand_conv", "_blocks.5._bn0", 1),
    ],
)
def test_batch_normalization_is_a_part_of_the_convolution(
    before: str,
    layer: str,
    kernel: str,
    norm: str,
    stride: int,
    set_precision: Callable[[str], None],
) -> None:
    import keras

    from imgpipe.nn.transfer.torch_file import read_weights
    from imgpipe.nn.transfer.weights import find_weight_file

    name = "efficientnet_lite0"
    weights = read_weights(find_weight_file(BACKBONES[name]))
    set_precision("float64")
    backbone = build_backbone(name, 64)
    outputs = [backbone.get_layer(layer).output for layer in (before, layer)]
    x, found = keras.Model(backbone.input, outputs)(make_image()[None])
    depthwise = "depthwise" in kernel
    convolution = (keras.layers.DepthwiseConv2D if depthwise else keras.layers.Conv2D)(
        **({} if depthwise else {"filters": found.shape[-1]}),
        kernel_size=weights[f"{kernel}.weight"].shape[2:],
        strides=stride,
        padding="same",
        use_bias=False,
    )
    convolution.build(x.shape)
    order = (2, 3, 0, 1) if depthwise else (2, 3, 1, 0)
    kernel_values = weights[f"{kernel}.weight"].transpose(order)
    convolution.set_weights([kernel_values])
    normalization = keras.layers.BatchNormalization(epsilon=1e-3)
    normalization.build(found.shape)
    parts = ("weight", "bias", "running_mean", "running_var")
    normalization.set_weights([weights[f"{norm}.{part}"] for part in parts])
    expected = np.asarray(normalization(convolution(x), training=False))
    assert np.ptp(expected) > 1
    # The weights of the network are rounded to float32: each kernel value, and the bias, which is
    # computed from three values. Everything else is computed with float64.
    factor, offset, mean, variance = (weights[f"{norm}.{part}"].astype(float) for part in parts)
    factor = factor / np.sqrt(variance + 1e-3)
    convolution.set_weights([np.abs(kernel_values)])
    magnitude = np.asarray(convolution(abs(x))) * np.abs(factor)
    magnitude += np.abs(offset) + np.abs(mean * factor)
    assert (np.abs(found - expected) <= 3 * np.finfo(np.float32).eps * magnitude).all()


def test_the_weights_are_frozen_and_the_images_are_normalized_once() -> None:
    """The weights need (pixel - 127) / 128; an earlier layer has already divided by 255."""
    import keras

    backbone = build_backbone("efficientnet_lite0", 64)
    assert backbone.trainable_weights == []
    normalized = keras.Model(backbone.input, backbone.get_layer("backbone_input").output)
    expected = (make_image()[None].astype(np.float64) - 127) / 128
    assert np.asarray(normalized(make_image()[None])) == pytest.approx(expected, abs=1e-5)


def test_a_gray_image_has_the_features_of_a_color_image_with_equal_channels() -> None:
    gray = make_image()[None, ..., :1]
    features = np.asarray(build_backbone("efficientnet_lite0", 64, channels=1)(gray))
    color = np.asarray(build_backbone("efficientnet_lite0", 64)(np.repeat(gray, 3, axis=3)))
    assert np.ptp(features) > 1
    assert features.tolist() == color.tolist()


@pytest.mark.parametrize("side_px", [1, 5, 31])
def test_small_images_have_features(side_px: int) -> None:
    features = np.asarray(
        build_backbone("efficientnet_lite0", side_px)(make_image()[None, :side_px, :side_px])
    )
    assert features.shape == (1, 1280)
    assert np.isfinite(features).all()
    assert features.max() > 0


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"package": "no_such_package"}, "no_such_package: the package with the pretrained"),
        ({"file": "models/other.pth"}, "other.pth: cannot be read"),
        ({"sha256": "0" * 64}, r"lite0.*expected 18,826,032 bytes with SHA-256 000.*found 18,826"),
        ({"channels": (16, 24, 40, 80, 112, 192, 352)}, "project_conv.weight: expected"),
        ({"repeats": (1, 2, 2, 3, 3, 5, 1)}, "expected the weights of layer block_16"),
    ],
)
def test_wrong_weights_are_reported_in_one_line(
    changes: dict[str, Any], message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = "efficientnet_lite0"
    backbone = BACKBONES[name]
    if changes.keys() <= backbone.structure.keys():
        changes = {"structure": {**backbone.structure, **changes}}
    monkeypatch.setitem(BACKBONES, name, dataclasses.replace(backbone, **changes))
    with pytest.raises(PipelineError, match=message) as raised:
        build_backbone(name, 64)
    assert "\n" not in str(raised.value)
    assert "make setup" in str(raised.value)
