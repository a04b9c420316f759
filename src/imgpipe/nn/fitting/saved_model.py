"""Write a model file: a `.keras` archive with stable bytes and the signature of the model."""

import json
import zipfile
from pathlib import Path
from typing import Any

import keras

from imgpipe.core.files import replace_file, scratch_directory
from imgpipe.nn.common.model_signature import METADATA_FILE, SIGNATURE_KEY, ModelSignature

_FIRST_ZIP_DATE = (1980, 1, 1, 0, 0, 0)
_CONFIG_FILE = "config.json"
# What Keras has added to the layers of this project after version 3.8, whose layers refuse unknown
# keys. With these values a layer is the same as without them.
_UNUSED_KEYS = {
    "input_axes": None,
    "output_axes": None,
    "quantization_config": None,
    "renorm": False,
    "renorm_clipping": None,
    "renorm_momentum": 0.99,
}


def save_model(model: keras.Model, signature: ModelSignature, path: Path) -> None:
    """Save a model and its signature; equal models and signatures give equal bytes.

    Keras writes the date, memory addresses as `shared_object_id`, and zip entries with times. This
    function saves a copy whose layers share no objects, and fixes the date and the times. The
    optimizer, two thirds of the size, is left out: the file is for inference. Every Keras from 3.8
    on loads the result, because unused keys that came later are left out. The signature is added to
    the metadata that Keras writes.
    """
    uncompiled = keras.Model.from_config(model.get_config())
    uncompiled.set_weights(model.get_weights())
    with (
        scratch_directory(path.with_name("save.partial")) as scratch,
        replace_file(path) as partial,
    ):
        saved = scratch / "model.keras"
        uncompiled.save(saved)
        with zipfile.ZipFile(saved) as source:
            members = {name: source.read(name) for name in source.namelist()}
        config = json.loads(members[_CONFIG_FILE], object_hook=_drop_unused_keys)
        members[_CONFIG_FILE] = json.dumps(config).encode()
        metadata = json.loads(members[METADATA_FILE])
        metadata["date_saved"] = "{}-{:02}-{:02}@{:02}:{:02}:{:02}".format(*_FIRST_ZIP_DATE)
        metadata[SIGNATURE_KEY] = signature.model_dump()
        members[METADATA_FILE] = json.dumps(metadata).encode()
        with zipfile.ZipFile(partial, "w") as target:
            for name, content in sorted(members.items()):
                target.writestr(zipfile.ZipInfo(name, _FIRST_ZIP_DATE), content)


def _drop_unused_keys(config: dict[str, Any]) -> dict[str, Any]:
    return {
        key: value
        for key, value in config.items()
        if key not in _UNUSED_KEYS or value != _UNUSED_KEYS[key]
    }
