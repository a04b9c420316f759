"""The model as a file: a `.keras` archive with stable bytes that says what it takes; its layers."""

import json
import zipfile
from pathlib import Path

import keras

from imgpipe.core.errors import PipelineError
from imgpipe.core.schema import check
from imgpipe.nn.common.model_signature import SIGNATURE_FILE, ModelSignature


def load_model(path: Path) -> keras.Model:
    """Load a model for inference; code inside the file is never run.

    Raises:
        PipelineError: the file is missing or is no Keras model.
    """
    if not path.exists():
        raise PipelineError(f"{path.as_posix()}: not found; `dvc repro train` writes it")
    try:
        return keras.models.load_model(path, compile=False, safe_mode=True)
    except (ValueError, OSError, KeyError, zipfile.BadZipFile) as error:
        reason = str(error).splitlines()[0]
        raise PipelineError(f"{path.as_posix()}: not a Keras model: {reason}") from None


def read_signature(path: Path) -> ModelSignature:
    """Read what a model file says of itself.

    Raises:
        PipelineError: the file is missing, or is no model that `save_model` has written.
    """
    if not path.exists():
        raise PipelineError(f"{path.as_posix()}: not found; `dvc repro train` writes it")
    try:
        with zipfile.ZipFile(path) as archive:
            content = json.loads(archive.read(SIGNATURE_FILE))
    except (OSError, KeyError, ValueError, zipfile.BadZipFile):
        raise PipelineError(
            f"{path.as_posix()}: not a model of this pipeline: it does not say which images it"
            " takes; `dvc repro train` writes one"
        ) from None
    return check(ModelSignature, content, f"{path.as_posix()}: {SIGNATURE_FILE}")
