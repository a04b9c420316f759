"""A page on this machine: drop an image or draw one, see its classes and what speaks for them.

    python src/app.py [--port 8000] [--host 127.0.0.1] [--model FILE]

Reads   models/model.keras, which says itself how images become its input; no params.yaml
Costs   starting TensorFlow, once; an answer takes a fraction of a second
"""

import argparse
import base64
import logging
from collections.abc import Callable
from http import HTTPStatus
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
from flask import Flask, Response, jsonify, render_template, request
from numpy.typing import NDArray
from PIL import Image
from werkzeug.exceptions import HTTPException
from werkzeug.serving import make_server

from imgpipe.core.errors import PipelineError, UnreadableImageError, run_script
from imgpipe.parallel import count_workers
from imgpipe.preprocessing.decoding import decode_and_resize, open_image

MOST_BYTES = 64 << 20
SHOWN_CLASSES = 10
LOCAL_NAMES = ["127.0.0.1", "localhost"]

# Of one image (H, W, C): probabilities (K,), and where the evidence lies, (h, w) in [0, 1].
Explain = Callable[[NDArray[np.uint8]], tuple[NDArray[np.float32], NDArray[np.float32]]]


def make_app(signature: Any, explain: Explain) -> Flask:
    """Return the application for a model's `ModelSignature`."""
    app = Flask("imgpipe", template_folder=str(Path(__file__).resolve().parent))
    app.config["MAX_CONTENT_LENGTH"] = MOST_BYTES

    @app.get("/")
    def page() -> str:
        image_spec = signature.image_spec
        return render_template(
            "app.html",
            dataset=signature.dataset,
            classes=signature.classes,
            width_px=image_spec.width_px,
            height_px=image_spec.height_px,
            grey=image_spec.channels == 1,
        )

    @app.post("/predict")
    def predict() -> Response:
        suffix = Path(request.args.get("name", "")).suffix.lower()
        image = decode_and_resize(open_image(request.get_data(), suffix), signature.image_spec)
        probabilities, evidence = explain(image)
        order = np.argsort(-probabilities, kind="stable")[:SHOWN_CLASSES]
        return jsonify(
            classes=[
                {"name": signature.classes[label], "probability": float(probabilities[label])}
                for label in order
            ],
            seen=to_address(image),
            evidence=to_address(lay_over(image, evidence)),
        )

    @app.errorhandler(UnreadableImageError)
    def refuse(error: UnreadableImageError) -> tuple[Response, HTTPStatus]:
        return jsonify(error=f"This image cannot be read: {error}"), HTTPStatus.BAD_REQUEST

    @app.errorhandler(HTTPException)
    def explain_refusal(error: HTTPException) -> tuple[Response, int]:
        return jsonify(error=error.description), error.code or HTTPStatus.INTERNAL_SERVER_ERROR

    return app


def lay_over(image: NDArray[np.uint8], evidence: NDArray[np.float32]) -> NDArray[np.uint8]:
    """Return an image (H, W, 3) in grey, with red where the evidence (h, w) in [0, 1] lies."""
    height_px, width_px, _ = image.shape
    grey = image.mean(axis=2, dtype=np.float32)
    weight = np.asarray(
        Image.fromarray(evidence).resize((width_px, height_px), Image.Resampling.BILINEAR)
    )
    red = np.array([220.0, 30.0, 30.0], dtype=np.float32)
    weight = 0.7 * weight[..., None]
    mixed: NDArray[np.uint8] = (grey[..., None] * (1 - weight) + red * weight).astype(np.uint8)
    return mixed


def to_address(image: NDArray[np.uint8]) -> str:
    """Return an image as an address that a page can show."""
    content = BytesIO()
    Image.fromarray(image[..., 0] if image.shape[2] == 1 else image).save(content, "PNG")
    return f"data:image/png;base64,{base64.b64encode(content.getvalue()).decode()}"


def load(model_path: Path) -> tuple[Any, Explain]:
    """Load a model; return its `ModelSignature`, and what explains an image by it."""
    from imgpipe.nn.common.runtime import configure_runtime  # first: it quietens TensorFlow's start

    configure_runtime(threads=count_workers(), seed=0, precision="float32")
    from imgpipe.nn.inference.explanation import activation_maps
    from imgpipe.nn.inference.loading import load_model, read_signature
    from imgpipe.nn.inference.prediction import predict_probabilities

    signature, model = read_signature(model_path), load_model(model_path)

    def explain(image: NDArray[np.uint8]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        images = image[None]
        return predict_probabilities(model, images)[0], activation_maps(model, images)[0]

    return signature, explain


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--port", type=int, default=8000, metavar="N")
    parser.add_argument("--host", default="127.0.0.1", metavar="ADDRESS", help="who may ask")
    parser.add_argument("--model", type=Path, default=Path("models/model.keras"), metavar="FILE")
    options = parser.parse_args()
    if not options.model.exists():  # before TensorFlow's seconds
        raise PipelineError(f"{options.model}: not found; `dvc repro train` writes it")
    app = make_app(*load(options.model))
    if options.host in LOCAL_NAMES:
        app.config["TRUSTED_HOSTS"] = LOCAL_NAMES  # a page elsewhere cannot pretend to be this one
    try:
        server = make_server(options.host, options.port, app)  # one question at a time
    except (OSError, SystemExit):
        raise PipelineError(
            f"{options.host}:{options.port}: cannot listen there; another port: --port 8001"
        ) from None
    logging.getLogger("werkzeug").setLevel(logging.ERROR)  # no line for each question
    print(f"app: http://{options.host}:{server.port}/ (stop with Ctrl-C)", flush=True)
    server.serve_forever()


if __name__ == "__main__":
    run_script(main)
