"""Folders of photographs in fetch, preprocess and augment, with damaged and odd files."""

import json
import os
import shutil
import tarfile
import zipfile
from collections.abc import Callable
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from support import CATALOG, ROOT, attempt, hash_file, hash_files, run, set_params

from imgpipe.core.yaml_file import format_yaml
from imgpipe.preprocessing.splits import SPLITS
from imgpipe.records.folders import Records
from imgpipe.records.info import read_info

CLASSES = ("elm", "oak", "pine")


def photograph(seed: int, file_format: str = "JPEG", size: tuple[int, int] = (64, 48)) -> bytes:
    pixels = np.random.default_rng(seed).integers(0, 256, (6, 8, 3), dtype=np.uint8)
    stream = BytesIO()
    Image.fromarray(pixels).resize(size).save(stream, file_format)
    return stream.getvalue()


@pytest.fixture
def project(tmp_path: Path, params_value: dict[str, Any]) -> Path:
    """A project with 20 small photographs of each of three classes in data/local/leaves."""
    folder = tmp_path / "project"
    for number, name in enumerate(CLASSES):
        (folder / "data" / "local" / "leaves" / name).mkdir(parents=True)
        for image in range(20):
            path = folder / "data" / "local" / "leaves" / name / f"{image:02d}.jpg"
            path.write_bytes(photograph(100 * number + image))
    for name in ("pyproject.toml", "dvc.yaml"):
        shutil.copy(ROOT / name, folder)
    set_entry(folder)
    params_value["dataset"] = "leaves"
    params_value["preprocess"] |= {"height_px": 24, "width_px": 32, "channels": 3}
    params_value["augment"]["copies"] = 1
    set_params(folder, params_value)
    return folder


def set_entry(folder: Path, files: Any = "data/local/leaves", **reading: Any) -> None:
    entry = {"title": "Leaves", "files": files, "format": {"kind": "image_folder", **reading}}
    if not isinstance(files, str):
        entry |= {"license": "none", "citation": "none", "urls": ["data/local"]}
    (folder / "data" / "catalog.yaml").write_text(format_yaml({"leaves": entry}))


def leaves(project: Path) -> Path:
    return project / "data" / "local" / "leaves"


def error_of(project: Path, stage: str) -> str:
    result = attempt(project, stage)
    assert result.returncode == 1, result.stdout
    assert result.stderr.startswith("error: ")
    assert result.stderr.count("\n") == 1
    return result.stderr.removeprefix("error: ").rstrip()


def identities(project: Path) -> dict[str, str]:
    """The split of each image, by its identity."""
    records = project / "data" / "records"
    info = read_info(records)
    return {
        identity: split
        for split in SPLITS
        for batch in Records(records, info).read(split)
        for identity in batch.identities
    }


def test_a_folder_of_the_user_runs_from_fetch_to_augment(project: Path) -> None:
    fetched = run(project, "fetch")
    assert fetched.startswith("fetch: leaves: 60 files in data/local/leaves, packed: ")
    assert fetched.endswith(" kB\n")
    assert [path.name for path in (project / "data" / "raw").iterdir()] == ["leaves.zip"]
    assert run(project, "preprocess") == (
        "preprocess: leaves: 60 images of 24 x 32 pixels, 3 channels, 3 classes\n"
        "  42 train, 6 validation, 12 test; 0 duplicates across splits; 0 unreadable files\n"
    )
    assert run(project, "augment") == "augment: 1 copy of each of 42 training images: 42 images\n"
    found = identities(project)
    assert len(found) == 60
    # Identities lead back to the files.
    assert all((project / identity).is_file() for identity in found)
    info = read_info(project / "data" / "records")
    assert info.classes == list(CLASSES)
    assert info.splits["test"].per_class == dict.fromkeys(CLASSES, 4)


def test_a_new_or_deleted_image_changes_the_output_of_fetch(project: Path) -> None:
    run(project, "fetch")
    before = hash_files(project / "data" / "raw")
    run(project, "fetch")
    assert hash_files(project / "data" / "raw") == before
    (leaves(project) / "elm" / "00.jpg").unlink()
    run(project, "fetch")
    assert hash_files(project / "data" / "raw") != before


@pytest.mark.parametrize("suffix", ["zip", "tar", "tgz"])
def test_an_archive_gives_the_same_images_as_the_folder(project: Path, suffix: str) -> None:
    run(project, "fetch")
    run(project, "preprocess")
    expected, expected_splits = pixels(project), identities(project)
    path = project / "data" / "local" / f"leaves.{suffix}"
    names = sorted(path.relative_to(leaves(project)) for path in leaves(project).rglob("*.jpg"))
    if suffix == "zip":
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
            for name in names:
                archive.write(leaves(project) / name, f"top/{name.as_posix()}")
    else:
        with tarfile.open(path, "w:gz" if suffix == "tgz" else "w") as tar:
            for name in names:
                tar.add(leaves(project) / name, f"top/{name.as_posix()}")
    file = {"name": path.name, "bytes": path.stat().st_size, "sha256": hash_file(path)}
    set_entry(project, [file], root="top")
    assert run(project, "fetch").startswith("fetch: leaves: 1 file, ")
    run(project, "preprocess")
    assert sorted(path.name for path in (project / "data").iterdir()) == [
        "catalog.yaml", "local", "raw", "records", "thumbnails.npz"
    ]  # fmt: skip
    for found, of_folder in (
        (pixels(project), expected),
        (identities(project), expected_splits),
    ):
        prefix = f"leaves.{suffix}#top/"
        assert {
            identity.replace(prefix, "data/local/leaves/"): value
            for identity, value in found.items()
        } == of_folder


def test_a_renamed_dataset_keeps_its_splits_and_their_order(
    project: Path, params_value: dict[str, Any]
) -> None:
    run(project, "fetch")
    run(project, "preprocess")
    before = identities(project)
    leaves(project).rename(leaves(project).with_name("trees"))
    entry = {"title": "Trees", "files": "data/local/trees", "format": {"kind": "image_folder"}}
    (project / "data" / "catalog.yaml").write_text(format_yaml({"trees": entry}))
    params_value["dataset"] = "trees"
    set_params(project, params_value)
    run(project, "fetch")
    run(project, "preprocess")
    renamed = [
        (identity.replace("local/leaves/", "local/trees/"), split)
        for identity, split in before.items()
    ]
    assert list(identities(project).items()) == renamed


def test_a_new_photograph_leaves_the_others_in_their_splits(project: Path) -> None:
    run(project, "fetch")
    run(project, "preprocess")
    before = identities(project)
    (leaves(project) / "elm" / "000.jpg").write_bytes(photograph(999))
    run(project, "fetch")
    run(project, "preprocess")
    after = identities(project)
    assert len(after) == 61
    moved = [identity for identity, split in before.items() if after[identity] != split]
    assert len(moved) <= 2
    assert all("/elm/" in identity for identity in moved)


def pixels(project: Path) -> dict[str, bytes]:
    records = project / "data" / "records"
    info = read_info(records)
    return {
        identity: image.tobytes()
        for split in SPLITS
        for batch in Records(records, info).read(split)
        for identity, image in zip(batch.identities, batch.images, strict=True)
    }


def test_an_unpinned_archive_needs_permission(project: Path, params_value: dict[str, Any]) -> None:
    path = project / "data" / "local" / "leaves.zip"
    with zipfile.ZipFile(path, "w") as archive:
        for image in leaves(project).rglob("*.jpg"):
            archive.write(image, image.relative_to(leaves(project)).as_posix())
    set_entry(
        project,
        [{"name": "leaves.zip", "bytes": path.stat().st_size, "sha256": "unpublished"}],
    )
    assert hash_file(path) in error_of(project, "fetch")
    assert not (project / "data" / "raw").exists()
    params_value["allow_unpinned"] = True
    set_params(project, params_value)
    assert run(project, "fetch").endswith(
        f"  leaves.zip is not pinned in the catalog; its SHA-256 is\n    {hash_file(path)}\n"
    )


def test_bytes_do_not_depend_on_workers(project: Path, params_value: dict[str, Any]) -> None:
    params_value["preprocess"] |= {"height_px": 150, "width_px": 150, "fit": "crop"}
    params_value["preprocess"] |= {"shard_size_mib": 1, "normalization": "standardize"}
    set_params(project, params_value)
    (leaves(project) / "elm" / "00.jpg").write_bytes(b"")
    params_value["preprocess"]["max_bad_frac"] = 0.5
    set_params(project, params_value)
    run(project, "fetch")
    found = []
    for workers in ("1", "2"):
        run(project, "preprocess", IMGPIPE_WORKERS=workers)
        found.append(hash_files(project / "data" / "records") | hash_files(project / "metrics"))
    assert len([name for name in found[0] if name.startswith("train-")]) > 1
    assert found[0] == found[1]


# Bad input

BAD_FILES: dict[str, tuple[bytes, str]] = {
    "truncated.jpg": (photograph(1)[:-200], "damaged: image data is missing"),
    "empty.jpg": (b"", "empty file"),
    "text.jpg": (b"no image at all\n", "not an image, not supported, or its beginning is damaged"),
    "bomb.png": (b"", "more than the limit of 89,478,485 pixels"),
}


def add_bad_files(project: Path) -> None:
    bomb = BytesIO()
    Image.new("1", (20_000, 10_000)).save(bomb, "PNG")
    for name, (content, _) in BAD_FILES.items():
        (leaves(project) / "oak" / name).write_bytes(
            content or (name[:4] == "bomb") * bomb.getvalue()
        )
    (leaves(project) / "oak" / "notes.txt").write_text("no image, and not meant as one")
    (leaves(project) / "oak" / "really-a-png.jpg").write_bytes(photograph(2, "PNG"))
    (leaves(project) / "LICENSE").write_text("free")


def test_bad_files_are_skipped_counted_and_listed(
    project: Path, params_value: dict[str, Any]
) -> None:
    params_value["preprocess"]["max_bad_frac"] = 0.1
    set_params(project, params_value)
    add_bad_files(project)
    run(project, "fetch")
    assert run(project, "preprocess").endswith("; 4 unreadable files; 2 other files\n")
    data = json.loads((project / "metrics" / "data.json").read_text())
    assert (data["bad_images"], data["unused_files"]) == (4, 2)
    assert sum(split["images"] for split in data["splits"]) == 61
    assert data["unused"] == [
        {
            "reason": "not an image",
            "files": 2,
            "first": ["data/local/leaves/LICENSE", "data/local/leaves/oak/notes.txt"],
        }
    ]
    listed = {bad["file"]: bad["reason"] for bad in data["bad_files"]}
    assert list(listed) == sorted(f"data/local/leaves/oak/{name}" for name in BAD_FILES)
    for name, (_, reason) in BAD_FILES.items():
        assert listed[f"data/local/leaves/oak/{name}"].startswith(reason)
    assert not identities(project).keys() & listed.keys()


def test_unusual_metadata_and_hidden_files_are_ignored(project: Path) -> None:
    """The EXIF block has an orientation, and a resolution of the wrong type."""
    tags = b"\x01\x12\0\x03\0\0\0\x01\0\x06\0\0" + b"\x01\x1a\0\x07\0\0\0\x04\0abc"
    block = b"Exif\0\0MM\0*\0\0\0\x08\0\x02" + tags + bytes(4)
    content = photograph(1)
    segment = b"\xff\xe1" + (len(block) + 2).to_bytes(2) + block
    (leaves(project) / "oak" / "odd.jpg").write_bytes(content[:2] + segment + content[2:])
    for name in ("Icon\r", "THUMBS.DB", "@eaDir/1.jpg", "1.jpg~", "1.AAE", "._1.jpg"):
        (leaves(project) / "oak" / name).parent.mkdir(exist_ok=True)
        (leaves(project) / "oak" / name).write_bytes(b"litter")
    assert run(project, "fetch").endswith(
        "\n  ignored: 6 hidden, or left by a system or a program\n"
    )
    assert run(project, "preprocess").endswith("; 0 unreadable files\n")
    assert "data/local/leaves/oak/odd.jpg" in identities(project)
    assert len(identities(project)) == 61


def test_too_many_bad_files_stop_the_stage(project: Path) -> None:
    add_bad_files(project)
    run(project, "fetch")
    message = error_of(project, "preprocess")
    assert message.startswith(
        "4 of 65 images cannot be read, more than the share of 0.01 that preprocess.max_bad_frac"
        " allows: data/local/leaves/oak/bomb.png: more than the limit of 89,478,485 pixels;"
        " data/local/leaves/oak/empty.jpg: empty file;"
    )
    assert message.endswith("; and 1 more; repair or delete them, or raise max_bad_frac")
    assert sorted(path.name for path in (project / "data").iterdir()) == [
        "catalog.yaml", "local", "raw"
    ]  # fmt: skip


def test_a_class_without_a_readable_image_is_an_error(
    project: Path, params_value: dict[str, Any]
) -> None:
    params_value["preprocess"]["max_bad_frac"] = 0.5
    set_params(project, params_value)
    for path in (leaves(project) / "pine").iterdir():
        path.write_bytes(b"")
    run(project, "fetch")
    assert error_of(project, "preprocess").startswith(
        "class 'pine' has no image for the train split, of 0 readable images; add images, or"
    )


def remove_class(project: Path) -> None:
    for name in CLASSES[1:]:
        shutil.rmtree(leaves(project) / name)


def empty_class(project: Path) -> None:
    for path in (leaves(project) / "oak").iterdir():
        path.unlink()


def leave_two(project: Path) -> None:
    for path in sorted((leaves(project) / "oak").iterdir())[2:]:
        path.unlink()


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (remove_class, "data/local/leaves: only one class, 'elm'; at least two are needed"),
        (empty_class, "class 'oak' has no images; add some, or remove"),
        (leave_two, "class 'oak' has no image for the train split, of 2 images;"),
    ],
)
def test_unusable_folders_are_refused(
    project: Path, change: Callable[[Path], None], expected: str
) -> None:
    change(project)
    run(project, "fetch")
    assert error_of(project, "preprocess").startswith(expected)


def test_a_missing_folder_is_an_error(project: Path) -> None:
    shutil.rmtree(leaves(project))
    assert error_of(project, "fetch") == (
        "data/local/leaves: no such folder; put a folder of images for each class into it"
    )


def test_a_link_to_a_missing_file_is_named(project: Path) -> None:
    (leaves(project) / "oak" / "broken.jpg").symlink_to(project / "nowhere.jpg")
    assert error_of(project, "fetch") == (
        "data/local/leaves/oak/broken.jpg: a link to a file that does not exist; delete the link,"
        " or put the file there"
    )


def test_in_a_copy_of_the_project_the_folder_must_be_tracked(project: Path) -> None:
    copy = project.parent / "copy"
    shutil.copytree(project, copy, ignore=shutil.ignore_patterns("leaves"))
    result = attempt(copy, "fetch", DVC_ROOT=project.as_posix())
    assert result.stderr == (
        "error: data/local/leaves: not in this copy of the project, which holds only what git or"
        " DVC track; run `dvc add data/local/leaves` first\n"
    )


def test_nothing_in_an_archive_can_touch_a_file_outside(project: Path) -> None:
    path = project / "data" / "local" / "leaves.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("elm/1.jpg", photograph(1))
        archive.writestr("../../../../evil.jpg", photograph(2))
    file = {"name": path.name, "bytes": path.stat().st_size, "sha256": hash_file(path)}
    set_entry(project, [file])
    before = set(project.parent.rglob("*"))
    run(project, "fetch")
    assert error_of(project, "preprocess").startswith("data/raw/leaves.zip: refused: the member")
    assert {path.name for path in set(project.parent.rglob("*")) - before} == {"raw", "leaves.zip"}


def test_a_changed_archive_is_never_opened(project: Path) -> None:
    path = project / "data" / "local" / "leaves.zip"
    path.write_bytes(b"PK" + os.urandom(1000))
    set_entry(project, [{"name": path.name, "bytes": 1002, "sha256": 64 * "0"}])
    assert f"expected SHA-256 {64 * '0'}, found {hash_file(path)}" in error_of(project, "fetch")
    assert not (project / "data" / "raw").exists()


def test_the_real_photographs_become_records(
    project: Path, params_value: dict[str, Any], mirror: Path
) -> None:
    shutil.copy(CATALOG, project / "data")
    params_value["dataset"] = "cats_and_dogs_small"
    params_value["preprocess"]["max_per_class"] = 40
    set_params(project, params_value)
    assert run(project, "fetch", DATASET_MIRROR=mirror.as_posix()) == (
        "fetch: cats_and_dogs_small: 1 file, 69.0 MB, checked\n"
    )
    assert run(project, "preprocess").startswith(
        "preprocess: cats_and_dogs_small: 1,080 images of 24 x 32 pixels, 3 channels, 2 classes\n"
        "  72 train, 8 validation, 1,000 test; 0 duplicates"
    )
    for identity, split in identities(project).items():
        folder = "validation" if split == "test" else "train"
        assert identity.startswith(f"cats_and_dogs_small.zip#cats_and_dogs_small/{folder}/")
