"""A web page that classifies the images that a person drops or draws.

A page of Flask's own development server, for one person on this machine.
"""

import base64
import logging
from http import HTTPStatus
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from flask import Flask, Response, jsonify, render_template, request
from numpy.typing import NDArray
from PIL import Image
from werkzeug.exceptions import HTTPException, RequestEntityTooLarge
from werkzeug.serving import make_server

from imgpipe.core.errors import PipelineError, UnreadableImageError
from imgpipe.preprocessing.decoding import FORMAT_OF_SUFFIX, decode_and_resize, open_image

if TYPE_CHECKING:  # at run time it would import TensorFlow
    from imgpipe.nn.inference.classifier import Classifier

_MAX_BYTES = 64_000_000
_SHOWN_CLASSES = 10
_LOCAL_NAMES = ["127.0.0.1", "localhost"]


def make_app(classifier: "Classifier") -> Flask:
    """Return the application for a classifier; it uses only `signature` and `explain`."""
    signature = classifier.signature
    app = Flask("imgpipe", template_folder=str(Path(__file__).resolve().parent / "templates"))
    app.config["MAX_CONTENT_LENGTH"] = _MAX_BYTES

    @app.get("/")
    def page() -> str:
        image_spec = signature.image_spec
        return render_template(
            "app.html",
            dataset=signature.dataset,
            classes=signature.classes,
            width_px=image_spec.width_px,
            height_px=image_spec.height_px,
            gray=image_spec.channels == 1,
            endings=sorted(FORMAT_OF_SUFFIX),
            max_bytes=_MAX_BYTES,
        )

    @app.post("/predict")
    def predict() -> Response:
        image = decode_and_resize(open_image(request.get_data()), signature.image_spec)
        probabilities, evidence = classifier.explain(image)
        order = np.argsort(-probabilities, kind="stable")[:_SHOWN_CLASSES]
        return jsonify(
            classes=[
                {"name": signature.classes[label], "probability": float(probabilities[label])}
                for label in order
            ],
            images=[
                {"address": make_data_url(picture), "caption": caption}
                for picture, caption in (
                    (image, "what the network sees"),
                    (overlay_evidence(image, evidence), "red: evidence for the first class"),
                )
            ],
        )

    @app.errorhandler(UnreadableImageError)
    def report_unreadable(error: UnreadableImageError) -> tuple[Response, HTTPStatus]:
        return jsonify(error=f"cannot be read as an image: {error}"), HTTPStatus.BAD_REQUEST

    @app.errorhandler(RequestEntityTooLarge)
    def report_too_large(error: RequestEntityTooLarge) -> tuple[Response, int]:
        return jsonify(error=f"too large; expected at most {_MAX_BYTES / 1e6:.1f} MB"), error.code

    @app.errorhandler(HTTPException)
    def report_refused(error: HTTPException) -> tuple[Response, int]:
        return jsonify(error=error.description), error.code or HTTPStatus.INTERNAL_SERVER_ERROR

    return app


def overlay_evidence(image: NDArray[np.uint8], evidence: NDArray[np.float32]) -> NDArray[np.uint8]:
    """Return an image (H, W, C) in gray, colored red by its evidence (h, w) in [0, 1].

    Returns:
        (H, W, 3) uint8.
    """
    height_px, width_px, _ = image.shape
    gray = image.mean(axis=2, dtype=np.float32)
    weight = np.asarray(
        Image.fromarray(evidence).resize((width_px, height_px), Image.Resampling.BILINEAR)
    )
    red = np.array([220.0, 30.0, 30.0], dtype=np.float32)
    weight = 0.7 * weight[..., None]
    mixed: NDArray[np.uint8] = (gray[..., None] * (1 - weight) + red * weight).astype(np.uint8)
    return mixed


def make_data_url(image: NDArray[np.uint8]) -> str:
    """Return an image (H, W, C) as a `data:` URL, a PNG that a page can show."""
    content = BytesIO()
    Image.fromarray(image[..., 0] if image.shape[2] == 1 else image).save(content, "PNG")
    return f"data:image/png;base64,{base64.b64encode(content.getvalue()).decode()}"


def serve_app(app: Flask, host: str, port: int) -> None:
    """Print the address of the page, and answer requests until the process is interrupted.

    Port 0 is any free port.

    Raises:
        PipelineError: the address is in use, or is not one of this machine.
    """
    if host in _LOCAL_NAMES:
        app.config["TRUSTED_HOSTS"] = _LOCAL_NAMES  # other sites cannot pretend to be this one
    try:
        server = make_server(host, port, app)  # one request at a time
    except (OSError, SystemExit):
        raise PipelineError(
            f"{host}:{port}: cannot listen on this address; choose another port, such as"
            " --port 8001"
        ) from None
    logging.getLogger("werkzeug").setLevel(logging.ERROR)  # no line for each request
    print(f"app: http://{host}:{server.port}/ (stop with Ctrl-C)", flush=True)
    server.serve_forever()
