"""The whole of params.yaml, checked before any stage begins.

Each stage checks all sections, so that a mistake in `train` is found before `fetch` does anything.
In dvc.yaml, a stage depends on the schemas of its own sections only: the schema of another section
can stop the stage, it cannot change an output.
"""

import json
from pathlib import Path
from typing import Any

from pydantic import model_validator

from imgpipe.core.schema import Count, Section, check
from imgpipe.core.yaml_file import read_yaml
from imgpipe.settings.architectures import Architectures
from imgpipe.settings.augment import Augment
from imgpipe.settings.evaluate import Evaluate
from imgpipe.settings.plot import Plot
from imgpipe.settings.preprocess import Preprocess
from imgpipe.settings.train import Train

PARAMS_FILE = Path("params.yaml")


class Params(Section):
    """The whole of params.yaml; the comments there say what each value means."""

    dataset: str
    allow_unpinned: bool
    threads: Count
    preprocess: Preprocess
    augment: Augment
    train: Train
    architectures: Architectures
    evaluate: Evaluate
    plot: Plot

    @model_validator(mode="after")
    def _other_values_suit_a_pretrained_network(self) -> "Params":
        if self.train.architecture == "pretrained":
            self.chosen_architecture.check_other_sections(self.preprocess, self.train)
        elif self.train.optimizer == "lbfgs":
            raise ValueError("train.optimizer: lbfgs needs architecture pretrained")
        return self

    @model_validator(mode="after")
    def _other_values_suit_several_replicas(self) -> "Params":
        if self.train.replicas > 1 and self.train.precision == "mixed_float16":
            # Keras's factor for the loss may then differ between the replicas.
            raise ValueError(
                "train.precision: mixed_float16 needs train.replicas 1; choose mixed_bfloat16"
            )
        return self

    @property
    def chosen_architecture(self) -> Any:
        """The settings of the network that `train.architecture` names."""
        return getattr(self.architectures, self.train.architecture)


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
