"""`data/catalog.yaml`: the datasets that the pipeline knows."""

import csv
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Any, Generic, TypeVar

from pydantic import Field, model_validator

from imgpipe.core.errors import PipelineError
from imgpipe.core.files import write_csv
from imgpipe.core.schema import Section, check, nearest
from imgpipe.core.yaml_file import read_yaml
from imgpipe.datasets.formats import FORMATS, FileName, Format, check_distinct
from imgpipe.settings.params import PARAMS_FILE

CATALOG_FILE = Path("data/catalog.yaml")
LOCAL = Path("data/local")
MANIFEST_NAME = "manifest.csv"
UNPUBLISHED = "unpublished"

FormatT = TypeVar("FormatT", bound=Format)


class RawFile(Section):
    """One file as the publisher of the dataset offers it."""

    name: FileName
    bytes: Annotated[int, Field(ge=1)]
    sha256: Annotated[str, Field(pattern=f"^([0-9a-f]{{64}}|{UNPUBLISHED})$")]


class DownloadEntry(Section, Generic[FormatT]):
    """The entry of a dataset whose files are downloaded."""

    title: str
    license: str
    citation: str
    urls: list[str]
    files: Annotated[list[RawFile], Field(min_length=1)]
    in_place: bool = False
    """Whether the files stay where they are, and `preprocess` reads them there.

    In the catalog it is a part of `files`, a value that DVC tracks: `files: {in_place: ...}`.
    """
    format: FormatT

    @model_validator(mode="after")
    def _files_fit_the_format(self) -> "DownloadEntry[FormatT]":
        names = [file.name for file in self.files]
        check_distinct("files", names)
        self.format.check_files(names)
        if self.in_place and not self.format.reads_in_place:
            raise ValueError(
                f"files.in_place: the format {self.format.kind} needs its files fetched"
            )
        unpinned = [file.name for file in self.files if file.sha256 == UNPUBLISHED]
        if self.in_place and unpinned:
            raise ValueError(f"files.in_place: needs a sha256 of each file; {unpinned[0]} has none")
        return self

    @property
    def archive_names(self) -> list[str]:
        """Names of the files in `data/raw`."""
        return [file.name for file in self.files]

    @property
    def identity_prefixes(self) -> list[str]:
        """For each archive: the part of an image's identity before the name of the member."""
        return [f"{name}#" for name in self.archive_names]


class LocalEntry(Section, Generic[FormatT]):
    """The entry of the user's own folder of images, `data/local/<name of the dataset>`."""

    title: str
    license: str = ""
    citation: str = ""
    files: str
    format: FormatT

    @property
    def folder(self) -> Path:
        """The folder that holds the images."""
        return Path(self.files)

    @property
    def archive_name(self) -> str:
        """Name of the archive in `data/raw` into which `fetch` packs the folder."""
        return f"{self.folder.name}.zip"

    @property
    def archive_names(self) -> list[str]:
        """Names of the files in `data/raw`."""
        return [self.archive_name]

    @property
    def identity_prefixes(self) -> list[str]:
        """For each archive: the part of an image's identity before the name of the member."""
        return [f"{self.folder.as_posix()}/"]


Entry = DownloadEntry[Any] | LocalEntry[Any]


def load_entry(dataset: str, path: Path = CATALOG_FILE) -> Entry:
    """Read and check the entry of one dataset.

    Raises:
        PipelineError: no such dataset, or an entry that breaks the schema: one line with file,
            dotted key, what was expected and what was found.
    """
    catalog = read_yaml(path)
    if not isinstance(catalog, dict) or not catalog:
        raise PipelineError(f"{path.as_posix()}: expected a mapping of names to datasets")
    if dataset not in catalog:
        names = [str(name) for name in catalog]
        # YAML reads a name such as 2024 or null as a number or as nothing.
        no_text = [name for name in catalog if not isinstance(name, str)]
        quotes = (
            f"; there, the name that YAML reads as {no_text[0]!r} needs quotes" if no_text else ""
        )
        raise PipelineError(
            f"{PARAMS_FILE}: dataset: expected an entry of {path.as_posix()} ({', '.join(names)});"
            f" found {dataset!r}{nearest(dataset, names)}{quotes}"
        )
    if not is_valid_name(dataset):
        raise PipelineError(
            f"{path.as_posix()}: {dataset}: expected a name of letters, digits, _ and -"
        )
    return check_entry(dataset, catalog[dataset], path.as_posix())


def read_manifest(path: Path) -> list[dict[str, Any]]:
    """Read a list of files, a CSV table with the columns name, bytes and sha256.

    Returns:
        the values of `RawFile`, for each file.

    Raises:
        PipelineError: no such table, other columns, or a line that breaks the schema.
    """
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (FileNotFoundError, UnicodeDecodeError):
        raise PipelineError(f"{path.as_posix()}: expected a table with a file in a line") from None
    columns = list(RawFile.model_fields)
    rows = csv.reader(lines)
    if (found := next(rows, [])) != columns:
        raise PipelineError(
            f"{path.as_posix()}: expected the columns {', '.join(columns)}; found"
            f" {', '.join(found) or 'none'}"
        )
    files = []
    for number, row in enumerate(rows, start=2):
        values: dict[str, Any] = dict(zip(columns, row, strict=False))
        if values.get("bytes", "").isdecimal():
            values["bytes"] = int(values["bytes"])
        check(RawFile, values, f"{path.as_posix()}: line {number}")
        files.append(values)
    return files


def write_manifest(path: Path, files: Iterable[RawFile]) -> None:
    """Write a list of files, which `read_manifest` reads."""
    write_csv(path, list(RawFile.model_fields), [(f.name, f.bytes, f.sha256) for f in files])


def check_manifest(entry: Entry, raw: Path) -> None:
    """Check that the list that `fetch` wrote is the list of an entry that is read in place.

    DVC records the fetched list as the input of `preprocess`.

    Raises:
        PipelineError: it is another one.
    """
    if not isinstance(entry, DownloadEntry) or not entry.in_place:
        return
    path = raw / MANIFEST_NAME
    if not path.exists() or read_manifest(path) != [file.model_dump() for file in entry.files]:
        raise PipelineError(
            f"{path.as_posix()}: not the list of files in the catalog; run `dvc repro fetch`"
        )


def is_valid_name(dataset: str) -> bool:
    """Return whether a dataset may have this name; DVC reads a dot as a separator of keys."""
    return re.fullmatch(r"\w[\w -]*", dataset) is not None


def check_entry(dataset: str, entry: Any, where: str) -> Entry:
    """Check the entry of one dataset; `where` names the catalog in an error.

    Raises:
        PipelineError: the entry breaks the schema.
    """
    described = entry.get("format") if isinstance(entry, dict) else None
    kind = described.get("kind") if isinstance(described, dict) else None
    if kind not in FORMATS:
        raise PipelineError(
            f"{where}: {dataset}.format.kind: expected one of {', '.join(FORMATS)};"
            f" found {kind!r}{nearest(kind, list(FORMATS))}"
        )
    schema: Any = FORMATS[kind]
    if "in_place" in entry:
        raise PipelineError(
            f"{where}: {dataset}.in_place: unknown key; write it into files: {{in_place: ...}}"
        )
    if isinstance(entry.get("files"), dict) and list(entry["files"]) == ["in_place"]:
        entry = {**entry, "files": entry["files"]["in_place"], "in_place": True}
    manifest = LOCAL / dataset / MANIFEST_NAME
    if entry.get("files") == manifest.as_posix():
        entry = {**entry, "files": read_manifest(manifest)}
    if not isinstance(entry.get("files"), str):
        downloaded: Entry = check(DownloadEntry[schema], entry, where, prefix=f"{dataset}.")
        return downloaded
    if not schema.reads_local_folder:
        raise PipelineError(
            f"{where}: {dataset}.files: expected a list of files, because the format {kind} does"
            f" not read folders; found {entry['files']!r}"
        )
    folder = (LOCAL / dataset).as_posix()
    if entry["files"].rstrip("/") != folder:
        raise PipelineError(
            f"{where}: {dataset}.files: expected {folder}, because your own folder has the name"
            f" of its dataset, or {folder}/{MANIFEST_NAME}; found {entry['files']!r}; rename the"
            " folder, or the entry"
        )
    local: Entry = check(LocalEntry[schema], entry, where, prefix=f"{dataset}.")
    return local
