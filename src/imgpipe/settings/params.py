"""The whole of params.yaml, checked before any stage begins.

Each stage checks all sections, so that a mistake in `training` is found before `fetch`
does anything. In dvc.yaml, a stage depends on the schemas of its own sections only: the schema of
another section can stop the stage, it cannot change an output. The section of the method that is
not chosen is checked, too, but nothing reads it.
"""

import json
from pathlib import Path
from typing import Any, ClassVar, Literal

from pydantic import model_validator

from imgpipe.core.schema import Section, check, nearest
from imgpipe.core.yaml_file import read_yaml
from imgpipe.settings.arithmetics import Arithmetics
from imgpipe.settings.augment import Augment
from imgpipe.settings.backbones import BACKBONES
from imgpipe.settings.evaluate import Evaluate
from imgpipe.settings.networks import Networks
from imgpipe.settings.plot import Plot
from imgpipe.settings.preprocess import Preprocess
from imgpipe.settings.training import Training
from imgpipe.settings.transfer import Transfer

PARAMS_FILE = Path("params.yaml")
ONLY_NATIVE = {
    "replicas": 1,
    "precision": "float32",
    "random_rotation_deg": 0.0,
    "random_translation_frac": 0.0,
    "random_zoom_frac": 0.0,
    "random_contrast_frac": 0.0,
}
"""Of `training`: the values with which exact arithmetic can compute, if it has no other."""


class Params(Section):
    """The whole of params.yaml; the comments there say what each value means."""

    removed_keys: ClassVar = {
        "train": "its values are now in the section training or transfer, by `method`; the value of"
        " `architecture` is now `network`",
        "architectures": "the section is now networks",
        "threads": "it is now arithmetics.native.threads; with `arithmetic: exact` the number of"
        " threads has no effect",
    }

    dataset: str
    allow_unpinned: bool
    method: Literal["training", "transfer"]
    network: str
    arithmetic: Literal["exact", "native"]
    arithmetics: Arithmetics
    preprocess: Preprocess
    augment: Augment
    training: Training
    transfer: Transfer
    networks: Networks
    evaluate: Evaluate
    plot: Plot

    @model_validator(mode="after")
    def _network_suits_the_method(self) -> "Params":
        choices = [
            name
            for name in Networks.model_fields
            if (name in BACKBONES) == (self.method == "transfer")
        ]
        if self.network not in choices:
            raise ValueError(
                f"network: expected one of {', '.join(choices)} with method {self.method}; found"
                f" {self.network!r}{nearest(self.network, choices)}"
            )
        return self

    @model_validator(mode="after")
    def _exact_arithmetic_has_what_the_training_needs(self) -> "Params":
        if self.arithmetic == "exact" and self.method == "training":
            for name, without in ONLY_NATIVE.items():
                if (value := getattr(self.training, name)) != without:
                    raise ValueError(
                        f"training.{name}: arithmetic exact has only {without}; found {value};"
                        " choose arithmetic native"
                    )
        return self

    @property
    def method_settings(self) -> Training | Transfer:
        """The section that `method` names."""
        return self.transfer if self.method == "transfer" else self.training

    @property
    def bootstrap_seed(self) -> int | None:
        """The seed of the bootstrap sample to train on; None if all examples are used once."""
        return self.method_settings.seed if self.method_settings.bootstrap else None

    @property
    def network_settings(self) -> Any:
        """The settings of the network that `network` names."""
        return getattr(self.networks, self.network)


def load_params(path: Path = PARAMS_FILE) -> Params:
    """Read and check params.yaml.

    Raises:
        PipelineError: an unknown or missing key, a wrong type, a value out of range or an unknown
            name: one line with file, dotted key, what was expected and what was found.
    """
    return check(Params, read_yaml(path), path.as_posix())


def format_value(value: object) -> str:
    """Return a parameter's value as params.yaml writes it."""
    # YAML has dates, JSON has not.
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)
