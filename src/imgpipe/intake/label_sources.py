"""Where the labels of a person's photographs are, if there is no folder for each class."""

from argparse import ArgumentParser
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from imgpipe.archives.folders import describe_unreadable, is_litter
from imgpipe.console.messages import escape_unprintable, format_count
from imgpipe.core.errors import PipelineError
from imgpipe.core.schema import check_pattern
from imgpipe.intake.survey import find_given_path
from imgpipe.preprocessing.groups import NO_GROUP
from imgpipe.preprocessing.image_files import WITHOUT_MATCH, WITHOUT_ROW
from imgpipe.preprocessing.label_table import LabelTable
from imgpipe.preprocessing.labels import ImageLabels, label_by_pattern
from imgpipe.preprocessing.splits import Paths


@dataclass(frozen=True)
class LabelPattern:
    """Labels in the names of the files."""

    pattern: str
    reason = WITHOUT_MATCH
    """Why an image has no label."""

    @property
    def format(self) -> dict[str, str]:
        """The keys of `format` in the entry of the dataset."""
        return {"label_pattern": self.pattern}

    def label_images(self, paths: Paths, images: int, shown: str) -> ImageLabels:
        """Return the labels of images."""
        return label_by_pattern(self.pattern, paths, images, shown)

    def describe(self, found: ImageLabels) -> str:
        """Return a line about the labels that are found."""
        return f"labels: the part of the name that {self.pattern} has in parentheses"


@dataclass(frozen=True)
class LabelFile:
    """Labels in a table."""

    path: Path
    """The person's file."""
    name: str
    """Its path in the folder of the dataset."""
    content: bytes
    reason = WITHOUT_ROW

    @property
    def format(self) -> dict[str, str]:
        """The keys of `format` in the entry of the dataset."""
        return {"labels": self.name}

    def label_images(self, paths: Paths, images: int, shown: str) -> ImageLabels:
        """Return the labels of images."""
        return self._table.label_images(paths, images)

    def describe(self, found: ImageLabels) -> str:
        """Return a line about the columns of the table that are used."""
        columns = self._table.columns
        used = ", ".join(f"{kind} = {name!r}" for kind, name in columns.items())
        line = f"{_show(self.path)}: the columns {used}"
        if found.groups is None:
            return line
        groups = len(set(found.groups.tolist()) - {NO_GROUP})
        return (
            f"{line}; {format_count(groups, 'group')}: each stays in one split with"
            " `preprocess.groups: column`"
        )

    @cached_property
    def _table(self) -> LabelTable:
        return LabelTable(self.content, _show(self.path))


LabelSource = LabelPattern | LabelFile


def add_label_options(parser: ArgumentParser) -> None:
    """Add the options of a command that say where labels are."""
    parser.add_argument(
        "--labels", default="", metavar="TABLE", help="a CSV or TSV table: files and their classes"
    )
    parser.add_argument(
        "--pattern",
        default="",
        metavar="REGEX",
        help=r"for the names of files without endings, such as (.+)_\d+; in parentheses the class",
    )


def find_label_source(
    folder: Path, labels: str, pattern: str, *, is_in_place: bool
) -> LabelSource | None:
    """Return where the labels are; None if there is a folder for each class.

    Args:
        folder: the person's folder of photographs.
        labels: the path of a table, also from this folder; or "".
        pattern: a regular expression for the names of files, or "".
        is_in_place: whether no other file can be brought into the folder of the dataset.

    Raises:
        PipelineError: both are given, the pattern is not valid, there is no such table, or it
            cannot be brought into the folder of the dataset.
    """
    if labels and pattern:
        raise PipelineError("LABELS and PATTERN: expected one of the two; found both")
    if pattern:
        try:
            return LabelPattern(check_pattern(pattern))
        except ValueError as error:
            raise PipelineError(f"PATTERN: {error}") from None
    if not labels:
        return None
    given = find_given_path(labels)
    path = given if given.is_file() else folder / given
    if not path.is_file():
        raise PipelineError(f"LABELS: {_show(given)}: no such file")
    resolved, top = path.resolve(), folder.resolve()
    if resolved.is_relative_to(top):
        name = resolved.relative_to(top).as_posix()
    else:
        name = path.name
        if is_in_place or (top / name).exists():
            problem = "move it there" if is_in_place else f"there is another {name}; rename one"
            raise PipelineError(f"LABELS: {_show(path)}: not in {_show(folder)}: {problem}")
    if is_litter(name):
        raise PipelineError(
            f"LABELS: {_show(path)}: ignored, because it is hidden, or named as files that programs"
            " leave; rename it"
        )
    try:
        return LabelFile(path, name, path.read_bytes())
    except OSError as error:
        raise describe_unreadable(path, error) from None


def _show(path: Path) -> str:
    return escape_unprintable(path.as_posix())
