"""Networks with weights from ImageNet."""

import dataclasses
import io
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image
from support import PARAMS, RESCALE, build_network, change_params

from imgpipe.core.errors import PipelineError
from imgpipe.settings.backbones import BACKBONES, FEATURES

pytestmark = pytest.mark.tf

# The strongest features of `make_image`, and the mean of all, as these networks computed them once.
EXPECTED: dict[str, tuple[dict[int, float], float]] = {
    "efficientnet_lite0": (
        {71: 6.0, 1104: 6.0, 405: 6.0, 403: 6.0, 512: 6.0, 423: 6.0},
        0.34083,
    ),
    "efficientnet_lite1": (
        {673: 6.0, 605: 6.0, 1196: 6.0, 685: 5.961, 1137: 5.8221, 354: 5.7648},
        0.43672,
    ),
    "efficientnet_lite2": (
        {966: 6.0, 1206: 5.9772, 1184: 4.8397, 579: 4.7042, 460: 4.5804, 87: 4.5245},
        0.29153,
    ),
}
RESCALE_COLOR = RESCALE.model_copy(update={"scale": RESCALE.scale * 3, "offset": [0.0] * 3})
# The numbers of the classes of ImageNet-1k.
CATS, DOGS = slice(281, 286), slice(151, 269)
IMAGES = 100


def make_image() -> NDArray[np.uint8]:
    """Return an image with one gradient in each channel, (64, 64, 3)."""
    rows, columns = np.mgrid[0:64, 0:64]
    return np.stack([4 * rows, 4 * columns, 2 * (rows + columns)], axis=2).astype(np.uint8)


def build_backbone(name: str, side_px: int) -> Any:
    """Return a network from images to features, with the weights from ImageNet."""
    import keras

    from imgpipe.nn.training.architectures.pretrained import FEATURES_LAYER, load_backbone_weights

    params = change_params(PARAMS, architectures__pretrained__backbone=name)
    model = build_network(
        "pretrained", params, shape=(side_px, side_px, 3), normalization=RESCALE_COLOR
    )
    load_backbone_weights(model, name)
    return keras.Model(model.input, model.get_layer(FEATURES_LAYER).output)


@pytest.mark.parametrize("name", BACKBONES)
def test_the_features_of_an_image_are_the_known_ones(name: str) -> None:
    features = np.asarray(build_backbone(name, 64)(make_image()[None]))[0]
    strongest, mean = EXPECTED[name]
    assert features.shape == (FEATURES,)
    assert features.mean() == pytest.approx(mean, abs=1e-4)
    for number, value in strongest.items():
        assert features[number] == pytest.approx(value, abs=1e-3)


def test_the_network_tells_cats_from_dogs(mirror: Path) -> None:
    """With the output layer for ImageNet, which the weight file has, on real photographs."""
    from imgpipe.nn.training.architectures.pretrained import find_weight_file
    from imgpipe.nn.training.torch_file import read_weights

    archive = mirror / "cats_and_dogs_small" / "cats_and_dogs_small.zip"
    if not archive.exists():
        pytest.skip(f"no photographs: DATASET_MIRROR has no {archive.name}")
    images, are_dogs = [], []
    with zipfile.ZipFile(archive) as opened:
        names = [name for name in sorted(opened.namelist()) if name.endswith(".jpg")]
        for kind in ("cats", "dogs"):
            for name in [name for name in names if f"/{kind}/" in name][: IMAGES // 2]:
                with Image.open(io.BytesIO(opened.read(name))) as picture:
                    images.append(np.asarray(picture.convert("RGB").resize((224, 224))))
                are_dogs.append(kind == "dogs")
    name = "efficientnet_lite0"
    weights = read_weights(find_weight_file(BACKBONES[name]))
    features = build_backbone(name, 224).predict(np.stack(images), batch_size=10, verbose=0)
    logits = features @ weights["_fc.weight"].T + weights["_fc.bias"]
    probabilities = np.exp(logits - logits.max(axis=1, keepdims=True))
    say_dog = probabilities[:, DOGS].sum(axis=1) > probabilities[:, CATS].sum(axis=1)
    assert len(images) == IMAGES
    assert (say_dog == np.array(are_dogs)).mean() > 0.9


def test_batch_normalization_is_a_part_of_the_convolution() -> None:
    import keras

    from imgpipe.nn.training.architectures.pretrained import find_weight_file
    from imgpipe.nn.training.torch_file import read_weights

    weights = read_weights(find_weight_file(BACKBONES["efficientnet_lite0"]))
    images = make_image()[None].astype(np.float32) / 128 - 127 / 128
    kernel = weights["_conv_stem.weight"].transpose(2, 3, 1, 0)
    convolved = keras.ops.conv(images, kernel, strides=2, padding="same")
    normalized = keras.ops.batch_normalization(
        convolved,
        weights["_bn0.running_mean"],
        weights["_bn0.running_var"],
        axis=-1,
        offset=weights["_bn0.bias"],
        scale=weights["_bn0.weight"],
        epsilon=1e-3,
    )
    backbone = build_backbone("efficientnet_lite0", 64)
    stem = keras.Model(backbone.input, backbone.get_layer("stem").output)
    assert np.asarray(stem(make_image()[None])) == pytest.approx(np.asarray(normalized), abs=1e-4)


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
def test_other_weights_get_one_line(
    changes: dict[str, Any], message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = "efficientnet_lite0"
    monkeypatch.setitem(BACKBONES, name, dataclasses.replace(BACKBONES[name], **changes))
    with pytest.raises(PipelineError, match=message) as raised:
        build_backbone(name, 64)
    assert "\n" not in str(raised.value)
    assert "make setup" in str(raised.value)
