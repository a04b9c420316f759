"""`data/catalog.yaml`: the datasets that the pipeline knows."""

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from imgpipe.errors import PipelineError
from imgpipe.params import PARAMS_FILE, Section, check, nearest, read_yaml

CATALOG_FILE = Path("data/catalog.yaml")

# A plain name: no separator, no "..", nothing that could lead out of the folder it is put in.
FileName = Annotated[str, Field(pattern=r"^[A-Za-z0-9_][A-Za-z0-9_.-]*$")]


class RawFile(Section):
    """One file as the dataset's publisher offers it."""

    name: FileName
    bytes: Annotated[int, Field(ge=1)]
    sha256: Annotated[str, Field(pattern="^[0-9a-f]{64}$")]


class Entry(Section):
    """What every entry of the catalog says."""

    title: str
    licence: str
    citation: str
    image_shape: Annotated[list[Annotated[int, Field(ge=1)]], Field(min_length=3, max_length=3)]
    classes: Annotated[list[str], Field(min_length=2)]
    urls: list[str]
    files: Annotated[list[RawFile], Field(min_length=1)]

    @model_validator(mode="after")
    def _names_are_distinct(self) -> "Entry":
        for key, names in (
            ("classes", self.classes),
            ("files", [file.name for file in self.files]),
        ):
            twice = sorted({name for name in names if names.count(name) > 1})
            if twice:
                raise ValueError(f"{key}: expected distinct names; found {twice[0]!r} twice")
        return self


class NoSplits(Section):
    """The dataset has no official splits."""


class DigitsEntry(Entry):
    """scikit-learn's `digits.csv.gz`."""

    kind: Literal["digits"]
    splits: NoSplits


class IdxSplit(Section):
    """The two IDX archives of one split."""

    images: FileName
    labels: FileName


class IdxSplits(Section):
    """The official splits of an IDX dataset."""

    train: IdxSplit
    test: IdxSplit


class IdxEntry(Entry):
    """Gzipped IDX archives, the format of MNIST and its kin."""

    kind: Literal["idx"]
    splits: IdxSplits

    @model_validator(mode="after")
    def _splits_name_files(self) -> "IdxEntry":
        names = [file.name for file in self.files]
        for split in ("train", "test"):
            for part in ("images", "labels"):
                name = getattr(getattr(self.splits, split), part)
                if name not in names:
                    raise ValueError(
                        f"splits.{split}.{part}: expected one of the entry's files;"
                        f" found {name!r}{nearest(name, names)}"
                    )
        return self


_ENTRY_OF_KIND: dict[str, type[DigitsEntry] | type[IdxEntry]] = {
    "digits": DigitsEntry,
    "idx": IdxEntry,
}


def load_entry(dataset: str, path: Path = CATALOG_FILE) -> DigitsEntry | IdxEntry:
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
    kind = entry.get("kind") if isinstance(entry, dict) else None
    if kind not in _ENTRY_OF_KIND:
        raise PipelineError(
            f"{path.as_posix()}: {dataset}.kind: expected one of {', '.join(_ENTRY_OF_KIND)};"
            f" found {kind!r}{nearest(kind, list(_ENTRY_OF_KIND))}"
        )
    return check(_ENTRY_OF_KIND[kind], entry, path.as_posix(), prefix=f"{dataset}.")
