"""Which folders of a dataset are its classes: those at the top, or folders further inside.

Folders around all others, and folders of splits, look like classes. Their names and contents show
the difference. Folders that can be understood in two ways are refused, because a wrong level gives
a plausible accuracy. All functions use only names of members, so the decision is the same for a
person's folder, for zip and tar archives, and for any order of their members.
"""

import json
import re
import unicodedata
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain, zip_longest
from typing import Any

from imgpipe.console.messages import join_some
from imgpipe.core.errors import PipelineError
from imgpipe.preprocessing.image_files import has_image_ending
from imgpipe.preprocessing.splits import SPLITS

# The split that a folder holds, by its name in lower case without digits and the words below.
_SPLIT_OF_WORD = {
    "train": "train",
    "training": "train",
    "trainval": "train",
    "trn": "train",
    "dev": "validation",
    "development": "validation",
    "val": "validation",
    "valid": "validation",
    "validation": "validation",
    "test": "test",
    "testing": "test",
    "tst": "test",
}
# Test; or validation, if another folder is the test split.
_EVALUATION_WORDS = {"eval", "evaluation", "heldout", "holdout"}
# A capital letter begins a word, as in CatsTrain.
_WORD_OR_NUMBER = re.compile(r"[A-Z]?[^\W\d_A-Z]+|[A-Z]+|\d+")
_WORDS_WITHOUT_MEANING = re.compile(r"(?:data)?set|data|split|images?|imgs?|photos?|pictures?")

# Words in the names of folders that datasets for other purposes, such as object detection, have.
_IMAGE_WORDS = {"image", "images", "img", "imgs", "jpegimages"}
_DESCRIPTION_WORDS = {
    "annotation", "annotations", "bboxes", "boxes", "groundtruth", "gt", "label", "labels", "mask",
    "masks", "segmentation", "segmentations", "truth",
}  # fmt: skip

# A folder holds images if not nearly all of them are in the folders inside: a cover is no class.
_LEAST_SHARE = 0.1
_SHOWN_NAMES = 10
_BY_HAND = "in an entry of data/catalog.yaml (docs/photographs.md)"


class Folder:
    """A folder: the folders in it, and the number of images directly in it."""

    __slots__ = ("folders", "images")

    def __init__(self, names: Iterable[str] = ()) -> None:
        """Make a folder with some files and folders, named as for `add`."""
        self.folders: dict[str, Folder] = {}
        self.images = 0
        """Number of files directly in it whose name has the ending of an image."""
        for name in names:
            self.add(name)

    def add(self, name: str) -> None:
        """Add a file or a folder by its path from here, with "/" at the end of a folder."""
        *parents, file = name.split("/")
        folder = self
        for parent in parents:
            if parent not in folder.folders:
                folder.folders[parent] = Folder()
            folder = folder.folders[parent]
        folder.images += has_image_ending(file)

    def at(self, path: str) -> "Folder":
        """Return the folder at a path from here, "" for this one; an empty one if there is none."""
        folder = self
        for part in path.split("/") if path else ():
            folder = folder.folders.get(part, Folder())
        return folder

    def count_images(self) -> int:
        """Return the number of images in this folder and in all folders inside."""
        count, waiting = 0, [self]
        while waiting:
            folder = waiting.pop()
            count += folder.images
            waiting += folder.folders.values()
        return count


@dataclass(frozen=True)
class Levels:
    """Where the folders of the classes are."""

    root: str
    """The folder that holds the folders of the splits, or of the classes; "" for the top."""
    splits: Mapping[str, str] | None
    """The path from the root to the folder of each split; None if the classes are in the root."""

    def format_entry(self, classes: Sequence[str] = ()) -> str:
        """Return these levels, and the classes, as a line for an entry of the catalog."""
        root, splits = {"root": self.root}, {"splits": dict(self.splits or {})}
        values: dict[str, Any] = {"kind": "image_folder", **(root if self.root else {})}
        values |= (splits if self.splits else {}) | ({"classes": list(classes)} if classes else {})
        # JSON is YAML, too, and has quotes around names such as 2024 and null.
        return f"format: {json.dumps(values, ensure_ascii=False)}"


def find_levels(tree: Folder, shown: str) -> Levels:
    """Find the folder with the classes or splits; `shown` is the name of the tree in an error.

    Archives often unpack to one folder around all others, and to one around each split. Such outer
    folders are skipped.

    Raises:
        PipelineError: some folders look like splits, and others do not.
    """
    root = _skip_outer_folders(tree)
    top = tree.at(root)
    splits = _find_splits(top, root, _join(shown, root))
    if splits is None:
        return Levels(root, None)
    inner = {split: _skip_outer_folders(top.at(name)) for split, name in splits.items()}
    return Levels(root, {split: _join(name, inner[split]) for split, name in splits.items()})


def _skip_outer_folders(tree: Folder) -> str:
    """Return the path to the innermost folder around all others; "" if there is none."""
    path: list[str] = []
    while len(tree.folders) == 1:
        ((name, inner),) = tree.folders.items()
        within = len(inner.folders)
        if within == 0 or (within == 1 and inner.images):  # a class, not a folder of classes
            break
        path.append(name)
        tree = inner
    return "/".join(path)


def _find_splits(top: Folder, root: str, shown: str) -> dict[str, str] | None:
    """Return the folder of each official split; None if no two folders are named like splits."""
    split_of_folder = match_splits(sorted(top.folders))
    found = list(split_of_folder.values())
    if len(set(found)) < 2:
        return None
    folders = sorted(split_of_folder, key=lambda name: SPLITS.index(split_of_folder[name]))
    splits = {split_of_folder[name]: name for name in folders}
    problem = None
    if twice := [split for split in SPLITS if found.count(split) > 1]:
        problem = f"two of these folders mean {twice[0]}; merge the two"
    elif "train" not in found:
        problem = "expected a folder named train; rename one"
    elif others := sorted(top.folders.keys() - split_of_folder.keys()):
        problem = (
            f"the folder {others[0]!r} does not; move that folder, or rename the others; or leave"
            f" it out {_BY_HAND}: {Levels(root, splits).format_entry()}"
        )
    if problem:
        names = ", ".join(split_of_folder)
        raise PipelineError(f"{shown}: the folders {names} look like splits; {problem}")
    return splits


def match_splits(folders: Collection[str]) -> dict[str, str]:
    """Return the split of each folder that is named like one.

    Words that all names have do not count: pets_train and pets_test are splits. A folder "eval" or
    "holdout" is the test split; beside a folder of the test split it is the validation split.
    """
    words = {name: _list_words(name) for name in folders}
    common = set.intersection(*map(set, words.values())) if len(words) > 1 else set()
    common -= _SPLIT_OF_WORD.keys() | _EVALUATION_WORDS
    meanings = {
        name: _WORDS_WITHOUT_MEANING.sub("", "".join(word for word in parts if word not in common))
        for name, parts in words.items()
    }
    has_test = any(_SPLIT_OF_WORD.get(meaning) == "test" for meaning in meanings.values())
    evaluation = dict.fromkeys(_EVALUATION_WORDS, "validation" if has_test else "test")
    known = _SPLIT_OF_WORD | evaluation
    return {name: known[meaning] for name, meaning in meanings.items() if meaning in known}


def check_class_names(names: Iterable[str], shown: str, kind: str = "folders") -> None:
    """Check that no two names of classes, which are of a kind, look the same when printed.

    Raises:
        PipelineError: two names differ only in capital letters, in how accents are composed, or in
            characters that are not visible.
    """
    known: dict[str, str] = {}
    for name in sorted(names):
        other = known.setdefault(normalize_name(name), name)
        if other != name:
            raise PipelineError(
                f"{shown}: the {kind} {other!a} and {name!a} differ only in capital"
                " letters, accents or spaces, so that they look like one class; merge the two, or"
                f" rename one; or list them in format.classes {_BY_HAND}"
            )


def normalize_name(name: str) -> str:
    """Return what a person sees of a name: no case, composed accents, no invisible characters."""
    composed = unicodedata.normalize("NFKC", name).casefold()
    visible = (letter for letter in composed if unicodedata.category(letter) not in ("Cf", "Cc"))
    return " ".join("".join(visible).split())


def check_levels(tree: Folder, given: Levels, shown: str) -> None:
    """Check that the classes are at the levels that an entry of the catalog gives.

    Raises:
        PipelineError: a person's folder with the same content would be read in another way; the
            line has what to write into the entry. Or as `check_classes`.
    """
    base = tree.at(given.root)
    if given.splits is None:
        found = find_levels(base, _join(shown, given.root))
        found = Levels(_join(given.root, found.root), found.splits)
    else:
        splits = {
            split: _join(name, _skip_outer_folders(base.at(name)))
            for split, name in given.splits.items()
        }
        found = Levels(given.root, splits)
    if found != given:
        names = sorted(base.folders)
        problem, as_classes = (
            f"found only {_list(names)} there, around the folders of the classes",
            "",
        )
        if found.splits and not given.splits and found.root == given.root:
            problem = f"the folders {_list(names)} look like splits, not classes"
            as_classes = f"; or, if they are the classes: {given.format_entry(names)}"
        raise PipelineError(
            f"{_join(shown, given.root)}: {problem}; write {_BY_HAND}: {found.format_entry()}"
            f"{as_classes}"
        )
    check_classes(tree, given, shown)


def check_classes(tree: Folder, levels: Levels, shown: str) -> None:
    """Check that the folders at a level are classes, as far as names can say.

    Folders that hold images are classes. If all of them hold only folders, or most of them and the
    same names occur in several of them, then the folders inside may be the classes, too.

    Raises:
        PipelineError: some folders may be splits, copies or parts of the data, or describe images;
            the line has what to write into an entry of the catalog.
    """
    top = tree.at(levels.root)
    places = [top.at(folder) for folder in (levels.splits or {"": ""}).values()]
    names = sorted(set(chain.from_iterable(place.folders for place in places)))
    classes = {name: _Content([place.at(name) for place in places]) for name in names}
    doubt = (
        _find_descriptions(classes, levels)
        or _find_copy(classes)
        or _find_single_split(classes, levels)
        or _find_split_classes(classes)
        or _find_container(classes, levels)
        or _find_repeated_names(classes, levels)
        or _find_parts(classes)
        or _find_classes_inside(classes)
    )
    if doubt:
        entries = [f"if {_list(names)} are the classes, {levels.format_entry(names)}"]
        if doubt.other and not levels.splits:
            entries.insert(0, f"{doubt.case}, {doubt.other.format_entry()}")
        raise PipelineError(
            f"{_join(shown, levels.root)}: {doubt.problem}; or write {_BY_HAND}:"
            f" {'; '.join(entries)}"
        )


@dataclass(frozen=True)
class _Doubt:
    """Why folders may be no classes, and what to do."""

    problem: str
    case: str = ""
    other: Levels | None = None
    """The levels in this other case, if an entry can express them."""


class _Content:
    """What the folders of a supposed class hold, one folder for each split."""

    def __init__(self, folders: Sequence[Folder]) -> None:
        direct = sum(folder.images for folder in folders)
        total = sum(folder.count_images() for folder in folders)
        self.has_images = direct > 0 and direct >= _LEAST_SHARE * total
        self.folders = sorted(set(chain.from_iterable(folder.folders for folder in folders)))
        self.parts = max(len(folder.at(_skip_outer_folders(folder)).folders) for folder in folders)
        """Number of folders in it; or in the folder around these, if there is one."""
        self.names_by_depth = list(_list_names_by_depth(folders))
        self.names = set(chain.from_iterable(self.names_by_depth))
        self.branches = list(_list_branches(folders))
        """The names in each folder above the images that holds at least two folders."""


def _list_branches(folders: Sequence[Folder]) -> Iterator[list[str]]:
    waiting = [folders]  # each item is one folder, in all splits
    while waiting:
        places = waiting.pop()
        direct = sum(folder.images for folder in places)
        if direct and direct >= _LEAST_SHARE * sum(folder.count_images() for folder in places):
            continue
        names = sorted(set(chain.from_iterable(folder.folders for folder in places)))
        if len(names) > 1:
            yield names
        waiting += [[folder.at(name) for folder in places] for name in names]


def _list_names_by_depth(folders: Sequence[Folder]) -> Iterator[set[str]]:
    """Yield the normalized names of the folders in some folders, then of those in these, etc."""
    inside = [item for folder in folders for item in folder.folders.items()]
    while inside:
        yield {normalize_name(name) for name, _ in inside}
        inside = [item for _, folder in inside for item in folder.folders.items()]


def _find_descriptions(classes: Mapping[str, _Content], levels: Levels) -> _Doubt | None:
    words = {name: set(_list_words(name)) for name in classes}
    kinds = [_IMAGE_WORDS, _DESCRIPTION_WORDS]
    images, descriptions = (
        [name for name in classes if words[name] & kind and not words[name] & other]
        for kind, other in (kinds, reversed(kinds))
    )
    if not images or not descriptions:
        return None
    return _Doubt(
        f"the images are in {images[0]!r}, and {descriptions[0]!r} describes them, as for object"
        f" detection; a folder for each class is needed; if {images[0]!r} holds such folders, give"
        " its path",
        "if it holds them",
        Levels(_join(levels.root, images[0]), None),
    )


def _find_copy(classes: Mapping[str, _Content]) -> _Doubt | None:
    """Find a folder that holds other folders again, as a split or a backup does."""
    normalized = {normalize_name(name): name for name in classes}
    for name, content in classes.items():
        again = sorted(content.names & (normalized.keys() - {normalize_name(name)}))
        if len(again) > content.has_images:  # an image shows that the folder is a class
            return _Doubt(
                f"the folder {name!r} holds folders with the names of folders beside it"
                f" ({_list(normalized[other] for other in again)}), as a split or a copy does;"
                " move it away"
            )
    return None


def _find_single_split(classes: Mapping[str, _Content], levels: Levels) -> _Doubt | None:
    for name, split in match_splits(classes).items():
        content = classes[name]
        if content.parts > 1 and not content.has_images:
            return _Doubt(
                f"the folder {name!r} is named like the split {split}, and holds only folders"
                f" ({_list(content.folders)}), but no other folder is named like a split; if"
                f" {name!r} holds the classes, give its path, or name the other splits, too",
                f"for only the images in {name!r}",
                Levels(_join(levels.root, name), None),
            )
        if split == "test":  # a class may be called "train" or "Val"
            return _Doubt(
                f"the folder {name!r} is named like the split {split}, and is beside folders that"
                " are not; move it away; or move the others into a folder train, and its images"
                " into folders of the classes"
            )
    return None


def _find_container(classes: Mapping[str, _Content], levels: Levels) -> _Doubt | None:
    """Find a folder such as "data" or "images" around classes, beside other folders."""
    for name, content in classes.items():
        words = "".join(_list_words(name))
        has_meaning = _WORDS_WITHOUT_MEANING.sub("", words) or not words
        if content.parts > 1 and not content.has_images and not has_meaning:
            return _Doubt(
                f"the folder {name!r} holds only folders ({_list(content.folders)}), and its name"
                " is none of a class; if it holds the classes, give its path",
                f"for only the images in {name!r}",
                Levels(_join(levels.root, name), None),
            )
    return None


def _find_split_classes(classes: Mapping[str, _Content]) -> _Doubt | None:
    """Find a class in a folder for each split, such as train_cats and test_cats."""
    folders: dict[tuple[str, ...], dict[str, str]] = {}  # by the other words, and by the split
    for name in classes:
        words = [word.casefold() for word in _WORD_OR_NUMBER.findall(name)]
        splits = [word for word in words if word in _SPLIT_OF_WORD.keys() | _EVALUATION_WORDS]
        if len(splits) != 1 or len(words) == 1:
            continue
        of_class = folders.setdefault(tuple(word for word in words if word not in splits), {})
        of_class.setdefault(_SPLIT_OF_WORD.get(splits[0], splits[0]), name)
        if len(of_class) > 1:
            return _Doubt(
                f"the folders {_list(sorted(of_class.values()))} are named like splits of one"
                " class; make the folders train and test, each with a folder for each class"
            )
    return None


def _find_repeated_names(classes: Mapping[str, _Content], levels: Levels) -> _Doubt | None:
    without_images = {name: content for name, content in classes.items() if not content.has_images}
    counts = Counter(chain.from_iterable(content.names for content in without_images.values()))
    repeated = {name for name, count in counts.items() if count > 1}
    found = [name for name, content in without_images.items() if content.names & repeated]
    # With one folder inside each, such as cats/photos and dogs/photos, these are not the classes.
    by_depth = zip_longest(*(classes[name].names_by_depth for name in found), fillvalue=set[str]())
    if 2 * len(found) < len(classes) or all(len(set().union(*names)) < 2 for names in by_depth):
        return None
    return _Doubt(
        f"the folders {_list(found)} hold only folders, and the same names occur in several of"
        f" them ({_list(sorted(repeated))}), so each of the two levels may be the classes; if"
        f" {_list(found)} are splits, name them train, validation and test",
        "if they are splits, for example",
        Levels(levels.root, dict(zip(("train", "test"), found, strict=False))),
    )


def _find_parts(classes: Mapping[str, _Content]) -> _Doubt | None:
    """Find folders that only divide the classes, each with other classes than the others."""
    contents = classes.values()
    if any(content.has_images for content in contents):
        return None
    if all(content.parts < 2 for content in contents):  # the two levels have the same classes
        return None
    inner = _list(sorted(set(chain.from_iterable(content.folders for content in contents))))
    return _Doubt(
        f"all of the folders {_list(classes)} hold only folders ({inner}), so each of the two"
        f" levels may be the classes; if {inner} are the classes, move them out of {_list(classes)}"
    )


def _find_classes_inside(classes: Mapping[str, _Content]) -> _Doubt | None:
    """Find a folder that may hold classes, if other folders hold images and so are classes.

    Inside a class, folders that differ only in numbers, such as years, are parts of the class.
    Folders with different words may be classes, and numbers may be classes if other classes are
    numbers.
    """
    of_images = [name for name, content in classes.items() if content.has_images]
    series = {_remove_numbers(name) for name in of_images}
    for name, content in classes.items():
        for inner in [] if content.has_images else content.branches:
            kinds = {_remove_numbers(folder) for folder in inner}
            if len(kinds) > 1 or kinds & series:
                return _Doubt(
                    f"the folder {name!r} holds only folders ({_list(inner)}), but other folders"
                    f" hold images ({_list(of_images)}), so the classes may be at different"
                    f" depths; if {_list(inner)} are classes, move them out of {name!r}"
                )
    return None


def _remove_numbers(name: str) -> str:
    return "".join(_list_words(name))


def _list_words(name: str) -> list[str]:
    return [word for word in re.split(r"[\W\d_]+", name.casefold()) if word]


def _list(names: Iterable[str]) -> str:
    return join_some(list(names), _SHOWN_NAMES)


def _join(*parts: str) -> str:
    return "/".join(filter(None, parts))
