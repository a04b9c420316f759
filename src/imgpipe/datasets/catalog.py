"""`data/catalog.yaml`: the datasets that the pipeline knows."""

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from imgpipe.core.errors import PipelineError
from imgpipe.core.schema import Section, check, nearest
from imgpipe.core.yaml_file import read_yaml
from imgpipe.settings.params import PARAMS_FILE

CATALOG_FILE = Path("data/catalog.yaml")
LOCAL = Path("data/local")
UNPUBLISHED = "unpublished"

# A plain name: no separator, no "..", nothing that could lead out of the folder it is put in.
FileName = Annotated[str, Field(pattern=r"^[A-Za-z0-9_][A-Za-z0-9_.-]*$")]
# Names with "/" between them, none of which begins with a dot.
FolderPath = Annotated[str, Field(pattern=r"^[^/\\.][^/\\]*(/[^/\\.][^/\\]*)*$")]
LocalFolder = Annotated[str, Field(pattern=rf"^{LOCAL.as_posix()}/[^/\\.][^/\\]*/?$")]
Classes = Annotated[list[str], Field(min_length=2)]
ImageShape = Annotated[list[Annotated[int, Field(ge=1)]], Field(min_length=3, max_length=3)]


class RawFile(Section):
    """One file as the dataset's publisher offers it."""

    name: FileName
    bytes: Annotated[int, Field(ge=1)]
    sha256: Annotated[str, Field(pattern=f"^([0-9a-f]{{64}}|{UNPUBLISHED})$")]


class Format(Section):
    """What every format says of its classes."""

    classes: Classes | None

    @model_validator(mode="after")
    def _classes_are_distinct(self) -> "Format":
        _check_distinct("classes", self.classes or [])
        return self


class DigitsFormat(Format):
    """scikit-learn's `digits.csv.gz`; there are no official splits."""

    kind: Literal["digits"]
    image_shape: ImageShape
    classes: Classes


class IdxSplit(Section):
    """The two IDX archives of one split."""

    images: FileName
    labels: FileName


class IdxSplits(Section):
    """The official splits of an IDX dataset."""

    train: IdxSplit
    test: IdxSplit


class IdxFormat(Format):
    """Gzipped IDX archives, the format of MNIST and its kin."""

    kind: Literal["idx"]
    image_shape: ImageShape
    classes: Classes
    splits: IdxSplits


class FolderSplits(Section):
    """The folder of each official split; a split that is not named is taken from the others."""

    train: FolderPath
    validation: FolderPath | None = None
    test: FolderPath | None = None


class ImageFolderFormat(Format):
    """Image files, in a folder for each class, in a folder for each official split if any."""

    kind: Literal["image_folder"]
    root: FolderPath | None = None
    """Where the folders of the splits, or of the classes, are; the top if it is not said."""
    classes: Classes | None = None
    """Their folders, in the order of the labels; all there are, sorted, if it is not said."""
    splits: FolderSplits | None = None


class DownloadEntry(Section):
    """What the catalog says of a dataset that its publisher offers as files."""

    title: str
    licence: str
    citation: str
    urls: list[str]
    files: Annotated[list[RawFile], Field(min_length=1)]

    @model_validator(mode="after")
    def _names_are_distinct(self) -> "DownloadEntry":
        _check_distinct("files", [file.name for file in self.files])
        return self


class DigitsEntry(DownloadEntry):
    """An entry of format `digits`."""

    format: DigitsFormat


class IdxEntry(DownloadEntry):
    """An entry of format `idx`."""

    format: IdxFormat

    @model_validator(mode="after")
    def _splits_name_files(self) -> "IdxEntry":
        names = [file.name for file in self.files]
        for split in ("train", "test"):
            for part in ("images", "labels"):
                name = getattr(getattr(self.format.splits, split), part)
                if name not in names:
                    raise ValueError(
                        f"format.splits.{split}.{part}: expected one of the entry's files;"
                        f" found {name!r}{nearest(name, names)}"
                    )
        return self


class ImageArchiveEntry(DownloadEntry):
    """Image files in one zip or tar archive."""

    files: Annotated[list[RawFile], Field(min_length=1, max_length=1)]
    format: ImageFolderFormat


class LocalImagesEntry(Section):
    """A folder of image files on this machine."""

    title: str
    licence: str = ""
    citation: str = ""
    files: LocalFolder
    format: ImageFolderFormat

    @property
    def archive_name(self) -> str:
        """Name of the archive that `fetch` makes of the folder."""
        return f"{Path(self.files).name}.zip"


Entry = DigitsEntry | IdxEntry | ImageArchiveEntry | LocalImagesEntry


def _check_distinct(key: str, names: list[str]) -> None:
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise ValueError(f"{key}: expected distinct names; found {twice[0]!r} twice")


_ENTRY_OF_KIND: dict[str, type[DigitsEntry] | type[IdxEntry] | type[ImageArchiveEntry]] = {
    "digits": DigitsEntry,
    "idx": IdxEntry,
    "image_folder": ImageArchiveEntry,
}


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
            f" ({', '.join(catalog)}); found {dataset!r}{nearest(dataset, list(catalog))}"
        )
    entry: Any = catalog[dataset]
    reading = entry.get("format") if isinstance(entry, dict) else None
    kind = reading.get("kind") if isinstance(reading, dict) else None
    if kind not in _ENTRY_OF_KIND:
        raise PipelineError(
            f"{path.as_posix()}: {dataset}.format.kind: expected one of"
            f" {', '.join(_ENTRY_OF_KIND)}; found {kind!r}{nearest(kind, list(_ENTRY_OF_KIND))}"
        )
    model: Any = _ENTRY_OF_KIND[kind]
    if kind == "image_folder" and isinstance(entry.get("files"), str):
        model = LocalImagesEntry
    checked: Entry = check(model, entry, path.as_posix(), prefix=f"{dataset}.")
    return checked
