"""The model as a file: a `.keras` archive with stable bytes that says what it takes; its layers."""

import json
import zipfile
from pathlib import Path
from typing import Any

import keras

from imgpipe.core.files import replace_file, scratch_directory
from imgpipe.nn.common.model_signature import SIGNATURE_FILE, ModelSignature

_FIRST_ZIP_DATE = (1980, 1, 1, 0, 0, 0)


def save_model(model: keras.Model, signature: ModelSignature, path: Path) -> None:
    """Save a model and its signature so that equal ones give equal bytes.

    Keras writes the date, memory addresses as `shared_object_id`, and zip entries with times. Here
    the date is left out, the ids are renumbered in their order, and times are fixed; Keras loads
    the result as ever. The optimiser, two thirds of the size, is left out: the file is for
    inference. The signature is one more member of the archive, which Keras passes over.
    """
    bare = keras.Model.from_config(model.get_config())  # which is not compiled
    bare.set_weights(model.get_weights())
    with (
        scratch_directory(path.with_name("save.partial")) as scratch,
        replace_file(path) as partial,
    ):
        saved = scratch / "model.keras"
        bare.save(saved)
        with zipfile.ZipFile(saved) as source:
            members = {name: source.read(name) for name in source.namelist()}
        metadata = json.loads(members["metadata.json"])
        metadata.pop("date_saved")
        members["metadata.json"] = json.dumps(metadata).encode()
        config = _renumber(json.loads(members["config.json"]), {})
        members["config.json"] = json.dumps(config).encode()
        members[SIGNATURE_FILE] = json.dumps(signature.model_dump()).encode()
        with zipfile.ZipFile(partial, "w") as target:
            for name, content in sorted(members.items()):
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
