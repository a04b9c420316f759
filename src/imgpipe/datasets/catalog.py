"""`data/catalog.yaml`: the datasets that the pipeline knows."""

import re
from pathlib import Path
from typing import Annotated, Any, Generic, TypeVar

from pydantic import Field, model_validator

from imgpipe.core.errors import PipelineError
from imgpipe.core.schema import Section, check, nearest
from imgpipe.core.yaml_file import read_yaml
from imgpipe.datasets.formats import FORMATS, FileName, Format, check_distinct
from imgpipe.settings.params import PARAMS_FILE

CATALOG_FILE = Path("data/catalog.yaml")
LOCAL = Path("data/local")
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
    licence: str
    citation: str
    urls: list[str]
    files: Annotated[list[RawFile], Field(min_length=1)]
    format: FormatT

    @model_validator(mode="after")
    def _files_fit_the_format(self) -> "DownloadEntry[FormatT]":
        names = [file.name for file in self.files]
        check_distinct("files", names)
        self.format.check_files(names)
        return self

    @property
    def archive_names(self) -> list[str]:
        """Names of the files in `data/raw`."""
        return [file.name for file in self.files]

    @property
    def identity_prefixes(self) -> list[str]:
        """For each archive: the part of an image's identity before the name of the member."""
        return [f"{name}#" for name in self.archive_names]

    def show_archives(self, raw: Path) -> str:
        """Return the paths of the archives for error messages; `raw` is their folder."""
        return ", ".join((raw / name).as_posix() for name in self.archive_names)


class LocalEntry(Section, Generic[FormatT]):
    """The entry of the user's own folder of images, `data/local/<name of the dataset>`."""

    title: str
    licence: str = ""
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

    def show_archives(self, raw: Path) -> str:
        """Return the path of the folder, which the user knows, for error messages."""
        return self.folder.as_posix()


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
        raise PipelineError(
            f"{PARAMS_FILE}: dataset: expected an entry of {path.as_posix()}"
            f" ({', '.join(map(str, catalog))}); found {dataset!r}{nearest(dataset, list(catalog))}"
        )
    if not is_valid_name(dataset):
        raise PipelineError(
            f"{path.as_posix()}: {dataset}: expected a name of letters, digits, _ and -"
        )
    return check_entry(dataset, catalog[dataset], path.as_posix())


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
            f" of its dataset; found {entry['files']!r}; rename the folder, or the entry"
        )
    local: Entry = check(LocalEntry[schema], entry, where, prefix=f"{dataset}.")
    return local
