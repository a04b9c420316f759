import os
import pickle
import shutil
import tarfile
import zipfile
from collections import Counter
from contextlib import closing
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from support import CATALOG, find_error, hash_file, identity

from imgpipe.archives.folders import pack_folder
from imgpipe.archives.members import ZipArchive
from imgpipe.core.errors import PipelineError, UnreadableImageError
from imgpipe.datasets import download
from imgpipe.datasets.catalog import DownloadEntry, LocalEntry, load_entry
from imgpipe.datasets.formats import ImageFolderFormat
from imgpipe.preprocessing.image_files import IGNORED, NOT_AN_IMAGE, OUTSIDE_CLASSES
from imgpipe.preprocessing.raw_datasets import RawDataset, image_folder, open_dataset
from imgpipe.preprocessing.splits import SPLITS, UNASSIGNED


def jpeg(color: str) -> bytes:
    stream = BytesIO()
    Image.new("RGB", (8, 6), color).save(stream, "JPEG")
    return stream.getvalue()


def write_tar(path: Path, mode: str, members: dict[str, bytes]) -> None:
    with tarfile.open(path, mode) as tar:  # type: ignore[call-overload]
        for name, content in members.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            tar.addfile(member, BytesIO(content))


def download_entry(**values: Any) -> DownloadEntry[ImageFolderFormat]:
    return DownloadEntry[ImageFolderFormat].model_validate(
        {
            "title": "", "license": "", "citation": "", "urls": [],
            "format": {"kind": "image_folder"}, **values,
        }
    )  # fmt: skip


def entry_of(**reading: Any) -> LocalEntry[ImageFolderFormat]:
    described = {"kind": "image_folder", **reading}
    return LocalEntry[ImageFolderFormat].model_validate(
        {"title": "Leaves", "files": "data/local/leaves", "format": described}
    )


def open_files(tmp_path: Path, files: dict[str, bytes], **reading: Any) -> RawDataset:
    """Open files as `fetch` packs a user's own folder; names that end in "/" are folders."""
    folder = tmp_path / "leaves"
    for name, content in files.items():
        path = folder / name
        (path if name.endswith("/") else path.parent).mkdir(parents=True, exist_ok=True)
        if not name.endswith("/"):
            path.write_bytes(content)
    raw = tmp_path / "raw"
    raw.mkdir(exist_ok=True)
    pack_folder(folder, raw / "leaves.zip")
    return open_dataset(entry_of(**reading), raw, tmp_path)


def error_of(tmp_path: Path, names: list[str], **reading: Any) -> str:
    return find_error(open_files, tmp_path, dict.fromkeys(names, b"x"), **reading)


def test_a_folder_for_each_class_is_read(tmp_path: Path) -> None:
    dataset = open_files(
        tmp_path,
        {
            "oak/b.jpg": jpeg("red"),
            "oak/deeper/a.JPG": jpeg("lime"),
            "elm/c.jpg": jpeg("blue"),
            "LICENSE.txt": b"a file beside the folders is no image",
            "oak/.hidden.jpg": b"",
            "oak/Thumbs.db": b"",
        },
    )
    assert dataset.classes == ["elm", "oak"]
    assert dataset.splits.tolist() == [UNASSIGNED] * 3
    found = {
        identity(dataset, index): (dataset.classes[label], np.asarray(dataset.read(index))[0, 0])
        for index, label in enumerate(dataset.labels)
    }
    assert list(found) == [
        "data/local/leaves/elm/c.jpg",
        "data/local/leaves/oak/b.jpg",
        "data/local/leaves/oak/deeper/a.JPG",
    ]
    assert [name for name, _ in found.values()] == ["elm", "oak", "oak"]
    assert [int(pixel.argmax()) for _, pixel in found.values()] == [2, 0, 1]


def test_the_entry_gives_the_classes_and_their_order(tmp_path: Path) -> None:
    files = {f"{name}/1.jpg": jpeg("red") for name in ("elm", "oak", "pine")}
    dataset = open_files(tmp_path, files, classes=["pine", "elm"])
    assert dataset.classes == ["pine", "elm"]
    assert dataset.labels.tolist() == [1, 0]  # elm comes first in the archive


def test_folders_that_the_entry_calls_classes_are_classes(tmp_path: Path) -> None:
    names = [f"{name}/{inner}/1.jpg" for name in ("train", "Train", "test") for inner in ("a", "b")]
    files = dict.fromkeys(names, jpeg("red"))
    dataset = open_files(tmp_path, files, classes=["train", "Train", "test"])
    assert Counter(dataset.labels.tolist()) == {0: 2, 1: 2, 2: 2}


def test_an_archive_may_have_any_order_and_files_of_systems(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "leaves.zip", "w") as archive:
        for name in (
            "oak/1.jpg", "__MACOSX/oak/._1.jpg", "elm/1.jpg", "elm/.DS_Store", "elm/THUMBS.DB",
            "oak/Icon\r", "@eaDir/1.jpg", "oak/@eaDir/1.jpg", "elm/1.jpg~", "elm/1.AAE",
        ):  # fmt: skip
            archive.writestr(name, jpeg("red"))
    dataset = open_dataset(entry_of(), tmp_path, tmp_path)
    assert dataset.classes == ["elm", "oak"]
    assert dataset.labels.tolist() == [1, 0]


@pytest.mark.parametrize("link", ["ash", "train/ash"])
def test_a_link_beside_the_classes_is_refused(tmp_path: Path, link: str) -> None:
    """A link to a folder would be a class less, in silence."""
    outer, _, name = link.rpartition("/")
    folder = tmp_path / "leaves" / outer
    for class_name in ("elm", "oak"):
        (folder / class_name).mkdir(parents=True)
        (folder / class_name / "1.jpg").write_bytes(jpeg("red"))
    (folder / name).symlink_to("elm")
    (folder / "elm" / "2.jpg").symlink_to("1.jpg")  # a link in a class is an image without content
    path = Path(shutil.make_archive(str(tmp_path / "leaves"), "tar", tmp_path / "leaves"))
    files = [{"name": "leaves.tar", "bytes": 1, "sha256": "unpublished"}]
    reading: dict[str, Any] = {"kind": "image_folder", "root": outer or None}
    line = find_error(open_dataset, download_entry(files=files, format=reading), tmp_path, tmp_path)
    assert line == (
        f"{path.as_posix()}: {link}: a link beside the folders of the classes; links in"
        " archives are not followed; put the folder itself there, or list the classes in the"
        " catalog's format.classes"
    )
    reading["classes"] = ["elm", "oak"]
    dataset = open_dataset(download_entry(files=files, format=reading), tmp_path, tmp_path)
    assert dataset.labels.tolist() == [0, 0, 1]


def test_paths_begin_below_the_root(tmp_path: Path) -> None:
    names = ["elm/1.jpg", "oak/top/1.jpg"]
    at_top = open_files(tmp_path, dict.fromkeys(names, jpeg("red")))
    assert at_top.paths(np.arange(2)) == names
    shutil.rmtree(tmp_path / "leaves")
    below = open_files(tmp_path, {f"top/all/{name}": jpeg("red") for name in names}, root="top/all")
    assert below.paths(np.arange(2)) == names
    assert identity(below, 1) == "data/local/leaves/top/all/oak/top/1.jpg"


def test_split_folders_are_official_splits(tmp_path: Path) -> None:
    files = {
        f"set/{split}/{name}/1.jpg": jpeg("red")
        for split in ("fit", "val", "other")
        for name in ("elm", "oak")
    }
    splits = {"train": "fit", "validation": "val", "test": "other"}
    dataset = open_files(tmp_path, files, root="set", splits=splits)
    folders = [identity(dataset, index).split("/")[-3] for index in range(6)]
    assert [splits[SPLITS[code]] for code in dataset.splits] == folders
    assert dataset.paths(np.arange(1)) == ["fit/elm/1.jpg"]
    assert dataset.labels.tolist() == [0, 1] * 3
    part = open_files(tmp_path, files, root="set", splits={"train": "fit", "test": "val"})
    assert {SPLITS[code] for code in part.splits} == {"train", "test"}


def test_several_archives_are_one_dataset(tmp_path: Path) -> None:
    names = {"a.zip": ["oak/1.jpg", "oak/2.jpg"], "b.tgz": ["elm/1.jpg"], "c.tgz": ["oak/1.jpg"]}
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        for name in names["a.zip"]:
            archive.writestr(name, jpeg("red"))
    for file in ("b.tgz", "c.tgz"):
        write_tar(tmp_path / file, "w:gz", {names[file][0]: jpeg("red")})
    files = [{"name": name, "bytes": 1, "sha256": "unpublished"} for name in names]
    with closing(open_dataset(download_entry(files=files), tmp_path, tmp_path)) as dataset:
        assert dataset.classes == ["elm", "oak"]
        assert dataset.labels.tolist() == [1, 1, 0, 1]
        assert dataset.identities(np.arange(4)) == [
            f"{file}#{name}" for file, members in names.items() for name in members
        ]
        with closing(pickle.loads(pickle.dumps(dataset))) as elsewhere:
            assert all(elsewhere.read(index).size == (8, 6) for index in range(4))


# Which files are images: by the ending, or by the content.

IMAGES = {
    "elm/1.jpg": jpeg("red"), "elm/no ending": jpeg("red"), "elm/a.jpg?width=500": jpeg("red"),
    "elm/empty.png": b"", "elm/page.jpeg": b"<html>", "elm/unread.JP2": b"text",
    "oak/words.txt": jpeg("red"),
}  # fmt: skip
UNUSED = {
    "elm/.hidden.jpg": (IGNORED, jpeg("red")),
    "elm/@eaDir/1.jpg": (IGNORED, jpeg("red")),
    "oak/IMG_1.AAE": (IGNORED, b"edits"),
    "LICENSE.txt": (NOT_AN_IMAGE, b"text"),
    "oak/clip.mp4": (NOT_AN_IMAGE, b"\0\0\0\x18ftypmp42\0\0\0\0mp42isom"),
    "oak/empty": (NOT_AN_IMAGE, b""),
    "oak/below/labels.csv": (NOT_AN_IMAGE, b"a,b\n"),
    "cover": (OUTSIDE_CLASSES, jpeg("red")),
    "cover.jpg": (OUTSIDE_CLASSES, jpeg("red")),
}
ALL_FILES = IMAGES | {name: content for name, (_, content) in UNUSED.items()}


def count_unused(dataset: RawDataset) -> dict[str, list[str]]:
    """Return the names of the unused files by the reason, without the archive."""
    found = dataset.unused.to_metrics()
    assert all(each["files"] == len(each["first"]) for each in found)
    assert dataset.unused.count() == sum(each["files"] for each in found)
    return {each["reason"]: sorted(name.split("#")[-1] for name in each["first"]) for each in found}


EXPECTED_UNUSED = {
    reason: sorted(name for name, (found, _) in UNUSED.items() if found == reason)
    for reason in (IGNORED, NOT_AN_IMAGE, OUTSIDE_CLASSES)
}


def write_all_files(folder: Path, kind: str) -> Path:
    """Write ALL_FILES as an archive; return its path."""
    path = folder / f"leaves.{kind}"
    if kind == "zip":
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
            for name, content in ALL_FILES.items():
                archive.writestr(name, content)
    else:
        write_tar(path, "w" if kind == "tar" else "w:gz", ALL_FILES)
    return path


@pytest.mark.parametrize("in_place", [False, True])
@pytest.mark.parametrize("kind", ["zip", "tar", "tgz"])
def test_every_file_of_an_archive_is_an_image_or_listed_with_a_reason(
    tmp_path: Path, kind: str, in_place: bool
) -> None:
    if kind == "tgz" and in_place:
        pytest.skip("cannot be read in place")
    there = tmp_path / "there"
    there.mkdir()
    write_all_files(there, kind)
    with closing(open_dataset(entry_at(there, in_place=in_place), there, tmp_path)) as dataset:
        assert sorted(dataset.paths(np.arange(len(dataset.labels)))) == sorted(IMAGES)
        assert count_unused(dataset) == EXPECTED_UNUSED
        with closing(pickle.loads(pickle.dumps(dataset))) as elsewhere:
            assert count_unused(elsewhere) == EXPECTED_UNUSED


def test_every_file_of_a_folder_that_is_packed_is_an_image_or_listed(tmp_path: Path) -> None:
    """Ignored files are not packed: `fetch` reports their number."""
    dataset = open_files(tmp_path, ALL_FILES)
    assert dataset.paths(np.arange(len(dataset.labels))) == sorted(IMAGES)
    found = count_unused(dataset)
    assert found == {
        reason: [f"data/local/leaves/{name}" for name in EXPECTED_UNUSED[reason]]
        for reason in (NOT_AN_IMAGE, OUTSIDE_CLASSES)
    }


def test_classes_that_the_entry_leaves_out_are_listed(tmp_path: Path) -> None:
    files = {f"{name}/1.jpg": jpeg("red") for name in ("elm", "oak", "pine")}
    dataset = open_files(tmp_path, files, classes=["pine", "elm"])
    assert count_unused(dataset) == {OUTSIDE_CLASSES: ["data/local/leaves/oak/1.jpg"]}


def test_what_cannot_be_read_to_decide_counts_as_an_unreadable_image(tmp_path: Path) -> None:
    """Links and damaged members may be images; a file that is larger than any image is none."""
    with tarfile.open(tmp_path / "leaves.tar", "w") as tar:
        for name in ("elm/1.jpg", "oak/1.jpg"):
            member = tarfile.TarInfo(name)
            member.size = len(jpeg("red"))
            tar.addfile(member, BytesIO(jpeg("red")))
        link = tarfile.TarInfo("elm/link")
        link.type, link.linkname = tarfile.SYMTYPE, "../oak/1.jpg"
        tar.addfile(link)
    entry = entry_at(tmp_path)
    with closing(open_dataset(entry, tmp_path, tmp_path)) as dataset:
        assert sorted(dataset.paths(np.arange(3))) == ["elm/1.jpg", "elm/link", "oak/1.jpg"]
        with pytest.raises(UnreadableImageError, match="a link; links in archives"):
            dataset.read(dataset.paths(np.arange(3)).index("elm/link"))
        assert dataset.unused.count() == 0


def test_a_large_file_with_another_ending_is_not_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(image_folder, "MEMBER_LIMIT_BYTES", 1000)
    files = {"elm/1.jpg": jpeg("red"), "oak/1.jpg": jpeg("red"), "oak/a.mov": bytes(1001)}
    monkeypatch.setattr(ZipArchive, "read", lambda *_: pytest.fail("read"))
    assert count_unused(open_files(tmp_path, files)) == {
        NOT_AN_IMAGE: ["data/local/leaves/oak/a.mov"]
    }


def test_a_class_without_images_is_reported(tmp_path: Path) -> None:
    files = {"elm/1.jpg": jpeg("red"), "oak/1.jpg": jpeg("red"), "docs/a.txt": b"text"}
    with pytest.raises(PipelineError, match="class 'docs' has no images; add some, or remove"):
        open_files(tmp_path, files)


def test_the_real_photographs_are_read(mirror: Path, tmp_path: Path) -> None:
    name = "cats_and_dogs_small"
    dataset = open_dataset(load_entry(name, CATALOG), mirror / name, tmp_path)
    assert dataset.classes == ["cats", "dogs"]
    assert Counter(zip(dataset.splits.tolist(), dataset.labels.tolist(), strict=True)) == {
        (SPLITS.index(split), label): count
        for split, count in (("train", 1000), ("test", 500))
        for label in (0, 1)
    }
    assert dataset.read(0).format == "JPEG"
    assert identity(dataset, 0).startswith("cats_and_dogs_small.zip#cats_and_dogs_small/")
    # Read in place: there is only the index, of about 100 bytes an image.
    assert {path.suffix for path in tmp_path.iterdir()} == {".bin"}
    assert sum(path.stat().st_size for path in tmp_path.iterdir()) < 3000 * 150


# Archives at an address.


def write_archives(folder: Path) -> None:
    """Write a zip and a tar archive with images of both classes."""
    folder.mkdir()
    with zipfile.ZipFile(folder / "a.zip", "w", zipfile.ZIP_DEFLATED) as zipped:
        for name, color in (("elm/1.jpg", "red"), ("oak/2.jpg", "green"), ("oak/no.jpg", "")):
            zipped.writestr(name, jpeg(color) if color else b"")
    write_tar(folder / "b.tar", "w", {"oak/3.jpg": jpeg("blue"), "elm/4.jpg": jpeg("white")})


def entry_at(folder: Path, **values: Any) -> DownloadEntry[ImageFolderFormat]:
    files = [
        {"name": path.name, "bytes": path.stat().st_size, "sha256": hash_file(path)}
        for path in sorted(folder.iterdir())
    ]
    return download_entry(urls=[str(folder)], files=files, **values)


def describe(dataset: RawDataset) -> dict[str, Any]:
    found: dict[str, Any] = {}
    indices = np.arange(len(dataset.labels))
    dataset.prefetch(indices)
    names = zip(dataset.identities(indices), dataset.paths(indices), strict=True)
    for index, (name, path) in enumerate(names):
        try:
            pixels = np.asarray(dataset.read(index)).tobytes()
        except UnreadableImageError as error:
            pixels = str(error).encode()
        found[name] = path, dataset.classes[dataset.labels[index]], pixels
    return found


def test_archives_in_place_give_the_same_images_as_fetched_ones(tmp_path: Path) -> None:
    there, scratch = tmp_path / "there", tmp_path / "scratch"
    write_archives(there)
    scratch.mkdir()
    with closing(open_dataset(entry_at(there), there, scratch)) as fetched:
        expected = describe(fetched)
    assert list(expected) == [
        "a.zip#elm/1.jpg", "a.zip#oak/2.jpg", "a.zip#oak/no.jpg", "b.tar#oak/3.jpg",
        "b.tar#elm/4.jpg",
    ]  # fmt: skip
    entry = entry_at(there, in_place=True)
    with closing(open_dataset(entry, tmp_path / "nothing", scratch)) as dataset:
        assert describe(dataset) == expected
        with closing(pickle.loads(pickle.dumps(dataset))) as elsewhere:
            assert describe(elsewhere) == expected
    assert not list(tmp_path.rglob("*.jpg"))


@pytest.mark.skipif(not Path("/proc/self/fd").is_dir(), reason="the system has no such folder")
def test_few_of_many_archives_are_open(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    there = tmp_path / "there"
    there.mkdir()
    for number in range(10):
        with zipfile.ZipFile(there / f"{number}.zip", "w") as archive:
            archive.writestr(f"{'elm' if number % 2 else 'oak'}/{number}.jpg", jpeg("red"))
    monkeypatch.setattr(image_folder, "_MOST_OPEN_FILES", 3)
    with closing(open_dataset(entry_at(there), there, tmp_path)) as dataset:
        for index in [*range(10)] * 2:
            assert dataset.read(index).size == (8, 6)
        found = [os.path.realpath(path) for path in Path("/proc/self/fd").iterdir()]
        assert sum(str(there) in path for path in found) == 3
    no_folder = {"kind": "image_folder", "root": "there"}
    with pytest.raises(PipelineError, match=r"there/0\.zip, .*/9\.zip: there: no folder"):
        open_dataset(entry_at(there, format=no_folder), there, tmp_path)


@pytest.mark.parametrize("name", ["a.zip", "b.tar"])
def test_an_archive_that_changed_at_its_address_is_refused(tmp_path: Path, name: str) -> None:
    there = tmp_path / "there"
    write_archives(there)
    entry = entry_at(there, in_place=True)
    content = bytearray((there / name).read_bytes())
    content[-1] ^= 1  # behind all members
    (there / name).write_bytes(content)
    with pytest.raises(PipelineError, match=f"{name}: expected SHA-256"):
        open_dataset(entry, there, tmp_path)


@pytest.mark.parametrize("name", ["a.zip", "b.tar"])
def test_an_archive_that_changes_while_it_is_used_is_refused(
    tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(download, "FIRST_PAUSE_S", 0.01)
    there = tmp_path / "there"
    write_archives(there)
    with closing(open_dataset(entry_at(there, in_place=True), there, tmp_path)) as dataset:
        content = (there / name).read_bytes()
        (there / name).write_bytes(content.replace(b"\xff", b"\xfe"))
        index = {"a.zip": 0, "b.tar": 3}[name]
        assert find_error(dataset.read, index).endswith(
            f"{name}: changed while it was read; run the stage again when the file stays as it is"
        )


def test_a_compressed_tar_archive_cannot_be_read_in_place(tmp_path: Path) -> None:
    there = tmp_path / "there"
    there.mkdir()
    with tarfile.open(there / "a.tgz", "w:gz"):
        pass
    with pytest.raises(PipelineError, match=r"a\.tgz: a compressed tar archive cannot be read in"):
        open_dataset(entry_at(there, in_place=True), there, tmp_path)


# What may be wrong with the folders.


PHOTOS = ["photos/elm/1.jpg", "photos/oak/1.jpg"]


@pytest.mark.parametrize(
    ("names", "reading", "expected"),
    [
        (["a.jpg", "b.jpg"], {},
         "its top: no folder of a class there; found at the top: ;"
         " write in the catalog where they are: format.root, format.splits"),
        (PHOTOS, {"root": "foto"},
         "foto: no folder of a class there; found at the top: photos;"
         " write in the catalog where they are: format.root, format.splits"),
        (PHOTOS, {},
         "found only photos there, around the folders of the classes; write in an entry of"
         ' data/catalog.yaml (docs/photographs.md): format: {"kind": "image_folder", "root":'
         ' "photos"}'),
        (["elm/1.jpg"], {},
         "only one class, 'elm'; at least two are needed, a folder for each"),
        (["train/elm/1.jpg", "test/oak/1.jpg"], {},
         "the folders test, train look like splits, not classes; write in an entry of"
         ' data/catalog.yaml (docs/photographs.md): format: {"kind": "image_folder", "splits":'
         ' {"train": "train", "test": "test"}}; or, if they are the classes: format: {"kind":'
         ' "image_folder", "classes": ["test", "train"]}'),
        (["train/elm/1.jpg", "train/oak/1.jpg", "test/elm/1.jpg", "test/ash/1.jpg"],
         {"splits": {"train": "train", "test": "test"}},
         "train: no folder for the class 'ash'; found there: elm, oak;"
         " the classes must be the same everywhere: rename folders, or list them in the catalog's"
         " format.classes"),
        (["elm/1.jpg", "oak/1.jpg"], {"classes": ["elm", "oka"]},
         "its top: no folder for the class 'oka'; found there: elm, oak;"
         " the classes must be the same everywhere: rename folders, or list them in the catalog's"
         " format.classes"),
    ],
)  # fmt: skip
def test_folders_that_are_no_classes_are_reported(
    tmp_path: Path, names: list[str], reading: dict[str, Any], expected: str
) -> None:
    assert error_of(tmp_path, names, **reading) == f"data/local/leaves: {expected}"


@pytest.mark.parametrize("oak", ["oak/", "oak/.DS_Store"])
def test_an_empty_class_is_reported(tmp_path: Path, oak: str) -> None:
    assert error_of(tmp_path, ["elm/1.jpg", oak, "pine/1.jpg"]) == (
        "class 'oak' has no images; add some, or remove the class from the catalog or its folder"
    )
