"""Which folders are classes: layouts that people have, read or refused, and random ones."""

import json
import shutil
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from functools import partial
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from support import find_error

from imgpipe.archives.folders import pack_folder
from imgpipe.core.errors import PipelineError
from imgpipe.core.yaml_file import parse_yaml
from imgpipe.datasets.catalog import DownloadEntry
from imgpipe.datasets.formats import ImageFolderFormat
from imgpipe.intake.survey import survey_folder
from imgpipe.preprocessing.folder_levels import (
    Folder,
    Levels,
    check_class_names,
    check_classes,
    check_levels,
    find_levels,
)
from imgpipe.preprocessing.raw_datasets import open_dataset

PETS = ["cats", "dogs"]


def images(*folders: str, count: int = 2) -> list[str]:
    return [f"{folder}/{number}.jpg" for folder in folders for number in range(count)]


def inside(outer: Sequence[str], inner: Sequence[str] = PETS) -> list[str]:
    """Images in each inner folder in each outer folder."""
    return images(*(f"{folder}/{name}" for folder in outer for name in inner))


def read(names: Sequence[str]) -> tuple[Levels, list[str]]:
    """Return levels and classes, as `survey_folder` and `ImageFolder` find them."""
    tree = Folder(names)
    levels = find_levels(tree, "pets")
    top = tree.at(levels.root)
    places = [top.at(name).folders for name in (levels.splits or {"": ""}).values()]
    classes = sorted(set().union(*places))
    check_class_names(classes, "pets")
    check_classes(tree, levels, "pets")
    return levels, classes


def describe(names: Sequence[str]) -> tuple[str, Mapping[str, str] | None, list[str]]:
    levels, classes = read(names)
    return levels.root, levels.splits, classes


# Layouts that are read. The classes are always cats and dogs, unless the row has others.

READ: list[tuple[str, list[str], str, dict[str, str] | None]] = [
    ("classes", images(*PETS), "", None),
    ("files beside the classes", [*images(*PETS), "README.md", "labels.csv", "1.jpg"], "", None),
    ("folders in classes", images("cats/2021", "cats/2022", "dogs"), "", None),
    ("different folders in classes, and images of their own",
     images("cats/in", "cats/out", "cats", "dogs/a", "dogs/b", "dogs"), "", None),
    ("numbered folders in one class", images("cats", "dogs/100CANON", "dogs/101CANON"), "", None),
    ("dates in one class", images("cats", "dogs/2024-05-01", "dogs/2024_06"), "", None),
    ("folders in years in one class",
     images("cats", "dogs/2023", "dogs/2024", "dogs/2023/raw", "dogs/2023/edited"), "", None),
    ("one folder in each class", images("cats/2021", "dogs/2022"), "", None),
    ("images and equal folders", [*images(*PETS), *inside(PETS, ["2021", "2022"])], "", None),
    ("images and partly equal folders",
     images(*PETS, "cats/2021", "cats/2022", "dogs/2022", "dogs/2023"), "", None),
    ("one equal folder in each class", images("cats/photos", "dogs/photos"), "", None),
    ("one equal chain in each class", images("cats/all/2021", "dogs/all/2021"), "", None),
    ("classes in folders of their name", images("cats/cats", "dogs/dogs"), "", None),
    ("a tenth of the images in the folders of the classes",
     [f"{pet}/{year}/{n}.jpg" for pet in PETS for year in (2021, 2022) for n in range(9)]
     + images(*PETS), "", None),
    ("images, and one class again", images(*PETS, "dogs/cats"), "", None),
    ("an outer folder", inside(["pets"]), "pets", None),
    ("two outer folders", inside(["a/b"]), "a/b", None),
    ("an outer folder with a file", [*inside(["pets"]), "pets/README", "LICENSE"], "pets", None),
    ("only a train folder", inside(["train"]), "train", None),
    ("only a folder images", inside(["images"]), "images", None),
    ("classes with numbers, one with folders", images("cats", "dogs/1", "dogs/2"), "", None),
    ("a file of labels beside images", [*inside(["images"]), "labels.csv"], "images", None),
    ("train and test", inside(["train", "test"]), "", {"train": "train", "test": "test"}),
    ("Kaggle", inside(["training_set", "test_set"]), "",
     {"train": "training_set", "test": "test_set"}),
    ("Kaggle, each in one folder",
     inside(["training_set/training_set", "test_set/test_set"]), "",
     {"train": "training_set/training_set", "test": "test_set/test_set"}),
    ("Kaggle, with files of systems and a list",
     [*inside(["x/training_set", "x/test_set"]), "x/training_set/_DS_Store", "x/list.csv"],
     "x", {"train": "training_set", "test": "test_set"}),
    ("a folder around one split", inside(["train/train", "test"]), "",
     {"train": "train/train", "test": "test"}),
    ("dev", inside(["train", "dev"]), "", {"train": "train", "validation": "dev"}),
    ("eval", inside(["train", "eval"]), "", {"train": "train", "test": "eval"}),
    ("holdout", inside(["train", "holdout"]), "", {"train": "train", "test": "holdout"}),
    ("hold-out set", inside(["Training Data", "Hold-Out Set"]), "",
     {"train": "Training Data", "test": "Hold-Out Set"}),
    ("dev and test", inside(["train", "dev", "test"]), "",
     {"train": "train", "validation": "dev", "test": "test"}),
    ("dev and eval", inside(["train", "dev", "eval"]), "",
     {"train": "train", "validation": "dev", "test": "eval"}),
    ("eval and test", inside(["train", "eval", "test"]), "",
     {"train": "train", "validation": "eval", "test": "test"}),
    ("val and holdout", inside(["train", "val", "holdout"]), "",
     {"train": "train", "validation": "val", "test": "holdout"}),
    ("valid", inside(["TRAIN", "Valid"]), "", {"train": "TRAIN", "validation": "Valid"}),
    ("years", inside(["train2017", "val2017"]), "",
     {"train": "train2017", "validation": "val2017"}),
    ("numbers", inside(["1_train", "2_val", "3_test"]), "",
     {"train": "1_train", "validation": "2_val", "test": "3_test"}),
    ("testset", inside(["trainset", "testset"]), "", {"train": "trainset", "test": "testset"}),
    ("images", inside(["train_images", "test-images"]), "",
     {"train": "train_images", "test": "test-images"}),
    ("a common word", inside(["seg_train/seg_train", "seg_test/seg_test"]), "",
     {"train": "seg_train/seg_train", "test": "seg_test/seg_test"}),
    ("common words", inside(["cats_vs_dogs_train", "cats_vs_dogs_val"]), "",
     {"train": "cats_vs_dogs_train", "validation": "cats_vs_dogs_val"}),
    ("splits around images", inside(["train/images", "test/images"]), "",
     {"train": "train/images", "test": "test/images"}),
    ("images in splits", inside(["train", "test"]) + images("train"), "",
     {"train": "train", "test": "test"}),
    ("folders in classes of splits", images("train/cats/a", "train/dogs", "test/cats", "test/dogs"),
     "", {"train": "train", "test": "test"}),
]  # fmt: skip


@pytest.mark.parametrize(
    ("names", "root", "splits"), [row[1:] for row in READ], ids=[r[0] for r in READ]
)
def test_layouts_that_are_read(names: list[str], root: str, splits: dict[str, str] | None) -> None:
    assert describe(names) == (root, splits, PETS)
    assert describe(names[::-1]) == (root, splits, PETS)


@pytest.mark.parametrize(
    "classes",
    [
        ["bus", "train"], ["train", "valley"], ["Dev", "Val"], ["testudo", "trains"],
        ["train_station", "test_tube"], ["n01440764", "n01443537"], ["mask", "no mask"],
        ["mask images", "no mask images"], ["label", "stamp"], ["photos", "drawings"],
        ["2021", "2022"], ["null", "true"], ["class1", "class2"], ["test rig", "train rigs", "rig"],
    ],
)  # fmt: skip
def test_names_of_classes_that_are_read(classes: list[str]) -> None:
    assert describe(images(*classes)) == ("", None, sorted(classes))


def test_few_classes_of_many_may_hold_only_equal_folders() -> None:
    names = images(*(f"class {number}" for number in range(9)))
    names += inside(["cats", "dogs"], ["2021", "2022"])
    assert describe(names)[2] == sorted([*(f"class {number}" for number in range(9)), *PETS])


# Layouts that are refused, with a part of the line.

REFUSED: list[tuple[str, list[str], str]] = [
    ("equal folders in folders", inside(["batch1", "batch2"]),
     "pets: the folders batch1, batch2 hold only folders, and the same names occur in several of"
     " them (cats, dogs), so each of the two levels may be the classes; if batch1, batch2 are"
     " splits, name them train, validation and test; or write in an entry of data/catalog.yaml"
     " (docs/photographs.md): if they are splits, for example, format:"
     ' {"kind": "image_folder", "splits": {"train": "batch1", "test": "batch2"}};'
     " if batch1, batch2 are the classes, format:"
     ' {"kind": "image_folder", "classes": ["batch1", "batch2"]}'),
    ("years in classes", inside(PETS, ["2021", "2022"]), "cats, dogs hold only folders"),
    ("partly equal folders", images("cats/1", "cats/2", "dogs/2", "dogs/3"), "hold only folders"),
    ("one equal folder of two", images("cats/1", "dogs/1", "dogs/2"), "hold only folders"),
    ("splits in classes", inside(PETS, ["train", "test"]), "(test, train)"),
    ("other languages", inside(["训练", "测试"]), "hold only folders"),
    ("folds", inside(["fold1", "fold2", "fold3"]), "hold only folders"),
    ("a folder around each", inside(["a/a", "b/b"]), "hold only folders"),
    ("different depths", inside(["a/x", "b"]), "hold only folders"),
    ("deep", inside(["a/2021", "a/2022", "b/2023", "b/2024"]), "hold only folders"),
    ("capital letters", images("a/Cats", "a/Dogs", "b/cats", "b/dogs"), "hold only folders"),
    ("lists beside the folders",
     [*inside(["a", "b"]), "a/list.txt", "b/list.txt"], "hold only folders"),
    ("one image beside folders", [*inside(["a", "b", "c"]), "a/1.jpg"], "b, c hold only folders"),
    ("a cover in each folder",
     [*images("a/cats", "a/dogs", "b/cats", "b/dogs", count=5), "a/1.jpg", "b/1.jpg"],
     "a, b hold only folders"),
    ("two datasets", inside(["a/train", "a/test", "b/train", "b/test"]), "hold only folders"),
    ("a third folder with images", [*inside(["a", "b"]), *images("x")], "a, b hold only folders"),
    ("parts with other classes each",
     [*inside(["part1"], PETS), *inside(["part2"], ["birds", "fish"])],
     "pets: all of the folders part1, part2 hold only folders (birds, cats, dogs, fish), so each of"
     " the two levels may be the classes; if birds, cats, dogs, fish are the classes, move them out"
     " of part1, part2; or write in an entry of data/catalog.yaml (docs/photographs.md): if part1,"
     ' part2 are the classes, format: {"kind": "image_folder", "classes": ["part1", "part2"]}'),
    ("parts, one with one class", [*inside(["part1"], PETS), *images("part2/birds")],
     "pets: all of the folders part1, part2 hold only folders (birds, cats, dogs)"),
    ("different folders in classes", images("cats/in", "cats/out", "dogs/a", "dogs/b"),
     "pets: all of the folders cats, dogs hold only folders (a, b, in, out)"),
    ("parts with a folder around the classes",
     [*inside(["a/x"], PETS), *inside(["b/y"], ["birds", "fish"])], "hold only folders (x, y)"),
    ("parts with a cover", [*inside(["a"], PETS), *images("b/birds", "b/fish", count=9), "b/1.jpg"],
     "hold only folders (birds, cats, dogs, fish)"),
    ("parts in splits", [*inside(["train/a", "test/a"], PETS), *images("train/b/x", "test/b/x")],
     "pets: all of the folders a, b hold only folders (cats, dogs, x)"),
    ("classes at different depths", [*images("cats"), *inside(["more"], ["birds", "fish"])],
     "pets: the folder 'more' holds only folders (birds, fish), but other folders hold images"
     " (cats), so the classes may be at different depths; if birds, fish are classes, move"
     " them out of 'more'; or write in an entry of data/catalog.yaml (docs/photographs.md): if"
     ' cats, more are the classes, format: {"kind": "image_folder", "classes": ["cats", "more"]}'),
    ("different folders in classes, and images in one of them",
     images("cats/in", "cats/out", "cats", "dogs/a", "dogs/b"),
     "pets: the folder 'dogs' holds only folders (a, b)"),
    ("classes deeper in one folder", images("cats", "wild/africa/lions", "wild/africa/apes"),
     "pets: the folder 'wild' holds only folders (apes, lions)"),
    ("classes in years in one folder",
     [*images("cats", "dogs"), *inside(["more/2023", "more/2024"], ["birds", "fish"])],
     "pets: the folder 'more' holds only folders (birds, fish)"),
    ("two folders with other classes",
     [*images(*PETS), *inside(["a"], ["ants", "bees"]), *inside(["b"], ["birds", "fish"])],
     "pets: the folder 'a' holds only folders (ants, bees)"),
    ("classes at different depths in splits",
     [*images("train/cats", "test/cats"), *inside(["train/more", "test/more"], ["birds", "fish"])],
     "pets: the folder 'more' holds only folders (birds, fish)"),
    ("other folders in each split",
     images("train/cats", "test/cats", "train/birds/owls", "test/birds/tits"),
     "pets: the folder 'birds' holds only folders (owls, tits)"),
    ("numbers as classes at different depths", images("0", "1", "more/2", "more/3"),
     "pets: the folder 'more' holds only folders (2, 3), but other folders hold images (0, 1)"),
    ("numbered classes at different depths", images("class 1", "rest/class 2", "rest/class 3"),
     "pets: the folder 'rest' holds only folders (class 2, class 3)"),
    ("a split in the names of classes",
     images("train_cats", "train_dogs", "test_cats", "test_dogs"),
     "pets: the folders test_cats, train_cats are named like splits of one class; make the folders"
     " train and test, each with a folder for each class; or write in an entry of data/catalog.yaml"
     " (docs/photographs.md): if test_cats, test_dogs, train_cats, train_dogs are the classes,"
     ' format: {"kind": "image_folder", "classes": ["test_cats", "test_dogs", "train_cats",'
     ' "train_dogs"]}'),
    ("a split at the end of names", images("CatsTrain", "CatsVal", "Dogs", "Birds"),
     "pets: the folders CatsTrain, CatsVal are named like splits of one class"),
    ("a split and a letter", images("trainA", "trainB", "testA", "testB"), "of one class"),
    ("a folder data beside others", [*inside(["data"]), *images("assets")],
     "pets: the folder 'data' holds only folders (cats, dogs), and its name is none of a class; if"
     " it holds the classes, give its path; or write in an entry of data/catalog.yaml"
     " (docs/photographs.md): for only the images in 'data', format:"
     ' {"kind": "image_folder", "root": "data"};'),
    ("a folder images beside lists", [*inside(["images"]), "meta/train.txt"], "folder 'images'"),
    ("an unknown name beside train", inside(["train", "more"]),
     "the folder 'train' is named like the split train, and holds only folders (cats, dogs)"),
    ("years in classes in splits", inside(["train/cats", "train/dogs", "test/cats", "test/dogs"],
     ["2021", "2022"]), "pets: the folders cats, dogs hold only folders"),
    ("in an outer folder", inside(["x/a", "x/b"]), "pets/x: the folders a, b hold only folders"),
    ("a third folder beside splits", inside(["train", "test", "extra"]),
     "pets: the folders test, train look like splits; the folder 'extra' does not; move that"
     " folder, or rename the others; or leave it out in an entry of data/catalog.yaml"
     ' (docs/photographs.md): format: {"kind": "image_folder", "splits": {"train": "train",'
     ' "test": "test"}}'),
    ("two training folders", inside(["train1", "train2", "test"]), "mean train; merge the two"),
    ("dev and val", inside(["train", "dev", "val"]), "mean validation; merge the two"),
    ("no train", inside(["val", "test"]), "expected a folder named train; rename one"),
    ("a copy", [*images(*PETS), *inside(["old"])],
     "pets: the folder 'old' holds folders with the names of folders beside it (cats, dogs), as a"
     " split or a copy does; move it away; or write in an entry"),
    ("a copy with images", [*images(*PETS, "old"), *inside(["old"])], "'old' holds folders"),
    ("a copy of one class", images("cats", "old/cats"), "'old' holds folders"),
    ("a test folder beside classes", [*images(*PETS), *inside(["test"])], "'test' holds folders"),
    ("unlabeled test images beside classes", images(*PETS, "test"),
     "the folder 'test' is named like the split test, and is beside folders that are not;"),
    ("unlabeled images beside train", [*inside(["train"]), *images("unlabeled")],
     "pets: the folder 'train' is named like the split train, and holds only folders (cats, dogs),"
     " but no other folder is named like a split; if 'train' holds the classes, give its path, or"),
    ("object detection", inside(["images", "labels"], ["train", "val"]),
     "pets: the images are in 'images', and 'labels' describes them, as for object detection; a"
     " folder for each class is needed; if 'images' holds such folders, give its path; or write"
     " in an entry of data/catalog.yaml (docs/photographs.md): if it holds them, format:"
     ' {"kind": "image_folder", "root": "images"}'),
    ("object detection, flat", images("images", "labels"), "as for object detection"),
    ("object detection in splits", inside(["train", "valid"], ["images", "labels"]),
     "pets: the images are in 'images', and 'labels'"),
    ("masks", images("image", "mask"), "'mask' describes them"),
    ("masks of training images", images("train_images", "train_masks"), "'train_masks' describes"),
    ("ground truth", images("JPEGImages", "ground_truth"), "'ground_truth' describes"),
]  # fmt: skip


@pytest.mark.parametrize(
    ("names", "expected"), [row[1:] for row in REFUSED], ids=[r[0] for r in REFUSED]
)
def test_layouts_that_are_refused(names: list[str], expected: str) -> None:
    line = find_error(read, names)
    assert line.startswith(expected) if expected.startswith("pets") else expected in line
    assert find_error(read, sorted(names, reverse=True)) == line


def test_the_line_has_what_an_entry_of_these_classes_needs() -> None:
    """The text behind `format` is YAML, and says what the person sees; names stay text."""
    line = find_error(read, inside(["2021", "null"], ["007", "1e3"]))
    assert [parse_yaml(part, "")["format"] for part in split_entries(line)] == [
        {"kind": "image_folder", "splits": {"train": "2021", "test": "null"}},
        {"kind": "image_folder", "classes": ["2021", "null"]},
    ]


def split_entries(line: str) -> list[str]:
    """The texts `format: {...}` in a line."""
    found = []
    for part in line.split("format: ")[1:]:
        _, end = json.JSONDecoder().raw_decode(part)
        found.append(f"format: {part[:end]}")
    return found


# Entries of the catalog.


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (Levels("", None),
         "pets: found only x there, around the folders of the classes; write in an entry of"
         ' data/catalog.yaml (docs/photographs.md): format: {"kind": "image_folder", "root": "x",'
         ' "splits": {"train": "training_set/in", "test": "test_set/in"}}'),
        (Levels("x", None),
         "pets/x: the folders test_set, training_set look like splits, not classes; write in an"
         ' entry of data/catalog.yaml (docs/photographs.md): format: {"kind": "image_folder",'
         ' "root": "x", "splits": {"train": "training_set/in", "test": "test_set/in"}}; or, if'
         ' they are the classes: format: {"kind": "image_folder", "root": "x", "classes":'
         ' ["test_set", "training_set"]}'),
        (Levels("x", {"train": "training_set", "test": "test_set"}),
         "pets/x: found only test_set, training_set there, around the folders of the classes;"
         ' write in an entry of data/catalog.yaml (docs/photographs.md): format: {"kind":'
         ' "image_folder", "root": "x", "splits": {"train": "training_set/in", "test":'
         ' "test_set/in"}}'),
        (Levels("", {"train": "x/training_set"}),
         "pets: found only x there, around the folders of the classes; write in an entry of"
         ' data/catalog.yaml (docs/photographs.md): format: {"kind": "image_folder", "splits":'
         ' {"train": "x/training_set/in"}}'),
    ],
)  # fmt: skip
def test_an_entry_with_other_levels_is_refused(given: Levels, expected: str) -> None:
    tree = Folder(inside(["x/training_set/in", "x/test_set/in"]))
    line = find_error(check_levels, tree, given, "pets")
    assert line == expected
    check_levels(tree, read_levels(line), "pets")


def test_splits_that_an_entry_gives_are_believed() -> None:
    tree = Folder([*inside(["batch1", "batch2", "rest"]), *images("more")])
    check_levels(tree, Levels("", {"train": "batch1", "test": "rest"}), "pets")


# The same folders in a person's folder, in a zip archive and in a tar archive.


def write_files(folder: Path, names: Sequence[str]) -> None:
    """Write a small image for each name that is one, with 5 copies; else a text."""
    stream = BytesIO()
    Image.new("RGB", (8, 6), "red").save(stream, "JPEG")
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        if not name.endswith(".jpg"):
            (folder / name).write_text("text")
            continue
        for copy in range(5):
            (folder / f"{name[:-4]}-{copy}.jpg").write_bytes(stream.getvalue())


def pack(folder: Path, base: Path) -> Path:
    """Pack a folder as `fetch` packs a person's own folder."""
    path = base.with_suffix(".packed.zip")
    pack_folder(folder, path)
    return path


def write_archive(kind: str, folder: Path, base: Path) -> Path:
    return Path(shutil.make_archive(str(base), kind, folder))


WRITERS: dict[str, Callable[[Path, Path], Path]] = {
    "packed": pack,
    **{kind: partial(write_archive, kind) for kind in ("zip", "tar", "gztar")},
}


def open_classes(archive: Path, scratch: Path, levels: Levels) -> list[str]:
    entry = DownloadEntry[ImageFolderFormat].model_validate(
        {
            "title": "", "license": "", "citation": "", "urls": [],
            "files": [{"name": archive.name, "bytes": 1, "sha256": "unpublished"}],
            "format": parse_yaml(levels.format_entry(), "")["format"],
        }
    )  # fmt: skip
    scratch.mkdir()
    with closing(open_dataset(entry, archive.parent, scratch)) as dataset:
        return dataset.classes


@pytest.mark.parametrize("names", [row[1] for row in READ], ids=[row[0] for row in READ])
def test_what_is_read_is_the_same_for_folder_zip_and_tar(tmp_path: Path, names: list[str]) -> None:
    write_files(tmp_path / "pets", names)
    survey = survey_folder(tmp_path / "pets")
    levels, classes = read(names)
    assert survey.top == tmp_path / "pets" / levels.root
    assert survey.splits == levels.splits
    assert list(survey.counts) == classes
    for kind in WRITERS:
        archive = WRITERS[kind](tmp_path / "pets", tmp_path / kind)
        assert open_classes(archive, tmp_path / f"{kind} right", levels) == classes
        if levels != (at_top := Levels("", None)):
            line = find_error(open_classes, archive, tmp_path / f"{kind} at top", at_top)
            assert line.startswith(f"{archive.as_posix()}: ")
            assert levels.format_entry() in line


@pytest.mark.parametrize("names", [row[1] for row in REFUSED], ids=[row[0] for row in REFUSED])
def test_what_is_refused_is_the_same_for_folder_zip_and_tar(
    tmp_path: Path, names: list[str]
) -> None:
    write_files(tmp_path / "pets", names)
    folder = tmp_path / "pets"
    line = find_error(survey_folder, folder).removeprefix(folder.as_posix())
    assert line == find_error(read, names).removeprefix("pets")
    root = Levels("x" if line.startswith("/x") else "", None)
    for kind in WRITERS:
        archive = WRITERS[kind](folder, tmp_path / kind)
        found = find_error(open_classes, archive, tmp_path / kind, root)
        if "look like splits, not classes" in found:  # the entry has to say that, before
            found = find_error(open_classes, archive, tmp_path / f"{kind}2", read_levels(found))
        assert found == archive.as_posix() + line


def read_levels(line: str) -> Levels:
    described = parse_yaml(split_entries(line)[0], "")["format"]
    return Levels(described.get("root", ""), described.get("splits"))


# Names of classes.


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ("Cats", "cats"), ("cats", "cats "), ("cats", "cats\u200b"), ("big cats", "big\u00a0cats"),
        ("caf\u00e9", "cafe\u0301"), ("CAF\u00c9", "cafe\u0301"), ("straße", "STRASSE"),
        ("ﬁsh", "fish"),
    ],
)  # fmt: skip
def test_classes_that_look_the_same_are_refused(first: str, second: str) -> None:
    line = find_error(read, images(first, second, "dogs"))
    assert line == find_error(read, images(second, "dogs", first))
    assert ascii(first) in line
    assert ascii(second) in line
    assert line.isprintable()
    assert "look like one class" in find_error(
        read, images(f"train/{first}", "train/x", f"test/{second}", "test/x")
    )


def test_classes_that_look_different_are_read() -> None:
    names = ["A", "B", "a b", "ab", "cafe", "caf\u00e9", "0", "O", "l", "1"]
    assert describe(images(*names))[2] == sorted(names)


# Random layouts.

CLASS_NAMES = st.lists(
    st.text("abcdxyzäé ", min_size=3, max_size=6).map(str.strip).filter(lambda name: len(name) > 2),
    min_size=2, max_size=5, unique=True,
)  # fmt: skip
SPLIT_NAMES = st.sampled_from(
    [
        {"train": "train", "test": "test"},
        {"train": "Training_Set", "validation": "dev_set", "test": "eval"},
        {"train": "pets-train", "validation": "pets-val"},
        {"train": "train2017", "test": "holdout 2017"},
    ]
)
PATH = st.sampled_from(["", "pets", "a/b", "train", "images", "photos of 2024"])


def join(*parts: str) -> str:
    return "/".join(filter(None, parts))


@given(CLASS_NAMES, SPLIT_NAMES, PATH, PATH, st.randoms())
def test_splits_around_any_classes_in_any_order(
    classes: list[str], splits: dict[str, str], outer: str, inner: str, random: Any
) -> None:
    folders = {split: join(folder, inner) for split, folder in splits.items()}
    names = inside([join(outer, folder) for folder in folders.values()], classes)
    names += [join(outer, "README.md"), join(outer, splits["train"], "list.csv")]
    random.shuffle(names)
    assert describe(names) == (outer, folders, sorted(classes))
    assert describe(inside([outer], classes) if outer else images(*classes)) == (
        outer, None, sorted(classes),
    )  # fmt: skip


@given(CLASS_NAMES, st.lists(CLASS_NAMES, min_size=1, max_size=2), PATH)
def test_equal_folders_in_folders_are_never_classes_in_silence(
    outer: list[str], inner: list[list[str]], around: str
) -> None:
    """Folders with the same folders inside, at any depth: without names of splits, one line."""
    folders = outer
    for names in inner:
        folders = [f"{folder}/{name}" for folder in folders for name in names]
    line = find_error(read, images(*(join(around, folder) for folder in folders)))
    assert line.isprintable()
    for entry in split_entries(line):
        assert set(parse_yaml(entry, "")["format"]) <= {"kind", "root", "splits", "classes"}


PARTS = st.sampled_from(["train", "test", "cats", "dogs", "images", "labels", "2021", "x"])
TREES = st.lists(
    st.lists(PARTS, min_size=1, max_size=4).map("/".join).map(lambda name: f"{name}/1.jpg"),
    min_size=1, max_size=12, unique=True,
)  # fmt: skip


@given(TREES, st.randoms())
def test_any_tree_is_read_as_a_fixed_point_or_refused_in_one_line(
    names: list[str], random: Any
) -> None:
    """An entry with the levels that are found is accepted; the order of the names is irrelevant."""
    again = [*names]
    random.shuffle(again)
    try:
        levels, classes = read(names)
    except PipelineError:
        line = find_error(read, names)
        assert line.isprintable()
        assert find_error(read, again) == line
        return
    assert read(again) == (levels, classes)
    check_levels(Folder(names), levels, "pets")
    assert not {"train", "test"} <= set(classes)
    assert not {"images", "labels"} <= set(classes)


@st.composite
def layouts(draw: Any) -> tuple[list[str], str, Mapping[str, str] | None, list[str] | None]:
    """Files, and what a person means by them: root, splits and classes.

    The classes are None if no name says which folders are the classes.
    """
    classes = draw(CLASS_NAMES)
    outer, inner = draw(PATH), draw(PATH)
    splits, places = None, [outer]
    unclear = draw(st.sampled_from(["", "", "", "parts", "copy", "unlabeled", "labels"]))
    if draw(st.booleans()):
        known = draw(SPLIT_NAMES)
        splits = {split: join(folder, inner) for split, folder in known.items()}
        places = [join(outer, folder) for folder in splits.values()]
    elif unclear == "parts":
        places = [join(outer, folder, inner) for folder in ("part a", "part b", "part c")]
    of_class = st.lists(
        st.sampled_from(["", "2021", "2022", "new/small"]), min_size=1, max_size=3, unique=True
    )
    names = []
    for class_name in classes:
        folders = draw(of_class)
        names += images(*(join(p, class_name, f) for p in places for f in folders), count=5)
    noise = draw(st.lists(st.sampled_from(["README.md", "list.csv", "cover.jpg"]), unique=True))
    names += [join(place, name) for place in [outer, *places] for name in noise]
    if unclear == "copy":
        names += images(*(join(p, "old", name) for p in places for name in classes), count=5)
    elif unclear == "unlabeled" and splits:
        names.append(join(outer, "unlabeled", "1.jpg"))
    elif unclear == "labels":
        names = [join("images", name) for name in names] + ["labels/1.jpg"]
    elif unclear != "parts" or splits:
        unclear = ""
    return names, outer, splits, None if unclear else sorted(classes)


@given(layouts())
def test_the_meaning_of_a_person_or_a_refusal(
    layout: tuple[list[str], str, Mapping[str, str] | None, list[str] | None],
) -> None:
    names, root, splits, classes = layout
    try:
        found = describe(names)
    except PipelineError:
        return
    assert found == (root, splits, classes)


def test_a_very_deep_folder_is_no_problem() -> None:
    deep = "x/" * 30_000
    assert describe([*images("cats", "dogs"), f"cats/{deep}1.jpg"])[2] == PETS
