"""`info.json`: what a folder of records holds, and the version of its format.

A folder of records holds `info.json` (`RecordsInfo`) and, for each split, shards
`<split>-00000-of-00003.tfrecord`. A folder of augmented records holds `info.json`
(`AugmentedInfo`) and, for each copy of the training split, shards of the same names under
`copy-01/`, ...: record n of a copy's shard is a variant of record n of the original shard.
"""

from pathlib import Path
from typing import Literal

from pydantic import model_validator

from imgpipe.core.files import read_json, write_json
from imgpipe.core.schema import CountOrZero, ModelT, Section, check, check_version
from imgpipe.records.normalization import Normalization
from imgpipe.settings.image_spec import ImageSpec

FORMAT_VERSION: Literal[1] = 1

# The fields of one record, written to info.json for readers without this code.
FIELDS = {
    "identity": "bytes: UTF-8 text that leads back to the file the image came from",
    "image": "bytes: uint8 pixels, rows from the top, columns from the left, channels last",
    "label": "int64: index into classes",
}

_INFO_FILE = "info.json"


class Shard(Section):
    """One TFRecord file."""

    file: str
    examples: CountOrZero
    sha256: str
    """Hash of the whole file."""


class SplitInfo(Section):
    """The records of one split."""

    examples: CountOrZero
    per_class: dict[str, int]
    shards: list[Shard]


class RecordsInfo(Section):
    """Everything a reader needs to know about a folder of records."""

    format_version: Literal[1]
    dataset: str
    classes: list[str]
    image_spec: ImageSpec
    normalization: Normalization
    record_fields: dict[str, str]
    splits: dict[str, SplitInfo]

    @model_validator(mode="after")
    def _splits_are_what_they_say(self) -> "RecordsInfo":
        """Training images under the name of test images would give no error later."""
        split_of_shard: dict[str, str] = {}
        for split, info in self.splits.items():
            where = f"splits.{split}"
            for number, shard in enumerate(info.shards):
                expected = name_shard(split, number, len(info.shards))
                if shard.file != expected:
                    raise ValueError(f"{where}.shards: expected {expected}; found {shard.file}")
                if shard.examples and split_of_shard.setdefault(shard.sha256, split) != split:
                    raise ValueError(
                        f"{where}.shards: {shard.file} is also a shard of"
                        f" {split_of_shard[shard.sha256]}: they have the same sha256"
                    )
            if list(info.per_class) != self.classes:
                raise ValueError(f"{where}.per_class: expected the classes in their order")
            counts = {
                info.examples,
                sum(info.per_class.values()),
                sum(shard.examples for shard in info.shards),
            }
            if len(counts) > 1:
                raise ValueError(
                    f"{where}: expected the same number of examples in all of it; found"
                    f" {', '.join(map(str, sorted(counts)))}"
                )
        return self

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """(H, W, C) of every image."""
        return self.image_spec.image_shape


class AugmentedInfo(Section):
    """The augmented copies of a training split."""

    format_version: Literal[1]
    record_fields: dict[str, str]
    shards_of_copies: list[list[Shard]]
    """For each copy its shards, in the order of the original shards."""

    @property
    def copies(self) -> int:
        """Number of augmented copies of each training image."""
        return len(self.shards_of_copies)


def read_info(folder: Path) -> RecordsInfo:
    """Read the description of a folder of records.

    Raises:
        PipelineError: the file is missing, not as described, or of another format version.
    """
    return _read(RecordsInfo, folder)


def read_augmented_info(folder: Path) -> AugmentedInfo:
    """Read the description of a folder of augmented records, as `read_info` does."""
    return _read(AugmentedInfo, folder)


def write_info(folder: Path, info: RecordsInfo | AugmentedInfo) -> None:
    """Write the description of a folder of records."""
    write_json(folder / _INFO_FILE, info.model_dump())


def name_shard(split: str, number: int, count: int) -> str:
    """Return the name of the `number`-th of a split's `count` shards, counted from 0."""
    return f"{split}-{number:05d}-of-{count:05d}.tfrecord"


def copy_folder(copy: int) -> str:
    """Return the folder of the `copy`-th augmented copy, counted from 1."""
    return f"copy-{copy:02d}"


def _read(model: type[ModelT], folder: Path) -> ModelT:
    path = folder / _INFO_FILE
    value = read_json(path)
    check_version(value, FORMAT_VERSION, path.as_posix())
    return check(model, value, path.as_posix())
