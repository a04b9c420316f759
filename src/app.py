"""Serve a web page on this machine: drop or draw an image, see its classes and the evidence.

    python src/app.py [--port 8000] [--host 127.0.0.1] [--model FILE]

Reads   models/model.keras, which includes its input size and class names; not params.yaml
Costs   starting TensorFlow once; an answer takes a fraction of a second
"""

from pathlib import Path

from imgpipe.console.command_line import make_parser
from imgpipe.core.environment import count_workers
from imgpipe.core.errors import PipelineError, run_script
from imgpipe.core.paths import MODEL
from imgpipe.serving.web_app import make_app, serve_app


def main() -> None:
    parser = make_parser(__doc__)
    parser.add_argument("--port", type=int, default=8000, metavar="N")
    parser.add_argument(
        "--host", default="127.0.0.1", metavar="ADDRESS", help="address to listen on"
    )
    parser.add_argument("--model", type=Path, default=MODEL, metavar="FILE")
    options = parser.parse_args()
    if not options.model.exists():  # before TensorFlow's seconds
        raise PipelineError(f"{options.model}: not found; `dvc repro train` writes it")
    from imgpipe.nn.inference.classifier import Classifier

    serve_app(
        make_app(Classifier(options.model, threads=count_workers())), options.host, options.port
    )


if __name__ == "__main__":
    run_script(main)
