"""The web page: its answers, and in a real browser what a person does with it."""

import base64
import html
import json
import re
import shutil
import subprocess
import threading
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from flask import Flask
from numpy.typing import NDArray
from PIL import Image
from werkzeug.serving import make_server

from imgpipe.preprocessing.decoding import FORMAT_OF_SUFFIX
from imgpipe.reporting.web_app import make_app, overlay_evidence
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
    response = client.post("/predict?name=a.png", data=encode(HALF_WHITE))
    assert response.status_code == 200
    assert response.json is not None
    classes = response.json["classes"]
    assert [each["name"] for each in classes] == ["left & up", "right"]
    assert classes[0]["probability"] > classes[1]["probability"]
    (image,) = seen
    assert image.shape == (28, 28, 1)
    assert (image[5:, :13] == 255).all()
    assert (image[:3, :13] == 127).all()
    assert (decode(response.json["seen"]) == image[..., 0]).all()
    assert decode(response.json["evidence"]).shape == (28, 28, 3)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.png", b"", "empty file"),
        ("a.png", b"rotten", "not an image, or its beginning is damaged"),
        ("a.png", encode(HALF_WHITE, "JPEG"), "its name says PNG, but it is JPEG"),
        ("a.png", encode(HALF_WHITE)[:-30], "damaged"),
        ("a.txt", encode(HALF_WHITE), "expected .avif"),
        ("", encode(HALF_WHITE), "no ending: expected .avif"),
    ],
)
def test_a_file_that_is_not_an_image_is_refused_with_the_reason(
    name: str, content: bytes, message: str
) -> None:
    response = application().test_client().post(f"/predict?name={name}", data=content)
    assert response.status_code == 400
    assert response.json is not None
    assert response.json["error"].startswith("This image cannot be read: ")
    assert message in response.json["error"]


def test_a_file_that_is_too_large_is_refused() -> None:
    app = application()
    app.config["MAX_CONTENT_LENGTH"] = 100
    response = app.test_client().post("/predict?name=a.png", data=bytes(101))
    assert response.status_code == 413
    assert response.json is not None
    assert response.json["error"]


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


HARNESS = """
<!DOCTYPE html><iframe id="page" src="/" width="900" height="700"></iframe><pre id="result"></pre>
<script>
const wait = (what) => new Promise((done, failed) => {
  let tries = 0;
  const look = () => {
    const found = what();
    if (found) done(found);
    else if (++tries > 200) failed(what.toString());
    else setTimeout(look, 50);
  };
  look();
});
async function act() {
  const frame = document.getElementById("page");
  await new Promise((loaded) => { frame.onload = loaded; });
  const page = frame.contentDocument, view = frame.contentWindow, observed = {};
  const classes = () => page.getElementById("classes").innerText.trim();
  const error = () => page.getElementById("error").innerText.trim();
  const drop = (file) => {
    const transfer = new view.DataTransfer();
    transfer.items.add(file);
    page.body.dispatchEvent(
      new view.DragEvent("drop", {dataTransfer: transfer, bubbles: true, cancelable: true}));
  };

  const canvas = page.getElementById("canvas");
  canvas.setPointerCapture = () => {};
  canvas.hasPointerCapture = () => true;
  const box = canvas.getBoundingClientRect();
  const touch = (kind, x, y) => canvas.dispatchEvent(new view.PointerEvent(
    kind, {clientX: box.left + x, clientY: box.top + y, pointerId: 1, bubbles: true}));
  touch("pointerdown", 60, 40); touch("pointermove", 60, 240); touch("pointerup", 60, 240);
  observed.drawn = await wait(classes);
  observed.seen = page.getElementById("seen").src;
  page.getElementById("clear").click();
  observed.cleared = classes();

  const pixels = Uint8Array.from(atob("IMAGE"), (letter) => letter.charCodeAt(0));
  drop(new view.File([pixels], "photo.png"));
  observed.dropped = await wait(classes);
  observed.shown = !page.getElementById("images").hidden;
  drop(new view.File([new Uint8Array([1, 2])], "rotten.png"));
  observed.refused = await wait(error);
  observed.hidden = page.getElementById("images").hidden;
  return observed;
}
act().then((observed) => JSON.stringify(observed), (failure) => "failed: " + failure)
     .then((text) => { document.getElementById("result").textContent = text; });
</script>
"""


@pytest.fixture
def browser() -> str:
    found = shutil.which("chromium") or shutil.which("chromium-browser")
    if found is None:
        pytest.skip("no browser: install chromium to test the page in it")
    return found


@pytest.fixture
def address(request: pytest.FixtureRequest) -> Iterator[str]:
    app = application()
    right_white = encode(np.ascontiguousarray(HALF_WHITE[:, ::-1]))
    harness = HARNESS.replace("IMAGE", base64.b64encode(right_white).decode())
    app.add_url_rule("/harness", view_func=lambda: harness)
    server = make_server("127.0.0.1", 0, app)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.port}/harness"
    server.shutdown()
    thread.join()
    server.server_close()


def test_a_person_draws_and_drops_images_in_a_browser(
    browser: str, address: str, tmp_path: Path
) -> None:
    result = subprocess.run(
        [
            browser, "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic",
            "--no-first-run", "--disable-background-networking", "--disable-component-update",
            "--disable-sync", f"--user-data-dir={tmp_path}", "--virtual-time-budget=20000",
            "--dump-dom", address,
        ],
        capture_output=True, text=True, check=True, timeout=120,
    )  # fmt: skip
    (text,) = re.findall(r'<pre id="result">(.*?)</pre>', result.stdout, re.DOTALL)
    observed = json.loads(html.unescape(text))
    assert observed["drawn"].startswith("left & up")
    assert observed["cleared"] == ""
    assert observed["dropped"].startswith("right")
    assert observed["shown"]
    assert observed["refused"].startswith("This image cannot be read: not an image")
    assert observed["hidden"]
    stroke = decode(observed["seen"]).astype(float)
    assert stroke[5:23, 5:7].min() > 200 > 20 > stroke[:, 10:].max()  # where the pen was
