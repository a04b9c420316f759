"""`info.json`: what a folder of records holds, and the version of its format.

A folder of records holds `info.json` (`RecordsInfo`) and, for each split, shards
`<split>-00000-of-00003.tfrecord`. A folder of augmented records holds `info.json`
(`AugmentedInfo`) and, for each copy of the training split, shards of the same names under
`copy-01/`, ...: record n of a copy's shard is a variant of record n of the original shard.
"""

from pathlib import Path
from typing import Any, Literal

from imgpipe.core.errors import PipelineError
from imgpipe.core.files import read_json, write_json
from imgpipe.core.schema import Section, check
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
    examples: int
    sha256: str | None
    """Hash of the whole file; None in records of format version 0."""


class SplitInfo(Section):
    """The records of one split."""

    examples: int
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
    """Read the description of a folder of records, of this format version or an older one.

    Raises:
        PipelineError: the file is missing, not as described, or of a newer format version.
    """
    path = folder / _INFO_FILE
    value, version = _read_versioned(path)
    if version == 0:
        value = _upgrade(value, path)
    return check(RecordsInfo, value, path.as_posix())


def read_augmented_info(folder: Path) -> AugmentedInfo:
    """Read the description of a folder of augmented records of this format version.

    Raises:
        PipelineError: the file is missing, not as described, or of another format version.
    """
    path = folder / _INFO_FILE
    value, version = _read_versioned(path)
    if version == 0:
        raise PipelineError(f"{path.as_posix()}: format version 0; run `dvc repro augment`")
    return check(AugmentedInfo, value, path.as_posix())


def write_info(folder: Path, info: RecordsInfo | AugmentedInfo) -> None:
    """Write the description of a folder of records."""
    write_json(folder / _INFO_FILE, info.model_dump())


def copy_folder(copy: int) -> str:
    """Return the folder of the `copy`-th augmented copy, counted from 1."""
    return f"copy-{copy:02d}"


def _read_versioned(path: Path) -> tuple[dict[str, Any], int]:
    value = read_json(path)
    if not isinstance(value, dict):
        raise PipelineError(f"{path.as_posix()}: expected a description of records")
    version = value.get("format_version", 0)
    if version not in range(FORMAT_VERSION + 1):
        raise PipelineError(
            f"{path.as_posix()}: format_version: expected at most {FORMAT_VERSION}; found"
            f" {version!r}, which a newer imgpipe wrote"
        )
    return value, version


def _upgrade(value: dict[str, Any], path: Path) -> dict[str, Any]:
    """Turn a description of format version 0 into one of version 1."""
    upgraded = dict(value)
    if upgraded.pop("record_encoding", "raw") != "raw":
        raise PipelineError(f"{path.as_posix()}: PNG records are no longer read; run `dvc repro`")
    upgraded["format_version"] = 1
    upgraded["image_spec"] = upgraded.pop("framing", None)
    for split in upgraded.get("splits", {}).values():
        split["shards"] = [{**shard, "sha256": None} for shard in split["shards"]]
    return upgraded
