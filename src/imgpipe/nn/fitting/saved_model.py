"""Write a model file: a `.keras` archive with stable bytes and the signature of the model."""

import json
import zipfile
from pathlib import Path

import keras

from imgpipe.core.files import replace_file, scratch_directory
from imgpipe.nn.common.model_signature import SIGNATURE_FILE, ModelSignature

_FIRST_ZIP_DATE = (1980, 1, 1, 0, 0, 0)


def save_model(model: keras.Model, signature: ModelSignature, path: Path) -> None:
    """Save a model and its signature; equal models and signatures give equal bytes.

    Keras writes the date, memory addresses as `shared_object_id`, and zip entries with times. This
    function saves a copy whose layers share no objects, leaves the date out, and fixes the times;
    Keras can load the result. The optimizer, two thirds of the size, is left out: the file is for
    inference. The signature is one more member of the archive, which Keras ignores.
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
        metadata = json.loads(members["metadata.json"])
        metadata.pop("date_saved")
        members["metadata.json"] = json.dumps(metadata).encode()
        members[SIGNATURE_FILE] = json.dumps(signature.model_dump()).encode()
        with zipfile.ZipFile(partial, "w") as target:
            for name, content in sorted(members.items()):
                target.writestr(zipfile.ZipInfo(name, _FIRST_ZIP_DATE), content)
