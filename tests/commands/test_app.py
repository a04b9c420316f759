"""The web page: the answers of its server; test_app_in_browser.py uses the page itself."""

import base64
import re
from io import BytesIO
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from flask import Flask
from numpy.typing import NDArray
from PIL import Image

from imgpipe.preprocessing.decoding import FORMAT_OF_SUFFIX
from imgpipe.serving.web_app import make_app, overlay_evidence
from imgpipe.settings.image_spec import ImageSpec

GRAY = ImageSpec(height_px=28, width_px=28, channels=1, fit="stretch", interpolation="bilinear")
COLOR = GRAY.model_copy(update={"channels": 3})


def application(image_spec: ImageSpec = GRAY, seen: list[NDArray[np.uint8]] | None = None) -> Flask:
    """The page of a network whose first class is "brighter on the left"."""

    def explain(image: NDArray[np.uint8]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        if seen is not None:
            seen.append(image)
        left = np.float32(image[:, :14].mean() / max(1e-6, image.sum(axis=1).mean() / 14))
        return np.array([left, 1 - left], np.float32), np.eye(3, dtype=np.float32)

    signature = SimpleNamespace(
        dataset="sides <of> things", classes=["left & up", "right"], image_spec=image_spec
    )
    classifier: Any = SimpleNamespace(signature=signature, explain=explain)
    return make_app(classifier)


def encode(pixels: NDArray[np.uint8], kind: str = "PNG") -> bytes:
    content = BytesIO()
    Image.fromarray(pixels).save(content, kind)
    return content.getvalue()


def decode(address: str) -> NDArray[np.uint8]:
    head, _, content = address.partition(",")
    assert head == "data:image/png;base64"
    return np.asarray(Image.open(BytesIO(base64.b64decode(content))))


HALF_WHITE = np.zeros((56, 56), np.uint8)
HALF_WHITE[:, :28] = 255
HALF_WHITE[:8] //= 2  # so that top and bottom differ, too


def test_the_answer_has_the_classes_and_the_image_as_the_network_sees_it() -> None:
    seen: list[NDArray[np.uint8]] = []
    client = application(seen=seen).test_client()
    response = client.post("/predict", data=encode(HALF_WHITE))
    assert response.status_code == 200
    assert response.json is not None
    classes = response.json["classes"]
    assert [each["name"] for each in classes] == ["left & up", "right"]
    assert classes[0]["probability"] > classes[1]["probability"]
    (image,) = seen
    assert image.shape == (28, 28, 1)
    assert (image[5:, :13] == 255).all()
    assert (image[:3, :13] == 127).all()
    seen_picture, evidence = (decode(each["address"]) for each in response.json["images"])
    assert (seen_picture == image[..., 0]).all()
    assert evidence.shape == (28, 28, 3)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"rotten", "not an image, not supported, or its beginning is damaged"),
        (encode(HALF_WHITE)[:-30], "damaged"),
        (b"", "empty file"),
    ],
)
def test_a_file_that_is_not_an_image_is_refused_with_the_reason(
    content: bytes, message: str
) -> None:
    response = application().test_client().post("/predict", data=content)
    assert response.status_code == 400
    assert response.json is not None
    assert response.json["error"].startswith(f"cannot be read as an image: {message}")


def test_a_file_that_is_too_large_is_refused() -> None:
    app = application()
    app.config["MAX_CONTENT_LENGTH"] = 100
    response = app.test_client().post("/predict", data=bytes(101))
    assert response.status_code == 413
    assert response.json == {"error": "too large; expected at most 64.0 MB"}


def test_evidence_is_overlaid_in_red() -> None:
    image = np.full((8, 8, 1), 100, np.uint8)
    evidence = np.zeros((2, 2), np.float32)
    evidence[0, 0] = 1
    mixed = overlay_evidence(image, evidence)
    red, green, _ = mixed[0, 0]
    assert red > 150 > 60 > green
    assert mixed[7, 7].tolist() == [100, 100, 100]


def test_the_page_offers_files_that_can_be_read() -> None:
    page = application().test_client().get("/").text
    (offered,) = re.findall(r'type="file" accept="(.*?)"', page)
    assert offered.split(",") == sorted(FORMAT_OF_SUFFIX)


def test_the_page_escapes_names_and_offers_drawing_only_for_gray_images() -> None:
    page = application().test_client().get("/").text
    assert "sides &lt;of&gt; things" in page
    assert "left &amp; up" in page
    assert "<canvas" in page
    assert "<canvas" not in application(COLOR).test_client().get("/").text
