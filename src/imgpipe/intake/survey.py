"""Check a person's folder of photographs: its classes, its splits, and which files are images.

Only the beginning of each file is read, so that thousands of photographs take seconds. The stage
`preprocess` finds files that are damaged after their beginning.
"""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path, PurePosixPath

from imgpipe.archives.folders import describe_unreadable, find_items
from imgpipe.archives.members import MEMBER_LIMIT_BYTES
from imgpipe.console.messages import escape_unprintable, format_bytes, format_count, join_some
from imgpipe.console.progress import ProgressBar
from imgpipe.core.errors import PipelineError, UnreadableImageError
from imgpipe.intake.bit_depth import count_dark_images
from imgpipe.preprocessing.decoding import (
    FORMAT_OF_SUFFIX,
    START_BYTES,
    find_format,
    open_image,
)
from imgpipe.preprocessing.folder_levels import (
    Folder,
    check_class_names,
    check_classes,
    find_levels,
)
from imgpipe.preprocessing.image_files import NOT_AN_IMAGE, is_image_file

LEAST_IMAGES = 5
"""Least number of images of a class, without those in folders named validation and test."""

ALL = "images"
"""In the place of a split, if there are no splits."""

_HEADER_BYTES = 1 << 18  # holds the headers of nearly all files; the other files are read whole
_MAY_HAVE_16_BITS = (".png", ".tif", ".tiff", "PNG", "TIFF")  # endings, and formats by content
_SHOWN = 10  # files of a kind in the report
_LAYOUT = "expected a folder for each class, such as cats/1.jpg, cats/2.jpg and dogs/1.jpg"
_OTHER_LAYOUT = "; or a table, LABELS=labels.csv, or PATTERN=..., see docs/labels.md"


@dataclass(frozen=True)
class Survey:
    """The content of a folder of photographs."""

    top: Path
    """The folder that holds the folders of the splits, or of the classes."""
    splits: Mapping[str, str] | None
    """The folder of each official split, by the names in `SPLITS`; None without such folders."""
    files: Sequence[str]
    """All files below `top` but the ignored ones, by their names from there, as all names here."""
    images: Mapping[str, tuple[int, int]]
    """Width and height in pixels of each readable image."""
    unreadable: Mapping[str, str]
    """The reason for each unreadable image in the class folders."""
    misnamed: Mapping[str, str]
    """The format of each image whose name has the ending of another format, or no known ending."""
    not_images: Sequence[str]
    """The files in the class folders that are no images."""
    outside: Sequence[str]
    """The files outside the class folders, by their names in the whole folder."""
    ignored: int
    """Number of files and folders that are hidden, or left by a system or a program."""
    size_bytes: int
    """Size of the files of all images."""
    counts: Mapping[str, Mapping[str, int]]
    """Number of images, by class and split; the only split is `ALL` if there are none."""
    dark_images: int = 0
    """Number of images with 16 bits if none of these has a number above 4,095; otherwise 0."""
    labels: str = ""
    """A line about the labels, if there is no folder for each class."""
    has_groups: bool = False
    """Whether a table has groups of images."""
    outside_why: str = "outside the class folders"
    """Why the files `outside` are not used."""

    def describe(self) -> Iterator[str]:
        """Yield the lines that report the survey."""
        images = format_count(len(self.images), "image")
        classes = format_count(len(self.counts), "class", "classes")
        yield f"{show_path(self.top)}: {images} in {classes}"
        if self.labels:
            yield f"  {self.labels}"
        folders = {} if self.labels else self._find_folders()
        for name, counts in self.counts.items():
            shown = [
                format_count(count, "image") if split == ALL else f"{count:,} {split}"
                for split, count in counts.items()
            ]
            inside = folders.get(name, set())
            if len(inside) > 1 and "" not in inside:  # these may be the classes
                shown.append(f"all in its folders {join_some(sorted(inside), _SHOWN)}")
            yield f"  {name}: {', '.join(shown)}"
        sizes = sorted(self.images.values(), key=lambda size: size[0] * size[1])
        smallest, largest = (f"{width} x {height}" for width, height in (sizes[0], sizes[-1]))
        yield (
            f"  {format_bytes(self.size_bytes)}, from {smallest} to {largest} pixels"
            " (width x height)"
        )
        if self.dark_images:
            count = format_count(self.dark_images, "image")
            yield (
                f"  warning: nearly black: {count} with 16 bits, of which none goes above 4,095; if"
                " they have 12 bits, scale them, or set sBIT (PNG) or MaxSampleValue (TIFF)"
            )
        if self.misnamed:
            count = format_count(len(self.misnamed), "image")
            yield f"  used, by their content: {count} without the ending of the format"
            yield from _list_some([f"{name}: {note}" for name, note in self.misnamed.items()])
        for why, names in (
            (self.outside_why, self.outside),
            ("not an image", self.not_images),
        ):
            if names:
                yield f"  not used, {why}: {format_count(len(names), 'file')}"
                yield from _list_some(names)
        if self.ignored:
            yield f"  ignored: {self.ignored:,} hidden, or left by a system or a program"
        if self.unreadable:
            count = format_count(len(self.unreadable), "image")
            yield f"  unreadable: {count}; `preprocess` stops if the share exceeds max_bad_frac"
            yield from _list_some([f"{name}: {note}" for name, note in self.unreadable.items()])

    def _find_folders(self) -> Mapping[str, set[str]]:
        """Return the folders in each class that hold images; "" for images beside these."""
        places = [f"{folder}/" for folder in (self.splits or {}).values()] or [""]
        found = defaultdict[str, set[str]](set)
        for name in self.images:
            place = next(place for place in places if name.startswith(place))
            class_name, _, rest = name.removeprefix(place).partition("/")
            found[class_name].add(rest.partition("/")[0] if "/" in rest else "")
        return found


def _list_some(names: Sequence[str]) -> Iterator[str]:
    """Yield a line for each of the first names, and how many more there are."""
    for name in names[:_SHOWN]:
        yield f"    {name}"
    if len(names) > _SHOWN:
        yield f"    and {len(names) - _SHOWN:,} more"


def survey_folder(folder: Path) -> Survey:
    """Check a folder that holds a folder for each class, or a folder for each split with those.

    Archives often unpack to one folder around all others. Such an outer folder is skipped.

    Raises:
        PipelineError: the layout is different, there are fewer than two classes, a class has too
            few images, or the stages refuse a name or a link.
    """
    items = sorted(find_items(folder))
    paths = {item.name: folder / item.name for item in items if not item.is_ignored}
    tree = Folder(paths)
    levels = find_levels(tree, show_path(folder))
    top, splits = folder / levels.root, levels.splits
    shown = show_path(top)
    inner = f"{levels.root}/" if levels.root else ""
    names = [name.removeprefix(inner) for name in paths if name.startswith(inner) and name != inner]
    places = {split: f"{name}/" for split, name in splits.items()} if splits else {ALL: ""}
    classes = _find_classes(names, places.values(), shown)
    check_classes(tree, levels, show_path(folder))
    counts = {name: dict.fromkeys(places, 0) for name in classes}
    files = [name for name in names if not name.endswith("/")]
    found = inspect_files(
        {
            name: paths[inner + name]
            for place in places.values()
            for name in files
            if name.startswith(place) and "/" in name.removeprefix(place)
        }
    )
    for split, place in places.items():
        for name in found.images:
            if name.startswith(place):
                counts[name.removeprefix(place).partition("/")[0]][split] += 1
    problems = {**found.unreadable, **dict.fromkeys(found.not_images, NOT_AN_IMAGE)}
    _check_counts(counts, places, problems, shown)
    in_classes = {inner + name for name in (*found.images, *problems)}
    outside = [name for name in paths if not name.endswith("/") and name not in in_classes]
    for name in outside:
        _read(paths[name], 0)  # `fetch` would refuse a file that cannot be read
    return Survey(
        top=top,
        splits=splits,
        files=files,
        images=found.images,
        unreadable=found.unreadable,
        misnamed=found.misnamed,
        not_images=found.not_images,
        outside=outside,
        ignored=sum(item.is_ignored for item in items),
        size_bytes=found.size_bytes,
        counts=counts,
        dark_images=found.dark_images,
    )


@dataclass(frozen=True)
class FoundImages:
    """Which files are images, by their beginnings; the fields are as in `Survey`."""

    images: Mapping[str, tuple[int, int]]
    unreadable: Mapping[str, str]
    misnamed: Mapping[str, str]
    not_images: Sequence[str]
    size_bytes: int
    dark_images: int


def inspect_files(paths: Mapping[str, Path]) -> FoundImages:
    """Read the beginnings of files, given by their names."""
    images: dict[str, tuple[int, int]] = {}
    unreadable: dict[str, str] = {}
    misnamed: dict[str, str] = {}
    not_images: list[str] = []
    with ProgressBar("check", len(paths), "file") as bar:
        for name, path in paths.items():
            bar.update()
            if not is_image_file(name, partial(_read, path, START_BYTES)):
                not_images.append(name)
                continue
            try:
                images[name], file_format = _read_header(path)
            except UnreadableImageError as error:
                unreadable[name] = str(error)
                continue
            if file_format != FORMAT_OF_SUFFIX.get(PurePosixPath(name).suffix.lower()):
                misnamed[name] = file_format
    return FoundImages(
        images=images,
        unreadable=unreadable,
        misnamed=misnamed,
        not_images=not_images,
        size_bytes=sum(paths[name].stat().st_size for name in images),
        dark_images=count_dark_images(
            paths[name]
            for name in images
            if misnamed.get(name, PurePosixPath(name).suffix.lower()) in _MAY_HAVE_16_BITS
        ),
    )


def find_given_path(text: str) -> Path:
    """Return the path that a person gives: "~" at its beginning is a home folder."""
    try:
        return Path(text).expanduser()
    except RuntimeError:  # no user has this name, so "~" is a part of the name
        return Path(text)


def show_path(path: Path) -> str:
    return escape_unprintable(path.as_posix())


def _find_classes(names: Iterable[str], places: Iterable[str], shown: str) -> list[str]:
    """Return the names of the classes, sorted: they are folders in each of some places."""
    folders = [name for name in names if name.endswith("/")]
    found = {place: _parts_below(place, folders) for place in places}
    classes = sorted(set().union(*found.values()))
    check_class_names(classes, shown)
    for place, present in found.items():
        where = f"{shown}/{place}".removesuffix("/")
        if not present:
            count = sum(name.startswith(place) and not name.endswith("/") for name in names)
            unlabeled = "; move it away, if its images have no labels"
            other = unlabeled if len(found) > 1 else _OTHER_LAYOUT
            raise PipelineError(f"{where}: found {count} files and no folder; {_LAYOUT}{other}")
        if missing := sorted(set(classes) - set(present)):
            raise PipelineError(
                f"{where}: no folder for the class {missing[0]!r}; every split must have the same"
                " classes: rename or delete folders"
            )
    if len(classes) == 1:
        raise PipelineError(f"{shown}: only one class, {classes[0]!r}; {_LAYOUT}")
    return classes


def _check_counts(
    counts: Mapping[str, Mapping[str, int]],
    places: Mapping[str, str],
    problems: Mapping[str, str],
    shown: str,
) -> None:
    for class_name, of_splits in counts.items():
        for split, count in of_splits.items():
            least = 1 if split in ("validation", "test") else LEAST_IMAGES
            if count >= least:
                continue
            folder = f"{places[split]}{class_name}/"
            bad = [f"{name}: {why}" for name, why in problems.items() if name.startswith(folder)]
            also = f", and {len(bad)} files that cannot be read as images ({bad[0]})" if bad else ""
            raise PipelineError(
                f"{shown}: class {class_name!r} has {count} images in {folder}{also}; expected at"
                f" least {least}: add images, or remove the folder"
            )


def _parts_below(place: str, names: Iterable[str]) -> list[str]:
    """Return the first part of each name below a place, each once, in the order of the names."""
    below = (name.removeprefix(place) for name in names if name.startswith(place) and name != place)
    return list(dict.fromkeys(name.partition("/")[0] for name in below))


def _read_header(path: Path) -> tuple[tuple[int, int], str]:
    """Return width and height in pixels, and the format, from the beginning of an image file.

    Raises:
        UnreadableImageError: as `open_image`; or the file is too large.
        PipelineError: the file cannot be read at all.
    """
    start = _read(path, _HEADER_BYTES)
    size_bytes = path.stat().st_size
    if size_bytes > MEMBER_LIMIT_BYTES:
        raise UnreadableImageError(f"more than the limit of {MEMBER_LIMIT_BYTES} bytes")
    file_format = find_format(start) or ""
    try:
        return open_image(start).size, file_format
    except UnreadableImageError:
        if size_bytes <= _HEADER_BYTES or not file_format:
            raise
    return open_image(_read(path, size_bytes)).size, file_format


def _read(path: Path, size_bytes: int) -> bytes:
    """Return the first bytes of a file.

    Raises:
        PipelineError: the file cannot be read.
    """
    try:
        with path.open("rb") as stream:
            return stream.read(size_bytes)
    except OSError as error:
        raise describe_unreadable(path, error) from None
