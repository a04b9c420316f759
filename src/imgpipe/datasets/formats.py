"""The formats of raw datasets: the schema of `format` in an entry of the catalog, by its `kind`.

`imgpipe.preprocessing.raw_datasets` holds a reader of the same name for each of them. The schemas
are here, so that `fetch` finds a wrong entry before it downloads anything.
"""

from collections import Counter
from collections.abc import Sequence
from typing import Annotated, ClassVar, Literal

from pydantic import Field, model_validator

from imgpipe.core.schema import Pattern, Section, nearest

# A plain name: no separator, no "..", so that it cannot lead out of the folder of the file.
FileName = Annotated[str, Field(pattern=r"^[A-Za-z0-9_][A-Za-z0-9_.-]*$")]
# Names with "/" between them; none of them begins with a dot.
FolderPath = Annotated[str, Field(pattern=r"^[^/\\.][^/\\]*(/[^/\\.][^/\\]*)*$")]
Classes = Annotated[list[str], Field(min_length=2)]
ImageShape = Annotated[list[Annotated[int, Field(ge=1)]], Field(min_length=3, max_length=3)]


class Format(Section):
    """The keys that all formats have, and the rules that an entry of a format follows."""

    description: ClassVar[str]
    """One line for the documentation."""
    reads_local_folder: ClassVar[bool] = False
    """Whether `files` of the entry may be a folder of the user instead of files to download."""
    reads_in_place: ClassVar[bool] = False
    """Whether the files may stay at their address, where `preprocess` reads parts of them."""

    kind: str
    classes: Classes | None

    @model_validator(mode="after")
    def _classes_are_distinct(self) -> "Format":
        check_distinct("classes", self.classes or [])
        return self

    def check_files(self, names: Sequence[str]) -> None:
        """Check that the entry names the files that the format needs.

        Raises:
            ValueError: it does not; the message begins with the key in the entry.
        """


class DigitsFormat(Format):
    """The format `digits`."""

    description = "the file digits.csv.gz of scikit-learn; no official splits"

    kind: Literal["digits"]
    image_shape: ImageShape
    classes: Classes

    def check_files(self, names: Sequence[str]) -> None:
        """Check that there is one file."""
        if len(names) != 1:
            raise ValueError(f"files: expected one file; found {len(names)}: {', '.join(names)}")


class IdxSplit(Section):
    """The two IDX files of one split."""

    images: FileName
    labels: FileName


class IdxSplits(Section):
    """The official splits of an IDX dataset."""

    train: IdxSplit
    test: IdxSplit


class IdxFormat(Format):
    """The format `idx`."""

    description = "gzipped IDX files, as of MNIST: images and labels for each official split"

    kind: Literal["idx"]
    image_shape: ImageShape
    classes: Classes
    splits: IdxSplits

    def check_files(self, names: Sequence[str]) -> None:
        """Check that the entry has every file that `splits` names."""
        for split, parts in self.splits.model_dump().items():
            for part, name in parts.items():
                if name not in names:
                    raise ValueError(
                        f"format.splits.{split}.{part}: expected one of the entry's files;"
                        f" found {name!r}{nearest(name, names)}"
                    )


class FolderSplits(Section):
    """The folder of each official split; a split without a folder is taken from the others."""

    train: FolderPath
    validation: FolderPath | None = None
    test: FolderPath | None = None


class ImageFolderFormat(Format):
    """The format `image_folder`."""

    description = (
        "JPEG, PNG, WebP, TIFF, AVIF, HEIC (with the optional package pillow-heif), GIF and BMP"
        " files in zip or tar archives or in your own folder: a folder for each class, inside a"
        " folder for each official split, if any; or labels in a table or in the names of the files"
    )
    reads_local_folder = True
    reads_in_place = True

    kind: Literal["image_folder"]
    root: FolderPath | None = None
    """The folder that holds the folders of the splits, or of the classes; by default the top."""
    classes: Classes | None = None
    """The classes that are used, in the order of the labels; by default all, sorted by name."""
    splits: FolderSplits | None = None
    labels: FolderPath | None = None
    """The table of labels in `root`; without it and `label_pattern`, a class is a folder."""
    label_pattern: Pattern | None = None
    """For the whole name of a file without its ending; the group is the name of the class."""
    corrections: FolderPath | None = None
    """A table in `root` with other labels for some images."""

    @model_validator(mode="after")
    def _labels_are_in_one_place(self) -> "ImageFolderFormat":
        keys = [key for key in ("labels", "label_pattern", "splits") if getattr(self, key)]
        if len(keys) > 1:
            raise ValueError(f"{keys[0]}: cannot be combined with {keys[1]}; delete one of the two")
        return self

    @property
    def has_class_folders(self) -> bool:
        """Whether there is a folder for each class."""
        return self.labels is None and self.label_pattern is None


FORMATS: dict[str, type[Format]] = {
    "digits": DigitsFormat,
    "idx": IdxFormat,
    "image_folder": ImageFolderFormat,
}


def check_distinct(key: str, names: Sequence[str]) -> None:
    """Check that no name occurs twice.

    Raises:
        ValueError: one does; the message begins with the key.
    """
    twice = sorted(name for name, count in Counter(names).items() if count > 1)
    if twice:
        raise ValueError(f"{key}: expected distinct names; found {twice[0]!r} twice")
