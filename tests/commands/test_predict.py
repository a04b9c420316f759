"""The command `predict`; its answers are compared with the evaluation in tests/pipeline."""

import csv
import io
import json
import os
import sys
from collections.abc import Iterator
from io import StringIO
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from PIL import Image
from support import attempt

from imgpipe.archives.members import MEMBER_LIMIT_BYTES
from imgpipe.core.errors import PipelineError, UnreadableImageError
from imgpipe.nn.inference.file_prediction import FilePrediction
from imgpipe.serving.input_files import InputFiles, read_image
from imgpipe.serving.prediction_list import FORMATTERS, Expected
from imgpipe.settings.image_spec import ImageSpec
from predict import main, print_predictions

SPEC = ImageSpec(height_px=3, width_px=2, channels=3, fit="crop", interpolation="bilinear")


def write_image(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.full((6, 4), 200, np.uint8)).save(path, "PNG")
    return path


@pytest.fixture
def photos(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with two images, one of them in a folder below, and a text; beside it, a model."""
    folder = tmp_path / "photos"
    for name in ("b.PNG", "below/a.png"):
        write_image(folder / name)
    (folder / "notes.txt").write_text("no image")
    (tmp_path / "models").mkdir()
    (tmp_path / "models" / "model.keras").touch()
    monkeypatch.chdir(tmp_path)
    return Path("photos")


def unused_of(found: InputFiles) -> dict[str, list[str]]:
    return {each["reason"]: each["first"] for each in found.unused.to_metrics()}


def failures_of(found: InputFiles) -> dict[str, str | None]:
    return {each.file: each.error for each in found.failures}


def test_folders_are_searched_for_images_and_all_other_files_are_listed(photos: Path) -> None:
    litter = ("._b.png", "@eaDir/b.png", ".thumbs/b.png", "__macosx/b.png", "b.png~")
    for name in litter:
        write_image(photos / name)
    for name in ("no ending", "words.txt", "a.jpg?width=500"):
        write_image(photos / "below" / name)
    for name in ("scan.jp2", "cut.jpg", "clip.mov"):
        (photos / name).write_bytes(b"text")
    found = InputFiles(["photos"])
    assert [path.as_posix() for path in found.images] == [
        "photos/b.PNG", "photos/below/a.jpg?width=500", "photos/below/a.png",
        "photos/below/no ending", "photos/below/words.txt", "photos/cut.jpg", "photos/scan.jp2",
    ]  # fmt: skip
    assert unused_of(found) == {
        "hidden, or left by a system or a program": sorted(
            f"photos/{name.split('/')[0]}" for name in litter
        ),
        "not an image": ["photos/clip.mov", "photos/notes.txt"],
    }
    assert found.failures == []
    # A named file is read in any case.
    named = InputFiles(["photos/.thumbs", "photos/notes.txt", "photos/below/a.png"])
    assert [path.as_posix() for path in named.images] == [
        "photos/.thumbs/b.png", "photos/notes.txt", "photos/below/a.png"
    ]  # fmt: skip


def test_links_to_files_are_followed_and_links_to_folders_are_reported(photos: Path) -> None:
    (photos / "file.png").symlink_to("b.PNG")
    (photos / "broken.png").symlink_to("nowhere.png")
    (photos / "loop").symlink_to(".")
    (photos / "around").symlink_to("..")
    found = InputFiles(["photos"])
    assert {path.name for path in found.images} == {"a.png", "b.PNG", "broken.png", "file.png"}
    assert failures_of(found) == {
        f"photos/{name}": "a link to a folder, which is not followed; name it as well"
        for name in ("around", "loop")
    }
    with pytest.raises(UnreadableImageError, match="cannot be read: No such file or directory"):
        read_image(photos / "broken.png", SPEC)
    Path("link").symlink_to("photos/below")
    assert [path.as_posix() for path in InputFiles(["link"]).images] == ["link/a.png"]


def test_a_place_that_cannot_be_read_is_a_failure_and_the_others_are_read(photos: Path) -> None:
    (photos / "empty").mkdir()
    (photos / "texts").mkdir()
    (photos / "texts" / "a.txt").write_text("text")
    address = "https://example.org/a.png"
    places = ["none.png", "photos/empty", "photos/texts", address, "photos/below"]
    found = InputFiles(places)
    assert [path.as_posix() for path in found.images] == ["photos/below/a.png"]
    assert list(failures_of(found).values()) == [
        "no such file or folder",
        "no images in this folder",
        "no images in this folder",
        f"an address; to read it: curl -L {address} | python src/predict.py -",
    ]
    with pytest.raises(PipelineError, match="expected a file or folder; found an empty name"):
        InputFiles([""])


@pytest.mark.parametrize(
    ("place", "shown", "command"),
    [
        ("https://a.org/b c;id", "https://a.org/b c;id", "curl -L 'https://a.org/b c;id'"),
        ("HTTP:/a.org/x.png", "HTTP://a.org/x.png", "curl -L HTTP://a.org/x.png"),
        ("https://ann:secret@a.org/x", "https://***@a.org/x", "curl -L ADDRESS"),
        ("https:/ann:secret@a.org/x", "https://***@a.org/x", "curl -L ADDRESS"),
        ("ftp://ann:se/cr?e#t@a.org/x", "ftp://***@a.org/x", "curl -L ADDRESS"),
        ("https://a.org/x?key=secret", "https://a.org/x?***", "curl -L ADDRESS"),
        ("s3://bucket/x.png", "s3://bucket/x.png", None),
        ("s3://key:secret@bucket/x.png", "s3://***@bucket/x.png", None),
    ],
)
def test_an_address_is_answered_without_its_password(
    place: str, shown: str, command: str | None, capsys: pytest.CaptureFixture[str]
) -> None:
    (failure,) = InputFiles([place]).failures
    for formatter in FORMATTERS.values():
        print_predictions([failure], formatter, Expected([], [], top=1))
    output = "".join(capsys.readouterr())
    assert output.count(shown) >= 4
    assert "secret" not in output
    assert failure.error == (
        f"an address; to read it: {command} | python src/predict.py -"
        if command
        else "an address; download the file, and name that"
    )


def test_a_folder_with_the_name_of_an_address_is_read(photos: Path) -> None:
    Path("https:").mkdir()
    (photos / "below").rename("https:/x")
    assert [path.as_posix() for path in InputFiles(["https://x"]).images] == ["https:/x/a.png"]


def test_a_folder_that_may_not_be_read_is_a_failure(
    photos: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By a simulated error, because permissions do not stop the superuser."""
    real = os.scandir

    def refuse(path: Path) -> Any:
        if path == photos / "below":
            raise PermissionError(13, "Permission denied", str(path))
        return real(path)

    monkeypatch.setattr(os, "scandir", refuse)
    found = InputFiles(["photos"])
    assert [path.name for path in found.images] == ["b.PNG"]
    assert failures_of(found) == {"photos/below": "cannot be read: Permission denied"}


def test_a_pipe_in_a_folder_is_not_waited_for(photos: Path) -> None:
    for name in ("pipe", "pipe.png"):
        os.mkfifo(photos / name)
    found = InputFiles(["photos"])
    assert unused_of(found)["not a file"] == ["photos/pipe", "photos/pipe.png"]
    assert [path.name for path in found.images] == ["b.PNG", "a.png"]
    # A person may name one: the shell makes pipes, too.
    assert [path.name for path in InputFiles(["photos/pipe.png"]).images] == ["pipe.png"]


def test_images_are_read_as_in_preprocessing(photos: Path) -> None:
    image = read_image(photos / "b.PNG", SPEC)
    assert image.shape == (3, 2, 3)
    assert (image == 200).all()
    with pytest.raises(UnreadableImageError, match="not an image"):
        read_image(photos / "notes.txt", SPEC)
    with (photos / "huge.png").open("wb") as stream:
        stream.truncate(MEMBER_LIMIT_BYTES + 1)
    with pytest.raises(UnreadableImageError, match="more than the limit of 268435456 bytes"):
        read_image(photos / "huge.png", SPEC)


def test_standard_input_is_an_image(photos: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (path,) = InputFiles(["-"]).images
    with (photos / "b.PNG").open("rb") as stream:
        monkeypatch.setattr(sys, "stdin", SimpleNamespace(buffer=stream))
        assert (read_image(path, SPEC) == 200).all()
    monkeypatch.setattr(sys, "stdin", None)
    with pytest.raises(UnreadableImageError, match="standard input is closed"):
        read_image(path, SPEC)
    write_image(Path("-"))
    (named,) = InputFiles(["./-"]).images
    assert (read_image(named, SPEC) == 200).all()


def test_predictions_are_printed_while_they_come(
    photos: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    printed = []

    def predict() -> Iterator[FilePrediction]:
        for number in range(3):
            printed.append(capsys.readouterr().out)
            error = None if number < 2 else "cut\x1b"
            yield FilePrediction(f"{number}\n.png", [("cat", 1.0)][: 3 - number], error)

    expected = Expected(["1\n.png"], ["cat"], top=1)
    assert print_predictions(predict(), FORMATTERS["csv"], expected) == 1
    assert printed == [
        "file,class_1,probability_1,error\n", r"0\n.png,cat,1," + "\n", r"1\n.png,cat,1," + "\n"
    ]  # fmt: skip
    assert capsys.readouterr() == (
        r"2\n.png,cat,1,cut\x1b" + "\n", r"error: 2\n.png: cut\x1b" + "\n"
    )  # fmt: skip


def test_characters_that_the_encoding_lacks_are_escaped(
    photos: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    written = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(written, encoding="ascii"))
    prediction = FilePrediction("größe.png", [("cat", 1.0)])
    for file_format in FORMATTERS:
        expected = Expected([prediction.file], ["cat"], top=1)
        assert print_predictions([prediction], FORMATTERS[file_format], expected) == 0
    assert written.getvalue().count(rb"gr\xf6\xdfe.png") == 2


@pytest.mark.parametrize("file_format", FORMATTERS)
def test_if_no_file_can_be_read_the_output_is_complete_and_quick(
    photos: Path, file_format: str
) -> None:
    places = ["none.png", os.fsdecode(b"latin-\xe4"), "new\nline"]
    result = attempt(Path(), "predict", *places, "--format", file_format)
    assert result.returncode == 1
    assert result.stderr.splitlines() == [
        "error: none.png: no such file or folder",
        r"error: latin-\xe4: no such file or folder",
        r"error: new\nline: no such file or folder",
        "error: 3 of 3 files cannot be read",
    ]
    if file_format == "json":
        found = [each["file"] for each in json.loads(result.stdout)]
        assert found == places
    elif file_format == "csv":
        rows = list(csv.DictReader(StringIO(result.stdout)))
        assert [row["error"] for row in rows] == ["no such file or folder"] * 3
    else:
        assert result.stdout == ""


def test_files_that_are_not_predicted_are_counted(
    photos: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for number in range(9):
        (photos / f"{number}\n.txt").touch()
    (photos / "below" / "a.png").unlink()
    (photos / "b.PNG").unlink()
    monkeypatch.setattr(sys, "argv", ["predict", "photos"])
    with pytest.raises(PipelineError, match="1 of 1 files cannot be read"):
        main()
    lines = capsys.readouterr().err.splitlines()
    assert " ".join(lines[:-1]).startswith(r"not predicted: 10 files, not an image: photos/0\n.txt")
    assert " ".join(lines[:-1]).endswith("and 5 more")
    assert lines[-1] == "error: photos: no images in this folder"


@pytest.mark.parametrize(
    ("options", "error"),
    [
        (["--top", "0"], "error: --top: expected at least 1; found 0\n"),
        ([], "error: models/model.keras: not found; `dvc repro train` writes it\n"),
    ],
)
def test_a_mistake_is_reported_before_tensorflow_is_loaded(
    photos: Path, options: list[str], error: str
) -> None:
    result = attempt(photos, "predict", ".", *options)
    assert (result.returncode, result.stdout, result.stderr) == (1, "", error)
