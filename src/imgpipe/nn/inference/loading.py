"""Read a model file: the model, and its signature."""

import json
import zipfile
from pathlib import Path

import keras

from imgpipe.core.errors import PipelineError
from imgpipe.core.schema import check, check_version
from imgpipe.nn.common.model_signature import (
    FORMAT_VERSION,
    METADATA_FILE,
    SIGNATURE_KEY,
    ModelSignature,
)
from imgpipe.records.info import RecordsInfo


def load_model(path: Path) -> keras.Model:
    """Load a model for inference; code in the file is never run.

    Raises:
        PipelineError: the file is missing or is not a Keras model.
    """
    _check_exists(path)
    try:
        return keras.models.load_model(path, compile=False, safe_mode=True)
    except (ValueError, OSError, KeyError, zipfile.BadZipFile) as error:
        reason = str(error).splitlines()[0]
        raise PipelineError(f"{path.as_posix()}: not a Keras model: {reason}") from None


def load_model_of_records(path: Path, info: RecordsInfo) -> keras.Model:
    """Load a model that was trained on the same dataset, classes and image settings as `info` has.

    Raises:
        PipelineError: as `load_model` and `read_signature`; or it was trained on others.
    """
    expected, found = ModelSignature.of_records(info), read_signature(path)
    differing = [
        key for key in ModelSignature.model_fields if getattr(found, key) != getattr(expected, key)
    ]
    if differing:
        raise PipelineError(
            f"{path.as_posix()}: trained on other records, with another {differing[0]}; run"
            " `dvc repro train`"
        )
    return load_model(path)


def read_signature(path: Path) -> ModelSignature:
    """Read the signature in a model file.

    Raises:
        PipelineError: the file is missing, was not written by `save_model`, or has another format
            version.
    """
    _check_exists(path)
    try:
        with zipfile.ZipFile(path) as archive:
            content = json.loads(archive.read(METADATA_FILE))[SIGNATURE_KEY]
    except (OSError, KeyError, TypeError, ValueError, zipfile.BadZipFile):
        raise PipelineError(
            f"{path.as_posix()}: not a model of this pipeline, or of an older state of it: expected"
            f" the key {SIGNATURE_KEY} in {METADATA_FILE}; `dvc repro train` writes a model"
        ) from None
    where = f"{path.as_posix()}: {METADATA_FILE}: {SIGNATURE_KEY}"
    check_version(content, FORMAT_VERSION, where)
    return check(ModelSignature, content, where)


def _check_exists(path: Path) -> None:
    if not path.exists():
        raise PipelineError(f"{path.as_posix()}: not found; `dvc repro train` writes it")
