"""The command `predict`; its answers are compared with the evaluation in tests/pipeline."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from support import attempt

from imgpipe.core.errors import PipelineError, UnreadableImageError
from imgpipe.settings.image_spec import ImageSpec
from predict import list_files, read_image


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """A folder with two images, one of them in a folder below, and a text."""
    folder = tmp_path / "photos"
    (folder / "below").mkdir(parents=True)
    for name in ("b.PNG", "below/a.png"):
        Image.fromarray(np.full((6, 4), 200, np.uint8)).save(folder / name, "PNG")
    (folder / "notes.txt").write_text("no image")
    return folder


def test_folders_are_searched_for_images(photos: Path) -> None:
    assert list_files([photos]) == [photos / "b.PNG", photos / "below" / "a.png"]
    for name in ("._b.png", "@eaDir/b.png", ".thumbs/b.png", "__macosx/b.png", "b.png~"):
        (photos / name).parent.mkdir(exist_ok=True)
        (photos / name).write_bytes(b"litter")
    assert list_files([photos]) == [photos / "b.PNG", photos / "below" / "a.png"]
    assert list_files([photos / ".thumbs"]) == [photos / ".thumbs" / "b.png"]  # if it is named
    text = photos / "notes.txt"
    assert list_files([text, photos / "below"]) == [text, photos / "below" / "a.png"]


def test_a_missing_place_and_a_folder_without_images_are_errors(photos: Path) -> None:
    with pytest.raises(PipelineError, match="none: no such file or folder"):
        list_files([photos / "none"])
    (photos / "empty").mkdir()
    with pytest.raises(PipelineError, match=r"empty: no images in this folder \(endings: \.avif,"):
        list_files([photos / "empty"])


def test_images_are_read_as_in_preprocessing(photos: Path) -> None:
    spec = ImageSpec(height_px=3, width_px=2, channels=3, fit="crop", interpolation="bilinear")
    image = read_image(photos / "b.PNG", spec)
    assert image.shape == (3, 2, 3)
    assert (image == 200).all()
    with pytest.raises(UnreadableImageError, match="not an image"):
        read_image(photos / "notes.txt", spec)


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
