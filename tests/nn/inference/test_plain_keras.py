"""The model file in plain Keras: the lines of its guide, here and in other versions of Keras."""

import json
import platform
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import ExifTags, Image
from support import (
    ROOT,
    build_network,
    change_params,
    make_random_images,
    predict_probabilities,
    read_blocks,
)

from imgpipe.preprocessing.decoding import decode_and_resize, open_image
from imgpipe.settings.image_spec import ImageSpec

pytestmark = pytest.mark.tf

(LINES,) = (
    block.code for block in read_blocks(ROOT / "docs" / "model.md") if block.language == "python"
)
CLASSES = ["Ägypten, <Kairo>", "dogs"]


def save(model: Any, image_spec: ImageSpec, path: Path) -> None:
    """Save a network of two classes."""
    from imgpipe.nn.common.model_signature import PIXELS, ModelSignature
    from imgpipe.nn.fitting.saved_model import save_model

    signature = ModelSignature(
        format_version=1, dataset="d", classes=CLASSES, pixels=PIXELS, image_spec=image_spec
    )
    save_model(model, signature, path)


def make_project(folder: Path, fit: Any = "crop", channels: Any = 3) -> ImageSpec:
    """Write a network that is not trained into a folder; return the images that it takes."""
    spec = ImageSpec(height_px=12, width_px=17, channels=channels, fit=fit, interpolation="bicubic")
    save(
        build_network("mlp", shape=spec.image_shape, classes=2), spec, folder / "models/model.keras"
    )
    return spec


def write_photograph(path: Path, orientation: int, size_px: tuple[int, int] = (20, 15)) -> None:
    """Write a JPEG of smooth colors; by default too small to be decoded at half its size."""
    noise = Image.fromarray(make_random_images(1, 3, 4, 3)[0])
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = orientation
    noise.resize(size_px, Image.Resampling.BICUBIC).save(path, exif=exif)


def read_as_predict(path: Path, spec: ImageSpec) -> NDArray[np.uint8]:
    """Return the image (H, W, C) that `predict` makes of a file."""
    return decode_and_resize(open_image(path.read_bytes()), spec)


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("fit", ["stretch", "crop", "pad"])
def test_the_lines_of_the_guide_do_what_predict_does(
    fit: str,
    channels: int,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    from imgpipe.nn.inference.loading import load_model

    assert len(LINES.splitlines()) < 15
    monkeypatch.chdir(tmp_path)
    spec = make_project(tmp_path, fit, channels)
    for orientation in range(1, 9):
        write_photograph(Path("photograph.jpg"), orientation)
        names: dict[str, Any] = {}
        exec(compile(LINES, "docs/model.md", "exec"), names)
        image = read_as_predict(Path("photograph.jpg"), spec)
        assert (np.asarray(names["image"]).reshape(spec.image_shape) == image).all()
        (expected,) = predict_probabilities(load_model(Path("models/model.keras")), image[None])
        assert names["probabilities"] == pytest.approx(expected, abs=1e-6)
        answer = " ".join([CLASSES[expected.argmax()], str(names["probabilities"].max())])
        assert capsys.readouterr().out.splitlines()[-1] == answer


@pytest.mark.parametrize("orientation", [1, 2, 3, 4])
@pytest.mark.parametrize("fit", ["stretch", "crop"])
def test_the_lines_of_the_guide_decode_large_photographs_as_preprocess_does(
    fit: str, orientation: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The decoder makes them smaller; without that, most pixels would be different."""
    monkeypatch.chdir(tmp_path)
    spec = make_project(tmp_path, fit)
    write_photograph(Path("photograph.jpg"), orientation, size_px=(150, 120))
    image = read_as_predict(Path("photograph.jpg"), spec)
    for lines, share in ((LINES, 0), (LINES.replace("image.draft", "print"), 0.3)):
        names: dict[str, Any] = {}
        exec(compile(lines, "docs/model.md", "exec"), names)
        different = np.asarray(names["image"]) != image
        assert different.mean() >= share
        assert different.any() == (share > 0)


# Runs in another environment: loads all files, and then the lines of the guide.
SCRIPT = """
import json
from pathlib import Path

import keras
import numpy as np

found = {"version": keras.__version__}
for path in sorted(Path("networks").glob("*.keras")):
    images = np.load(path.with_suffix(".npy"))
    model = keras.models.load_model(path)
    found[path.stem] = [
        model.predict(images.astype(dtype), verbose=0).tolist() for dtype in ("uint8", "float32")
    ]
names = {}
exec(compile(Path("lines.py").read_text(encoding="utf-8"), "docs/model.md", "exec"), names)
found["lines"] = [names["probabilities"].tolist(), np.asarray(names["image"]).tolist()]
Path("found.json").write_text(json.dumps(found))
"""

# Together they have every layer, with every choice that changes a layer's configuration.
NETWORKS: dict[str, tuple[str, dict[str, Any]]] = {
    "mlp": ("mlp", {}),
    "rows": ("mlp", {"networks__mlp__sees": "row"}),
    "cnn": ("cnn", {}),
    "average": (
        "cnn",
        {
            "networks__cnn__pool": "average",
            "networks__cnn__global_pool": "average",
            "networks__cnn__batch_norm": True,
        },
    ),
    "min": ("cnn", {"networks__cnn__pool": "min", "networks__cnn__global_pool": "max"}),
    "resnet": ("resnet", {}),
}


def save_networks(folder: Path) -> dict[str, NDArray[np.float32]]:
    """Save networks of each kind, with images; return their probabilities."""
    from imgpipe.nn.common.runtime import keras
    from imgpipe.nn.transfer.weights import build_pretrained

    keras.utils.set_random_seed(1)
    models = {
        f"{name}-{classes}": build_network(kind, change_params(**changes), classes=classes)
        for name, (kind, changes) in NETWORKS.items()
        for classes in (2, 10)
    }
    keras.config.set_dtype_policy("mixed_bfloat16")
    models["bfloat16-2"] = build_network("cnn", classes=2)
    keras.config.set_dtype_policy("float32")
    for channels in (1, 3):
        models[f"pretrained-{channels}"] = build_pretrained(
            "efficientnet_lite0", image_shape=(64, 64, channels), classes=2
        )
    answers = {}
    for name, model in models.items():
        unit = model.get_layer("logits")  # untrained: without this, all answers are nearly equal
        unit.set_weights([10 * values for values in unit.get_weights()])
        images = make_random_images(4, *model.input_shape[1:])
        height_px, width_px, channels = model.input_shape[1:]
        spec = ImageSpec(
            height_px=height_px,
            width_px=width_px,
            channels=channels,
            fit="crop",
            interpolation="bilinear",
        )
        save(model, spec, folder / f"{name}.keras")
        np.save(folder / f"{name}.npy", images)
        answers[name] = predict_probabilities(model, images)
    return answers


def make_environment(folder: Path, packages: list[str]) -> Path:
    """Install packages into a new environment; return its Python. Skip without a network."""
    python = folder / "bin" / "python"
    subprocess.run(
        [sys.executable, "-m", "uv", "venv", "--quiet", "--python", sys.executable, folder],
        check=True,
    )
    result = subprocess.run(
        [sys.executable, "-m", "uv", "pip", "install", "--quiet", "--python", python, *packages],
        capture_output=True,
        text=True,
        check=False,
    )
    if "Failed to fetch" in result.stderr or "error sending request" in result.stderr:
        pytest.skip(f"no package index can be reached: {result.stderr.strip().splitlines()[-1]}")
    assert result.returncode == 0, result.stderr
    return python


@pytest.mark.slow
@pytest.mark.parametrize("age", ["oldest", "newest"])
def test_another_keras_gives_the_same_answers(age: str, tmp_path: Path) -> None:
    from imgpipe.nn.inference.loading import load_model

    on_x86_linux = (sys.platform, platform.machine()) == ("linux", "x86_64")
    tensorflow = "tensorflow-cpu" if on_x86_linux else "tensorflow"
    packages = {
        "oldest": ["keras==3.8.0", f"{tensorflow}==2.18.1"],
        "newest": ["keras", tensorflow],
    }[age]
    if age == "oldest" and sys.version_info >= (3, 13):
        pytest.skip("TensorFlow 2.18, of the time of Keras 3.8, has no wheel for this Python")
    python = make_environment(tmp_path / "environment", [*packages, "pillow"])
    project = tmp_path / "project"
    (project / "networks").mkdir(parents=True)
    spec = make_project(project)
    write_photograph(project / "photograph.jpg", orientation=6)
    expected = save_networks(project / "networks")
    (project / "lines.py").write_text(LINES, encoding="utf-8")
    result = subprocess.run(
        [python, "-c", SCRIPT],
        cwd=project,
        env={"PATH": str(python.parent), "TF_CPP_MIN_LOG_LEVEL": "3", "HOME": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )
    shutil.rmtree(tmp_path / "environment")  # more than a gigabyte
    assert result.returncode == 0, result.stderr
    found = json.loads((project / "found.json").read_text())
    if age == "oldest":
        assert found["version"] == "3.8.0"
    for name, probabilities in expected.items():
        of_uint8, of_float32 = found[name]
        assert of_uint8 == of_float32
        assert np.ptp(probabilities) > 0.02
        # Half precision has 8 binary digits. Other sums have some thousands of terms in float32, of
        # both signs, and another TensorFlow may add them in another order.
        bound = 0.05 if name == "bfloat16-2" else 1e-5
        assert np.array(of_uint8) == pytest.approx(probabilities, abs=bound), name
    probabilities, image = found["lines"]
    expected_image = read_as_predict(project / "photograph.jpg", spec)
    assert image == expected_image.tolist()
    (expected_probabilities,) = predict_probabilities(
        load_model(project / "models" / "model.keras"), expected_image[None]
    )
    assert probabilities == pytest.approx(expected_probabilities, abs=1e-5)
