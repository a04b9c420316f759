"""Check a person's folder of photographs: its classes, its splits, and which files are images.

Only the beginning of each file is read, so that thousands of photographs take seconds. The stage
`preprocess` finds files that are damaged after their beginning.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from imgpipe.archives.folders import find_items
from imgpipe.archives.members import MEMBER_LIMIT_BYTES, check_name
from imgpipe.console.messages import format_bytes, format_count
from imgpipe.console.progress import ProgressBar
from imgpipe.core.errors import PipelineError, UnreadableImageError
from imgpipe.preprocessing.decoding import (
    FORMAT_OF_SUFFIX,
    find_format,
    open_image,
)
from imgpipe.preprocessing.raw_datasets.image_folder import SPLIT_OF_NAME
from imgpipe.preprocessing.splits import SPLITS

LEAST_IMAGES = 5
"""Least number of images of a class, without those in folders named validation and test."""

_HEADER_BYTES = 1 << 18  # holds the headers of nearly all files; the other files are read whole
_SHOWN = 10  # files of a kind in the report
_LAYOUT = "expected a folder for each class, such as cats/1.jpg, cats/2.jpg and dogs/1.jpg"


@dataclass(frozen=True)
class Survey:
    """The content of a folder of photographs."""

    top: Path
    """The folder that holds the folders of the splits, or of the classes."""
    splits: Mapping[str, str] | None
    """The folder of each official split, by the names in `SPLITS`; None without such folders."""
    images: Mapping[str, tuple[int, int]]
    """Width and height in pixels of each readable image, by its name below `top`."""
    unreadable: Mapping[str, str]
    """The reason for each unreadable file in the class folders, by its name below `top`."""
    misnamed: Mapping[str, str]
    """The format of each image whose name has the ending of another format, or no known ending."""
    unused: int
    """Number of files outside the class folders."""
    size_bytes: int
    """Size of the files of all images."""
    counts: Mapping[str, Mapping[str, int]]
    """Number of images, by class and split; the only key is "images" if there are no splits."""

    def describe(self) -> Iterator[str]:
        """Yield the lines that report the survey."""
        images = format_count(len(self.images), "image")
        classes = format_count(len(self.counts), "class", "classes")
        yield f"{self.top.as_posix()}: {images} in {classes}"
        for name, counts in self.counts.items():
            shown = (
                f"{count:,} {split}" if self.splits else format_count(count, "image")
                for split, count in counts.items()
            )
            yield f"  {name}: {', '.join(shown)}"
        sizes = sorted(self.images.values(), key=lambda size: size[0] * size[1])
        smallest, largest = (f"{width} x {height}" for width, height in (sizes[0], sizes[-1]))
        yield (
            f"  {format_bytes(self.size_bytes)}, from {smallest} to {largest} pixels"
            " (width x height)"
        )
        if self.misnamed:
            count = format_count(len(self.misnamed), "image")
            yield f"  used, by their content: {count} with the ending of another format"
            yield from _list_some(self.misnamed)
        if self.unused:
            yield f"  not used: {format_count(self.unused, 'file')} outside the class folders"
        if self.unreadable:
            yield f"  not used: {format_count(len(self.unreadable), 'unreadable file')}"
            yield from _list_some(self.unreadable)


def _list_some(notes: Mapping[str, str]) -> Iterator[str]:
    """Yield a line for each of the first names with its note, and how many more there are."""
    for name, note in list(notes.items())[:_SHOWN]:
        yield f"    {name}: {note}"
    if len(notes) > _SHOWN:
        yield f"    and {len(notes) - _SHOWN:,} more"


def survey_folder(folder: Path) -> Survey:
    """Check a folder that holds a folder for each class, or a folder for each split with those.

    Archives often unpack to one folder around all others. Such an outer folder is skipped.

    Raises:
        PipelineError: the layout is different, there are fewer than two classes, a class has too
            few images, or the stages refuse a name or a link.
    """
    paths = {name: folder / name for name, *_ in sorted(find_items(folder))}
    inner = _find_top([name for name in paths if name.endswith("/")], paths)
    top = folder / inner
    shown = top.as_posix()
    names = [name.removeprefix(inner) for name in paths if name.startswith(inner) and name != inner]
    for name in names:
        if check_name(name, shown) != name:
            raise PipelineError(f"{shown}: {name!r}: the name has a backslash; rename the file")
    splits = _find_splits(names, shown)
    places = {split: f"{name}/" for split, name in splits.items()} if splits else {"images": ""}
    classes = _find_classes(names, places.values(), shown)
    counts = {name: dict.fromkeys(places, 0) for name in classes}
    images: dict[str, tuple[int, int]] = {}
    unreadable: dict[str, str] = {}
    misnamed: dict[str, str] = {}
    files = [name for name in names if not name.endswith("/")]
    with ProgressBar("check", len(files), "file") as bar:
        for split, place in places.items():
            for name in (name for name in files if name.startswith(place)):
                class_name, slash, _ = name.removeprefix(place).partition("/")
                if not slash:
                    continue
                bar.update()
                try:
                    images[name], file_format = _read_header(paths[inner + name])
                except UnreadableImageError as error:
                    unreadable[name] = str(error)
                    continue
                counts[class_name][split] += 1
                if file_format != FORMAT_OF_SUFFIX.get(PurePosixPath(name).suffix.lower()):
                    misnamed[name] = file_format
    _check_counts(counts, places, unreadable, shown)
    return Survey(
        top=top,
        splits=splits,
        images=images,
        unreadable=unreadable,
        misnamed=misnamed,
        unused=sum(not name.endswith("/") for name in paths) - len(images) - len(unreadable),
        size_bytes=sum(paths[inner + name].stat().st_size for name in images),
        counts=counts,
    )


def _find_top(folders: Sequence[str], names: Iterable[str]) -> str:
    """Return the folder, with "/" at its end, that holds the classes or splits; "" for the top."""
    files = [name for name in names if not name.endswith("/")]
    top = ""
    while len(outer := _parts_below(top, folders)) == 1:
        inner = f"{top}{outer[0]}/"
        within = len(_parts_below(inner, folders))
        has_files = any(name.startswith(inner) and "/" not in name[len(inner) :] for name in files)
        if within == 0 or (within == 1 and has_files):  # a class, not a folder of classes
            break
        top = inner
    return top


def _find_splits(names: Iterable[str], shown: str) -> dict[str, str] | None:
    """Return the folder of each official split; None if no two folders are named like splits."""
    folders = _parts_below("", [name for name in names if name.endswith("/")])
    named = {name: SPLIT_OF_NAME[name.lower()] for name in folders if name.lower() in SPLIT_OF_NAME}
    found = list(named.values())
    if len(set(found)) < 2:
        return None
    problem = None
    if others := [name for name in folders if name not in named]:
        problem = f"the folder {others[0]!r} does not; move that folder, or rename the others"
    elif twice := [split for split in SPLITS if found.count(split) > 1]:
        problem = f"two of these folders mean {twice[0]}; merge the two"
    elif "train" not in found:
        problem = "expected a folder named train; rename one"
    if problem:
        raise PipelineError(f"{shown}: the folders {', '.join(named)} look like splits; {problem}")
    return {split: name for split in SPLITS for name in named if named[name] == split}


def _find_classes(names: Iterable[str], places: Iterable[str], shown: str) -> list[str]:
    """Return the names of the classes, sorted: they are folders in each of some places."""
    folders = [name for name in names if name.endswith("/")]
    found = {place: _parts_below(place, folders) for place in places}
    classes = sorted(set().union(*found.values()))
    for place, present in found.items():
        where = f"{shown}/{place}".removesuffix("/")
        if not present:
            count = sum(name.startswith(place) and not name.endswith("/") for name in names)
            raise PipelineError(f"{where}: found {count} files and no folder; {_LAYOUT}")
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
    unreadable: Mapping[str, str],
    shown: str,
) -> None:
    for class_name, of_splits in counts.items():
        for split, count in of_splits.items():
            least = 1 if split in ("validation", "test") else LEAST_IMAGES
            if count >= least:
                continue
            folder = f"{places[split]}{class_name}/"
            bad = [f"{name}: {why}" for name, why in unreadable.items() if name.startswith(folder)]
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
        UnreadableImageError: as `open_image`; or the file cannot be read, or is too large.
    """
    try:
        size_bytes = path.stat().st_size
        if size_bytes > MEMBER_LIMIT_BYTES:
            raise UnreadableImageError(f"more than the limit of {MEMBER_LIMIT_BYTES} bytes")
        with path.open("rb") as stream:
            start = stream.read(_HEADER_BYTES)
            file_format = find_format(start) or ""
            try:
                return open_image(start).size, file_format
            except UnreadableImageError:
                if size_bytes <= _HEADER_BYTES or not file_format:
                    raise
            return open_image(start + stream.read()).size, file_format
    except OSError as error:
        raise UnreadableImageError(f"cannot be read: {error.strerror}") from None
