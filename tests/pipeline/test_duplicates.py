"""Planted copies in a folder of photographs, with each policy of `preprocess`."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from support import attempt, hash_files, make_copy, make_smooth_picture, run, set_leaf

from imgpipe.records.folders import Records
from imgpipe.records.thumbnail_file import read_thumbnails

PER_CLASS = 15
COPIES = 4  # of the first five pictures of each class, in other sizes


@pytest.fixture(scope="module")
def fetched(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project with a fetched folder of two classes."""
    project = make_copy(tmp_path_factory.mktemp("duplicates") / "project")
    folder = project / "data" / "local" / "leaves"
    for number, name in enumerate(("oak", "pine")):
        (folder / name).mkdir(parents=True)
        for image in range(PER_CLASS):
            picture = make_smooth_picture(100 * number + image, side_px=120)
            picture.save(folder / name / f"{image:02}.png")
            for copy in range(COPIES if image < 5 else 0):
                side_px = 120 - 10 * copy
                picture.resize((side_px, side_px)).save(folder / name / f"{image:02}-{copy}.png")
    shutil.copy(folder / "oak" / "14.png", folder / "pine" / "wrong.png")
    with (project / "data" / "catalog.yaml").open("a") as stream:
        stream.write(
            "leaves:\n  title: Leaves\n  files: data/local/leaves\n  format: {kind: image_folder}\n"
        )
    values = {"dataset": "leaves", "preprocess.height_px": 96, "preprocess.width_px": 96}
    for key, value in {**values, "preprocess.channels": 3}.items():
        set_leaf(project, key, value)
    run(project, "fetch")
    return project


@pytest.fixture
def project(fetched: Path, tmp_path: Path) -> Path:
    return shutil.copytree(fetched, tmp_path / "project", symlinks=True)


def preprocess(project: Path, **values: Any) -> dict[str, Any]:
    """Run the stage; return the content of metrics/data.json."""
    for key, value in values.items():
        set_leaf(project, f"preprocess.{key}", value)
    run(project, "preprocess")
    data: dict[str, Any] = json.loads((project / "metrics" / "data.json").read_text())
    return data


def splits_of_pictures(project: Path) -> dict[str, list[str]]:
    """The splits of the images of each picture, by its class and number."""
    found: dict[str, list[str]] = {}
    records = Records.open(project / "data" / "records")
    for split in records.info.splits:
        for batch in records.read(split):
            for identity in batch.identities:
                name = Path(identity)
                found.setdefault(f"{name.parent.name}/{name.stem[:2]}", []).append(split)
    return found


def test_copies_are_named_and_shown(project: Path) -> None:
    data = preprocess(project)
    assert data["copied_images"] == 2 * 5 + 1  # a copy of the same size, and the wrong label
    assert data["two_label_pictures"] == 1
    assert data["near_pairs"] >= 2 * 5 * 3
    assert data["left_out_images"] == 0
    named = {
        image["file"]
        for kind in ("near", "two_labels")
        for group in data[kind]
        for image in group["images"]
    }
    thumbnails = read_thumbnails(project / "data" / "thumbnails.npz")
    assert named <= set(thumbnails)
    assert any(len(set(splits)) > 1 for splits in splits_of_pictures(project).values())
    first = hash_files(project)
    run(project, "preprocess", IMGPIPE_WORKERS="1")
    assert hash_files(project) == first


def test_one_split_keeps_all_copies_together(project: Path) -> None:
    data = preprocess(project, duplicates="one_split")
    assert data["duplicate_images"] == 0
    pictures = splits_of_pictures(project)
    assert sum(map(len, pictures.values())) == 2 * (PER_CLASS + 5 * COPIES) + 1
    assert all(len(set(splits)) == 1 for splits in pictures.values())
    for pair in data["near"]:
        assert len({image["split"] for image in pair["images"]}) == 1


def test_drop_uses_one_copy_and_names_the_others(project: Path) -> None:
    data = preprocess(project, duplicates="drop", two_labels="drop")
    pictures = splits_of_pictures(project)
    assert len(pictures) == 2 * PER_CLASS - 1
    assert all(len(splits) == 1 for splits in pictures.values())
    assert data["left_out_images"] == 2 * 5 * COPIES + 2
    assert sum(split["images"] for split in data["splits"]) == len(pictures)
    (wrong,) = data["two_labels"]
    assert [image["split"] for image in wrong["images"]] == ["left out", "left out"]
    first = hash_files(project)
    run(project, "preprocess", IMGPIPE_WORKERS="1")
    assert hash_files(project) == first


def test_a_picture_with_two_labels_stops_the_stage(project: Path) -> None:
    set_leaf(project, "preprocess.two_labels", "stop")
    result = attempt(project, "preprocess")
    assert result.returncode == 1
    assert result.stderr == (
        "error: 1 picture with two labels: data/local/leaves/oak/14.png (oak) and"
        " data/local/leaves/pine/wrong.png (pine); delete the wrong ones, or set"
        " preprocess.two_labels to drop or keep\n"
    )


def test_official_splits_stay_and_lose_only_copies_of_test_images(project: Path) -> None:
    folder = project / "data" / "local" / "leaves"
    for name in ("oak", "pine"):
        for path in sorted((folder / name).iterdir()):
            split = "test" if path.stem in ("00-1", "13") else "train"
            target = folder / split / name / path.name
            target.parent.mkdir(parents=True, exist_ok=True)
            path.rename(target)
        (folder / name).rmdir()
    splits = {"train": "train", "test": "test"}
    set_leaf(project, "leaves.format", {"kind": "image_folder", "splits": splits},
             "data/catalog.yaml")  # fmt: skip
    run(project, "fetch")
    data = preprocess(project, duplicates="one_split")
    assert data["left_out_images"] == 2 * COPIES
    assert data["splits"][2] == {"split": "test", "images": 4}
    assert data["duplicate_images"] == 0
    assert splits_of_pictures(project)["oak/00"] == ["test"]


def test_near_copies_are_ignored_with_a_distance_of_zero(project: Path) -> None:
    data = preprocess(project, duplicates="drop", duplicate_distance=0)
    assert (data["near_pairs"], data["near_search"]) == (0, "off")
    assert data["left_out_images"] == 2 * 5
