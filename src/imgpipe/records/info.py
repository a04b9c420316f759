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
from imgpipe.core.schema import CountOrZero, Section, check
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
    sha256: str | None
    """Hash of the whole file; None in records of format version 0."""


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
        return _upgrade(check(_RecordsInfo0, value, path.as_posix()), path)
    return check(RecordsInfo, value, path.as_posix())


def read_augmented_info(folder: Path) -> AugmentedInfo:
    """Read the description of a folder of augmented records of this format version.

    Raises:
        PipelineError: the file is missing, not as described, or of another format version.
    """
    path = folder / _INFO_FILE
    value, version = _read_versioned(path)
    if version == 0:
        raise PipelineError(
            f"{path.as_posix()}: format_version: expected {FORMAT_VERSION}; found 0, of an older"
            " imgpipe; run `dvc repro augment`"
        )
    return check(AugmentedInfo, value, path.as_posix())


def write_info(folder: Path, info: RecordsInfo | AugmentedInfo) -> None:
    """Write the description of a folder of records."""
    write_json(folder / _INFO_FILE, info.model_dump())


def copy_folder(copy: int) -> str:
    """Return the folder of the `copy`-th augmented copy, counted from 1."""
    return f"copy-{copy:02d}"


def _read_versioned(path: Path) -> tuple[Any, int]:
    """Return the content of `info.json` and its format version; a missing version is 0."""
    value = read_json(path)
    version = value.get("format_version", 0) if isinstance(value, dict) else FORMAT_VERSION
    if type(version) is not int or version < 0:
        raise PipelineError(
            f"{path.as_posix()}: format_version: expected a whole number of at least 0; found"
            f" {version!r}; run `dvc repro`"
        )
    if version > FORMAT_VERSION:
        raise PipelineError(
            f"{path.as_posix()}: format_version: expected at most {FORMAT_VERSION}; found"
            f" {version}, which a newer imgpipe wrote; update imgpipe, or run `dvc repro`"
        )
    return value, version


class _Shard0(Section):
    file: str
    examples: CountOrZero


class _SplitInfo0(Section):
    examples: CountOrZero
    per_class: dict[str, int]
    shards: list[_Shard0]


class _RecordsInfo0(Section):
    """`info.json` of format version 0, before `format_version` existed."""

    dataset: str
    classes: list[str]
    framing: ImageSpec
    normalization: Normalization
    record_encoding: Literal["raw", "png"]
    record_fields: dict[str, str]
    splits: dict[str, _SplitInfo0]


def _upgrade(info: _RecordsInfo0, path: Path) -> RecordsInfo:
    """Turn a description of format version 0 into one of this version."""
    if info.record_encoding != "raw":
        raise PipelineError(
            f"{path.as_posix()}: record_encoding: expected 'raw'; found {info.record_encoding!r},"
            " which is no longer read; run `dvc repro`"
        )
    return RecordsInfo(
        format_version=FORMAT_VERSION,
        dataset=info.dataset,
        classes=info.classes,
        image_spec=info.framing,
        normalization=info.normalization,
        record_fields=info.record_fields,
        splits={
            name: SplitInfo(
                examples=split.examples,
                per_class=split.per_class,
                shards=[
                    Shard(file=shard.file, examples=shard.examples, sha256=None)
                    for shard in split.shards
                ],
            )
            for name, split in info.splits.items()
        },
    )
