"""The model as a file: a `.keras` archive with stable bytes, and its layers as text."""

import json
import zipfile
from pathlib import Path
from typing import Any

import keras

from imgpipe.errors import PipelineError
from imgpipe.files import replace_file, scratch_directory

_FIRST_ZIP_DATE = (1980, 1, 1, 0, 0, 0)


def save_model(model: keras.Model, path: Path) -> None:
    """Save a model so that equal models give equal bytes.

    Keras writes the date, memory addresses as `shared_object_id`, and zip entries with times. Here
    the date is left out, the ids are renumbered in their order, and times are fixed; Keras loads
    the result as ever. The optimiser, two thirds of the size, is left out: the file is for
    inference.
    """
    bare = keras.Model.from_config(model.get_config())  # which is not compiled
    bare.set_weights(model.get_weights())
    with (
        scratch_directory(path.with_name("save.partial")) as scratch,
        replace_file(path) as partial,
    ):
        saved = scratch / "model.keras"
        bare.save(saved)
        with zipfile.ZipFile(saved) as source, zipfile.ZipFile(partial, "w") as target:
            for name in sorted(source.namelist()):
                content = source.read(name)
                if name == "metadata.json":
                    metadata = json.loads(content)
                    metadata.pop("date_saved")
                    content = json.dumps(metadata).encode()
                elif name == "config.json":
                    content = json.dumps(_renumber(json.loads(content), {})).encode()
                target.writestr(zipfile.ZipInfo(name, _FIRST_ZIP_DATE), content)


def _renumber(value: Any, numbers: dict[int, int]) -> Any:
    if isinstance(value, list):
        return [_renumber(item, numbers) for item in value]
    if not isinstance(value, dict):
        return value
    return {
        key: numbers.setdefault(item, len(numbers))
        if key == "shared_object_id"
        else _renumber(item, numbers)
        for key, item in value.items()
    }


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


def describe_layers(model: keras.Model) -> str:
    """Return the table of layers: name, kind, output shape, parameters, and their total."""
    rows = [("layer", "kind", "output shape", "parameters")]
    for layer in model.layers:
        shape = " x ".join(str(size) for size in layer.output.shape[1:])
        rows.append((layer.name, type(layer).__name__, shape, f"{layer.count_params():,}"))
    trainable = sum(int(weight.size) for weight in map(_array, model.trainable_weights))
    rows += [
        ("total", "", "", f"{model.count_params():,}"),
        ("trainable", "", "", f"{trainable:,}"),
    ]
    widths = [max(len(row[column]) for row in rows) for column in range(4)]
    lines = [
        f"{name:<{widths[0]}}  {kind:<{widths[1]}}  {shape:<{widths[2]}}  {count:>{widths[3]}}"
        for name, kind, shape, count in rows
    ]
    rule = "-" * len(lines[0])
    return "\n".join([lines[0], rule, *lines[1:-2], rule, *lines[-2:]]) + "\n"


def _array(weight: Any) -> Any:
    return weight.numpy()
