"""Data that is elsewhere: a dataset and DVC's remote on a server that speaks S3."""

import hashlib
import os
import shutil
import tarfile
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from support import (
    attempt,
    copy_project,
    dvc,
    git,
    hash_files,
    make_copy,
    run,
    set_leaf,
    stages_run,
    write_photographs,
)

from imgpipe.core.yaml_file import format_yaml
from imgpipe.datasets.catalog import RawFile, write_manifest

pytestmark = pytest.mark.e2e

BUCKET = "photographs"


@pytest.fixture(scope="module")
def s3() -> Iterator[Any]:
    """The file system of a server on 127.0.0.1, which all processes use as S3."""
    server_module = pytest.importorskip("moto.server", reason="moto: see requirements-moto.txt")
    s3fs = pytest.importorskip("s3fs", reason="s3fs is not installed: requirements-s3.txt")
    server = server_module.ThreadedMotoServer("127.0.0.1", port=0)
    server.start()
    host, port = server.get_host_and_port()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AWS_ENDPOINT_URL", f"http://{host}:{port}")
        patch.setenv("AWS_ACCESS_KEY_ID", "test")
        patch.setenv("AWS_SECRET_ACCESS_KEY", "test")
        patch.setenv("AWS_DEFAULT_REGION", "us-east-1")
        system = s3fs.S3FileSystem()
        system.mkdir(BUCKET)
        yield system
    server.stop()


# A dataset that stays where it is.


def write_archives(folder: Path) -> list[RawFile]:
    """Write photographs of two classes into three archives; return the list of them."""
    there = folder / "archives"
    there.mkdir(parents=True)
    photographs = write_photographs(folder / "photographs", {"elm": 60, "oak": 60}, side_px=64)
    names = sorted(path.relative_to(photographs).as_posix() for path in photographs.rglob("*.*"))
    for number in range(2):
        with zipfile.ZipFile(there / f"part-{number}.zip", "w") as archive:
            for name in names[number::3]:
                archive.write(photographs / name, name)
    with tarfile.open(there / "part-2.tar", "w") as tar:
        for name in names[2::3]:
            tar.add(photographs / name, name)
    return [
        RawFile(
            name=path.name,
            bytes=path.stat().st_size,
            sha256=hashlib.sha256(path.read_bytes()).hexdigest(),
        )
        for path in sorted(there.iterdir())
    ]


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory, s3: Any) -> Path:
    """A project with a dataset in a folder; the same files are in a bucket."""
    folder = tmp_path_factory.mktemp("remote") / "project"
    make_copy(folder)
    files = write_archives(folder.parent)
    s3.put(f"{folder.parent}/archives/", f"{BUCKET}/leaves/", recursive=True)
    write_manifest(folder / "data/local/leaves/manifest.csv", files)
    for key, value in {
        "dataset": "leaves", "preprocess.height_px": 64, "preprocess.width_px": 64,
        "preprocess.channels": 3, "preprocess.shard_size_mib": 1,
    }.items():  # fmt: skip
        set_leaf(folder, key, value)
    return folder


def set_entry(project: Path, url: str, *, in_place: bool) -> None:
    manifest = "data/local/leaves/manifest.csv"
    entry = {
        "title": "Leaves", "license": "", "citation": "", "urls": [url],
        "files": {"in_place": manifest} if in_place else manifest,
        "format": {"kind": "image_folder"},
    }  # fmt: skip
    (project / "data/catalog.yaml").write_text(format_yaml({"leaves": entry}))


def hash_records(project: Path, **environment: str) -> dict[str, str]:
    run(project, "fetch", **environment)
    run(project, "preprocess", **environment)
    return hash_files(project / "data" / "records") | hash_files(project / "metrics")


def test_records_from_s3_are_the_records_of_a_copy(project: Path) -> None:
    set_entry(project, f"{project.parent}/archives", in_place=False)
    expected = hash_records(project, DATASET_MIRROR="")
    assert len([name for name in expected if name.endswith(".tfrecord")]) > 3
    set_entry(project, f"s3://{BUCKET}/leaves", in_place=True)
    for workers in ("1", "3"):
        assert hash_records(project, IMGPIPE_WORKERS=workers) == expected
    assert [path.name for path in (project / "data/raw").iterdir()] == ["manifest.csv"]


def test_what_is_wrong_at_an_address_is_one_line(project: Path, s3: Any) -> None:
    set_entry(project, f"s3://{BUCKET}/other", in_place=True)
    assert attempt(project, "fetch").stderr == (
        "error: part-0.zip: expected a file of"
        f" {(project.parent / 'archives/part-0.zip').stat().st_size} bytes, as the catalog says;"
        f" s3://{BUCKET}/other/part-0.zip: no such file\n"
    )
    s3.copy(f"{BUCKET}/leaves/", f"{BUCKET}/other/", recursive=True)
    run(project, "fetch")
    content = bytearray(s3.cat_file(f"{BUCKET}/other/part-2.tar"))
    content[-1] ^= 1
    s3.pipe_file(f"{BUCKET}/other/part-2.tar", bytes(content))
    result = attempt(project, "preprocess")
    assert result.returncode == 1
    assert result.stderr.startswith(f"error: s3://{BUCKET}/other/part-2.tar: expected SHA-256 ")
    assert result.stderr.count("\n") == 1


# DVC's remote.


def test_a_machine_without_the_data_runs_only_the_stages_that_changed(
    finished: Path, tmp_path: Path, s3: Any
) -> None:
    original = copy_project(finished, tmp_path / "original")
    s3.mkdir("storage")
    dvc(original, "remote", "add", "--default", "store", "s3://storage/imgpipe")
    dvc(original, "remote", "modify", "store", "endpointurl", os.environ["AWS_ENDPOINT_URL"])
    git(original, "add", "--all")
    git(original, "commit", "--quiet", "--message", "run")
    assert "pushed" in dvc(original, "push")

    git(tmp_path, "clone", "--quiet", "original", "clone")
    clone = tmp_path / "clone"
    repro = ("repro", "--pull", "--allow-missing", "augment")
    assert stages_run(dvc(clone, *repro)) == []
    assert not (clone / "data/records").exists()  # nothing ran, so nothing was needed
    set_leaf(clone, "augment.copies", 2)
    assert stages_run(dvc(clone, *repro)) == ["augment"]
    assert hash_files(clone / "data/records") == hash_files(original / "data/records")
    assert not (clone / "data/raw").exists()

    git(clone, "checkout", "--quiet", ".")
    dvc(clone, "pull", "augment", "--with-deps")
    for name in ("raw", "records", "augmented"):
        assert hash_files(clone / "data" / name) == hash_files(original / "data" / name)
    assert dvc(clone, "status", "augment").startswith("Data and pipelines are up to date")


def test_a_file_of_the_remote_is_imported(tmp_path: Path, s3: Any) -> None:
    folder = make_copy(tmp_path / "project")
    s3.pipe_file(f"{BUCKET}/inbox/notes.txt", b"first")
    dvc(folder, "remote", "add", "store", f"s3://{BUCKET}/inbox")
    dvc(folder, "remote", "modify", "store", "endpointurl", os.environ["AWS_ENDPOINT_URL"])
    dvc(folder, "import-url", "remote://store/notes.txt", "data/local/notes.txt")
    assert (folder / "data/local/notes.txt").read_bytes() == b"first"
    s3.pipe_file(f"{BUCKET}/inbox/notes.txt", b"second")
    dvc(folder, "update", "data/local/notes.txt.dvc")
    assert (folder / "data/local/notes.txt").read_bytes() == b"second"
    shutil.rmtree(folder)
