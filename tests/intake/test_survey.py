"""A person's folder: classes, splits, files that are no images, and folders that are refused."""

import os
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from image_writers import COLOR, GRAY, png_file, tiff_file
from PIL import Image
from support import find_error, hash_files, write_photographs

from imgpipe.archives.members import MEMBER_LIMIT_BYTES
from imgpipe.core.errors import PipelineError
from imgpipe.intake import survey
from imgpipe.intake.survey import Survey, survey_folder
from imgpipe.preprocessing.decoding import open_image

PETS = {"cats": 6, "dogs": 5}


def error_of(folder: Path) -> str:
    message = find_error(survey_folder, folder)
    assert message.startswith(folder.as_posix())
    return message.removeprefix(folder.as_posix())


def add(path: Path, content: bytes = b"text") -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)


def test_a_folder_for_each_class_is_read(tmp_path: Path) -> None:
    folder = write_photographs(tmp_path / "my pets", PETS)
    Image.new("RGB", (30, 20)).save(folder / "dogs" / "large.PNG")
    add(folder / "README.txt")
    add(folder / "dogs" / ".hidden.jpg")
    add(folder / "__MACOSX" / "cats" / "a.jpg")
    add(folder / "dogs" / "clip.mov")
    add(folder / "dogs" / "below" / "text.jpg")
    (folder / "cats" / "000.jpg").rename(folder / "cats" / "scraped")
    Image.new("RGB", (30, 20)).save(folder / "cats" / "b.jpg", "PNG")
    before = hash_files(folder)
    found = survey_folder(folder)
    assert (found.top, found.splits) == (folder, None)
    assert found.counts == {"cats": {"images": 7}, "dogs": {"images": 6}}
    size_bytes = sum(path.stat().st_size for path in folder.glob("[cd]*s/*.[jp]*g")) - 4
    size_bytes += (folder / "dogs" / "large.PNG").stat().st_size
    size_bytes += (folder / "cats" / "scraped").stat().st_size
    assert found.size_bytes == size_bytes
    assert list(found.describe()) == [
        f"{folder.as_posix()}: 13 images in 2 classes",
        "  cats: 7 images",
        "  dogs: 6 images",
        f"  {size_bytes / 1000:.1f} kB, from 16 x 16 to 30 x 20 pixels (width x height)",
        "  used, by their content: 2 images without the ending of the format",
        "    cats/b.jpg: PNG",
        "    cats/scraped: JPEG",
        "  not used, outside the class folders: 1 file",
        "    README.txt",
        "  not used, not an image: 1 file",
        "    dogs/clip.mov",
        "  ignored: 2 hidden, or left by a system or a program",
        "  unreadable: 1 image; `preprocess` stops if the share exceeds max_bad_frac",
        "    dogs/below/text.jpg: not an image, not supported, or its beginning is damaged",
    ]
    ignored = {"dogs/.hidden.jpg", "__MACOSX/cats/a.jpg"}
    assert set(found.files) == before.keys() - ignored
    assert hash_files(folder) == before


def test_no_more_than_some_unreadable_files_are_listed() -> None:
    found = Survey(
        top=Path("pets"),
        splits=None,
        images={"a/1.jpg": (2, 1)},
        files=[],
        unreadable={f"a/{n}.jpg": "no" for n in range(13)},
        misnamed={},
        not_images=[],
        outside=[],
        ignored=0,
        size_bytes=9,
        counts={},
    )
    assert list(found.describe())[-2:] == ["    a/9.jpg: no", "    and 3 more"]


@pytest.mark.parametrize(
    "splits",
    [
        {"train": "train", "validation": "validation", "test": "test"},
        {"train": "Training", "validation": "VAL"},
        {"train": "training", "test": "testing"},
        {"train": "train", "validation": "valid"},
    ],
)
def test_folders_named_like_splits_are_splits(tmp_path: Path, splits: dict[str, str]) -> None:
    pets = {f"{folder}/{name}": 5 for folder in splits.values() for name in PETS}
    found = survey_folder(write_photographs(tmp_path, pets, side_px=36))
    assert found.splits == splits
    assert found.counts == {name: dict.fromkeys(splits, 5) for name in PETS}
    assert len(found.images) == len(pets) * 5
    assert list(found.describe())[1] == f"  cats: {', '.join(f'5 {split}' for split in splits)}"


def test_official_test_and_validation_splits_may_be_small(tmp_path: Path) -> None:
    counts = {"train/cats": 5, "train/dogs": 5, "test/cats": 1, "test/dogs": 1}
    assert survey_folder(write_photographs(tmp_path, counts)).counts["cats"]["test"] == 1
    (tmp_path / "test" / "dogs" / "000.jpg").unlink()
    assert error_of(tmp_path).startswith(
        ": class 'dogs' has 0 images in test/dogs/; expected at least 1"
    )


@pytest.mark.parametrize("wrap", ["pets", "a/b", "train", "photos of 2024"])
@pytest.mark.parametrize(
    ("counts", "splits"),
    [
        (PETS, None),
        (dict.fromkeys(("train/cats", "train/dogs", "val/cats", "val/dogs"), 5),
         {"train": "train", "validation": "val"}),
    ],
)  # fmt: skip
def test_one_folder_around_the_folders_is_skipped(
    tmp_path: Path, wrap: str, counts: dict[str, int], splits: dict[str, str] | None
) -> None:
    write_photographs(tmp_path / wrap, counts)
    add(tmp_path / "README.txt")
    add(tmp_path / wrap / "cover.txt")
    found = survey_folder(tmp_path)
    assert (found.top, found.splits) == (tmp_path / wrap, splits)
    assert found.outside == ["README.txt", f"{wrap}/cover.txt"]
    assert sorted(found.counts) == ["cats", "dogs"]
    assert f"{next(iter(counts))}/000.jpg" in found.images


def test_a_class_may_have_folders(tmp_path: Path) -> None:
    found = survey_folder(write_photographs(tmp_path, {"cats/2023": 3, "cats/2024": 3, "dogs": 5}))
    assert found.counts == {"cats": {"images": 6}, "dogs": {"images": 5}}


def test_the_folders_in_a_class_without_images_of_its_own_are_shown(tmp_path: Path) -> None:
    """The report of their names lets a person see a class that is none."""
    counts = {"birds/2023": 5, "birds/2024": 5, "cats": 5}
    found = survey_folder(write_photographs(tmp_path, counts))
    assert list(found.describe())[1:3] == [
        "  birds: 10 images, all in its folders 2023, 2024",
        "  cats: 5 images",
    ]
    (tmp_path / "birds" / "2024" / "000.jpg").rename(tmp_path / "birds" / "000.jpg")
    assert list(survey_folder(tmp_path).describe())[1] == "  birds: 10 images"


def test_the_folders_in_a_class_of_splits_are_shown(tmp_path: Path) -> None:
    counts = {"train/birds/2023": 5, "test/birds/2024": 2, "train/cats": 5, "test/cats": 2}
    found = survey_folder(write_photographs(tmp_path, counts))
    assert list(found.describe())[1] == "  birds: 5 train, 2 test, all in its folders 2023, 2024"


def test_names_may_have_spaces_and_letters_of_every_language(tmp_path: Path) -> None:
    names = {"Größe 1": 5, "猫": 5, "it's a $HOME; {x}": 5}
    assert set(survey_folder(write_photographs(tmp_path / "a b", names)).counts) == set(names)


@pytest.mark.parametrize(
    ("name", "shown"),
    [(b"new\nline", "new\\nline"), (b"\xe4", "\\xe4"), (b"\x1b[31mred", "\\x1b[31mred")],
)
def test_the_path_of_the_folder_is_printed_in_one_line(
    tmp_path: Path, name: bytes, shown: str
) -> None:
    folder = write_photographs(tmp_path / os.fsdecode(name), PETS)
    expected = f"{tmp_path.as_posix()}/{shown}"
    assert next(survey_folder(folder).describe()) == f"{expected}: 11 images in 2 classes"
    assert find_error(survey_folder, folder / "cats").startswith(f"{expected}/cats: found 6 files")
    (folder / "birds").symlink_to(folder / "cats")
    assert find_error(survey_folder, folder).startswith(f"{expected}/birds: a link to a folder;")


def test_a_link_to_a_file_is_followed_and_a_broken_link_is_refused(tmp_path: Path) -> None:
    folder = write_photographs(tmp_path / "pets", PETS)
    (folder / "cats" / "link.jpg").symlink_to(folder / "dogs" / "000.jpg")
    assert survey_folder(folder).counts["cats"]["images"] == 7
    for name in ("cats/broken.jpg", "cats/broken.txt", "broken.txt"):
        (folder / name).symlink_to(tmp_path / "nowhere.jpg")
        assert error_of(folder) == (
            f"/{name}: a link to a file that does not exist; delete the link, or put the file there"
        )
        (folder / name).unlink()


def test_the_header_is_read_and_not_the_pixels(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also a header that is longer than the part that is read first; and no other file is read."""
    folder = write_photographs(tmp_path, PETS)
    stream = BytesIO()
    Image.new("RGB", (40, 30)).save(stream, "JPEG", comment=b"x" * 5000)
    (folder / "cats" / "long.jpg").write_bytes(stream.getvalue())
    (folder / "cats" / "cut.jpg").write_bytes((folder / "cats" / "000.jpg").read_bytes()[:-50])
    add(folder / "cats" / "clip.mov", b"x" * 9000)
    monkeypatch.setattr(survey, "_HEADER_BYTES", 1000)
    sizes = []

    def open_watched(content: bytes) -> Image.Image:
        sizes.append(len(content))
        picture = open_image(content)
        monkeypatch.setattr(picture, "load", lambda: pytest.fail("decoded"))
        return picture

    monkeypatch.setattr(survey, "open_image", open_watched)
    found = survey_folder(folder)
    assert found.images["cats/long.jpg"] == (40, 30)
    assert found.images["cats/cut.jpg"] == (16, 16)
    assert [size for size in sizes if size > 1000] == [len(stream.getvalue())]


def test_a_file_that_is_too_large_is_no_image(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = write_photographs(tmp_path, PETS)
    with (folder / "dogs" / "huge.jpg").open("wb") as stream:
        stream.truncate(MEMBER_LIMIT_BYTES + 1)
    found = survey_folder(folder)
    assert found.unreadable == {"dogs/huge.jpg": "more than the limit of 268435456 bytes"}


# Refused folders.

LAYOUT = "expected a folder for each class, such as cats/1.jpg, cats/2.jpg and dogs/1.jpg"
OTHER_LAYOUT = "; or a table, LABELS=labels.csv, or PATTERN=..., see docs/labels.md"


@pytest.mark.parametrize(
    ("counts", "expected"),
    [
        ({}, f": found 0 files and no folder; {LAYOUT}{OTHER_LAYOUT}"),
        ({".": 3}, f": found 3 files and no folder; {LAYOUT}{OTHER_LAYOUT}"),
        ({"cats": 9}, f": only one class, 'cats'; {LAYOUT}"),
        ({"cats/2024/may": 9}, f"/cats/2024: only one class, 'may'; {LAYOUT}"),
        ({"cats": 9, "cats/more": 9}, f": only one class, 'cats'; {LAYOUT}"),
        (
            {**PETS, "birds": 0},
            ": class 'birds' has 0 images in birds/; expected at least 5: add images, or remove"
            " the folder",
        ),
        (
            {"train/a": 5, "train/b": 5, "test": 5},
            f"/test: found 5 files and no folder; {LAYOUT}; move it away, if its images have no"
            " labels",
        ),
        (
            {"train/a": 5, "train/b": 5, "test/a": 5},
            "/test: no folder for the class 'b'; every split must have the same classes:"
            " rename or delete folders",
        ),
        (
            {"test/a": 5, "test/b": 5, "val/a": 5, "val/b": 5},
            ": the folders test, val look like splits; expected a folder named train; rename one",
        ),
        (
            {"train/a": 5, "Training/a": 5, "test/a": 5},
            ": the folders Training, test, train look like splits; two of these folders mean"
            " train; merge the two",
        ),
        (
            {"train/a": 5, "test/a": 5, "extra/a": 5},
            ": the folders test, train look like splits; the folder 'extra' does not; move"
            " that folder, or rename the others; or leave it out in an entry of data/catalog.yaml"
            ' (docs/photographs.md): format: {"kind": "image_folder", "splits": {"train": "train",'
            ' "test": "test"}}',
        ),
        ({"train/a": 5, "test/a": 5}, f": only one class, 'a'; {LAYOUT}"),
    ],
)
def test_folders_without_two_classes_or_with_unclear_splits_are_refused(
    tmp_path: Path, counts: dict[str, int], expected: str
) -> None:
    for name, count in counts.items():
        write_photographs(tmp_path, {name: count})
    assert error_of(tmp_path) == expected


def test_too_few_images_of_a_class_are_refused(tmp_path: Path) -> None:
    write_photographs(tmp_path, {"cats": 9, "dogs": 4})
    assert error_of(tmp_path).startswith(": class 'dogs' has 4 images in dogs/; expected at least")
    add(tmp_path / "dogs" / "1.mov")
    add(tmp_path / "dogs" / "2.mov")
    assert error_of(tmp_path).startswith(
        ": class 'dogs' has 4 images in dogs/, and 2 files that cannot be read as images"
        " (dogs/1.mov: not an image); expected"
    )


def test_a_class_may_be_called_train(tmp_path: Path) -> None:
    found = survey_folder(write_photographs(tmp_path, {"bus": 5, "train": 5}))
    assert found.splits is None
    assert list(found.counts) == ["bus", "train"]


def test_links_to_folders_are_refused(tmp_path: Path) -> None:
    folder = write_photographs(tmp_path / "pets", PETS)
    (folder / "birds").symlink_to(folder / "cats")
    assert error_of(folder).startswith("/birds: a link to a folder; DVC does not see changes")
    (tmp_path / "link").symlink_to(tmp_path / "pets")
    assert error_of(tmp_path / "link").startswith(": a link to a folder; DVC does not see changes")


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        (
            b"new\nline.jpg",
            "'cats/new\\nline.jpg': the name has a backslash or a control character;",
        ),
        (b"back\\slash.jpg", "'cats/back\\\\slash.jpg': the name has a backslash or a control"),
        (b"\xe4.jpg", "'cats/\\udce4.jpg': the name is not UTF-8; rename the file"),
    ],
)
def test_names_that_the_stages_refuse_are_reported(
    tmp_path: Path, name: bytes, expected: str
) -> None:
    folder = write_photographs(tmp_path, PETS)
    add(folder / "cats" / os.fsdecode(name))
    with pytest.raises(PipelineError) as caught:
        survey_folder(folder)
    assert str(caught.value).startswith(expected)


@pytest.mark.parametrize("file_format", ["png", "tif"])
@pytest.mark.parametrize("channels", [1, 3])
def test_a_warning_if_no_16_bit_image_needs_more_than_12_bits(
    tmp_path: Path, file_format: str, channels: int
) -> None:
    """A camera with 12 bits wrote them without saying so; one larger number contradicts."""
    numbers = np.random.default_rng(0).integers(0, 4096, (8, 8, channels), dtype=np.uint16)
    numbers[0] = 4095

    def write(path: Path) -> None:
        writers = {
            "png": lambda: png_file(numbers, 16, GRAY if channels == 1 else COLOR),
            "tif": lambda: tiff_file(numbers, 1 if channels == 1 else 2, 16),
        }
        add(path, writers[file_format]())

    folder = write_photographs(tmp_path / "pets", PETS)
    for number in range(3):
        write(folder / "cats" / f"deep{number}.{file_format}")
    write(folder / "dogs" / "deep.jpg")  # by its content
    warning = "  warning: nearly black: 4 images with 16 bits, of which none goes above 4,095; if"
    assert sum(line.startswith(warning) for line in survey_folder(folder).describe()) == 1
    numbers[4, 4] = 5000
    write(folder / "dogs" / f"bright.{file_format}")
    assert "nearly black" not in "".join(survey_folder(folder).describe())


def test_no_warning_if_the_files_say_12_bits(tmp_path: Path) -> None:
    folder = write_photographs(tmp_path / "pets", PETS)
    numbers = np.full((8, 8, 1), 4095, np.uint16)
    add(folder / "cats" / "a.png", png_file(numbers, 16, GRAY, {b"sBIT": b"\x0c"}))
    add(folder / "cats" / "b.tif", tiff_file(numbers, 1, 12))
    add(folder / "cats" / "c.tif", tiff_file(numbers, 1, 16, tags={281: (3, [4095])}))
    assert "nearly black" not in "".join(survey_folder(folder).describe())
