import gc
import os
import tracemalloc
import zipfile
from pathlib import Path
from typing import IO, Any

import pytest

from imgpipe.archives.folders import is_litter, pack_folder
from imgpipe.core.errors import PipelineError

FILES = {
    "top/one/a.txt": b"first",
    "top/one/b.txt": b"",
    "top/two/" + 60 * "long/" + "c.txt": bytes(range(256)) * 100,
    "top/two/ü €.txt": b"umlaut",
}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    top = tmp_path / "images"
    for name, content in FILES.items():
        (top / name).parent.mkdir(parents=True, exist_ok=True)
        (top / name).write_bytes(content)
    return top


def test_a_packed_folder_holds_its_files_in_order(folder: Path, tmp_path: Path) -> None:
    (folder / "top" / "empty").mkdir()
    for litter in (".DS_Store", "THUMBS.DB", "Icon\r", "__MACOSX/x.jpg", ".git/config", "a.txt~"):
        (folder / litter).parent.mkdir(exist_ok=True)
        (folder / litter).write_bytes(b"litter")
    os.mkfifo(folder / "top" / "pipe")
    (folder / os.fsdecode(b".latin-\xe4")).write_bytes(b"litter")
    assert pack_folder(folder, tmp_path / "a.zip") == (len(FILES), 8)
    with zipfile.ZipFile(tmp_path / "a.zip") as opened:
        members = opened.namelist()
        assert members == sorted(members)
        assert "top/empty/" in members
        assert {name for name in members if not name.endswith("/")} == set(FILES)
        assert opened.testzip() is None
        assert {name: opened.read(name) for name in FILES} == FILES


SYSTEM_FILES = [
    ".DS_Store", "oak/.ds_store", "oak/Thumbs.db", "THUMBS.DB", "ehthumbs.db",
    "oak/ehthumbs_vista.db", "Desktop.ini", "oak/Icon\r", "oak/._photo.jpg", ".picasa.ini",
    "Picasa.ini", "__MACOSX/oak/a.jpg", "__macosx/", "@eaDir/a.jpg/small.jpg",
    "oak/@EADIR/a.jpg", "$RECYCLE.BIN/a.jpg", "System Volume Information/x", "lost+found/",
    "oak/a.jpg~", "oak/a.TMP", "oak/IMG_1.AAE", "oak/a.xmp", ".git/config", ".ipynb/a.jpg",
]  # fmt: skip
OTHER_FILES = [
    "oak/a.jpg", "oak/icon", "oak/Icon.png", "tmp/a.jpg", "oak~/", "oak~/a.jpg", "a.tmp/b.jpg",
    "thumbs.db.jpg", "oak/IMG_1.heic", "oak/notes.txt", "oak/_a.jpg",
]  # fmt: skip


def test_system_files_are_known_in_upper_and_lower_case() -> None:
    assert [name for name in SYSTEM_FILES if not is_litter(name)] == []
    assert [name for name in OTHER_FILES if is_litter(name)] == []


def test_packing_gives_the_same_bytes_at_any_time_and_place(folder: Path, tmp_path: Path) -> None:
    pack_folder(folder, tmp_path / "a.zip")
    elsewhere = tmp_path / "elsewhere"
    folder.rename(elsewhere)
    for path in elsewhere.rglob("*"):
        os.utime(path, (1, 1))
        path.chmod(0o700)
    pack_folder(elsewhere, tmp_path / "b.zip")
    assert (tmp_path / "a.zip").read_bytes() == (tmp_path / "b.zip").read_bytes()


def test_the_memory_does_not_grow_with_the_number_of_files(tmp_path: Path) -> None:
    def measure_peak_bytes(files: int) -> int:
        folder = tmp_path / str(files)
        folder.mkdir()
        for number in range(files):
            (folder / f"{number}.jpg").write_bytes(b"x")
        gc.collect()
        tracemalloc.start()
        assert pack_folder(folder, tmp_path / "a.zip") == (files, 0)
        _, peak_bytes = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        return peak_bytes

    measure_peak_bytes(10)  # fills caches
    few, many = measure_peak_bytes(500), measure_peak_bytes(5_000)
    assert many - few < 4_500 * 4


def test_links_to_files_are_followed_and_links_to_folders_are_refused(
    folder: Path, tmp_path: Path
) -> None:
    (folder / "link.txt").symlink_to(folder / "top/one/a.txt")
    pack_folder(folder, tmp_path / "a.zip")
    with zipfile.ZipFile(tmp_path / "a.zip") as opened:
        assert opened.read("link.txt") == b"first"
    (folder / "more").symlink_to(tmp_path)
    with pytest.raises(PipelineError, match="more: a link to a folder; DVC does not see"):
        pack_folder(folder, tmp_path / "a.zip")
    (folder / "more").unlink()
    (tmp_path / "link").symlink_to(folder)
    with pytest.raises(PipelineError, match="link: a link to a folder; DVC does not see"):
        pack_folder(tmp_path / "link", tmp_path / "a.zip")


def test_a_file_that_cannot_be_packed_is_named(folder: Path, tmp_path: Path) -> None:
    (folder / "broken.txt").symlink_to(tmp_path / "nowhere")
    with pytest.raises(PipelineError) as caught:
        pack_folder(folder, tmp_path / "a.zip")
    assert str(caught.value) == (
        f"{folder.as_posix()}/broken.txt: a link to a file that does not exist; delete the link, or"
        " put the file there"
    )
    (folder / "broken.txt").unlink()
    (folder / os.fsdecode(b"latin-\xe4.txt")).write_bytes(b"x")
    with pytest.raises(PipelineError, match="the name is not UTF-8; rename the file"):
        pack_folder(folder, tmp_path / "a.zip")


@pytest.mark.parametrize("name", ["a\\1.txt", "top/a\\x/1.txt", "top/new\nline.txt", "\x1b.txt"])
def test_a_name_that_a_zip_archive_cannot_hold_is_refused(
    folder: Path, tmp_path: Path, name: str
) -> None:
    """With a backslash, `a\\x` and `a\\y` would be one folder `a` in the archive."""
    (folder / name).parent.mkdir(exist_ok=True)
    (folder / name).write_text("x")
    with pytest.raises(PipelineError, match="the name has a backslash or a control character; ren"):
        pack_folder(folder, tmp_path / "a.zip")


def test_a_missing_or_empty_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(PipelineError, match="no such folder; put a folder of images for each"):
        pack_folder(tmp_path / "none", tmp_path / "a.zip")
    (tmp_path / "empty" / "class").mkdir(parents=True)
    with pytest.raises(PipelineError, match="no files there; put a folder of images for each"):
        pack_folder(tmp_path / "empty", tmp_path / "a.zip")


def test_a_folder_that_changes_while_it_is_packed_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "images"
    (folder / "a").mkdir(parents=True)
    (folder / "a" / "1.txt").write_text("one")

    def copy_and_add(source: IO[bytes], target: IO[bytes], _: int) -> None:
        target.write(source.read())
        (folder / "a" / "2.txt").write_text("two")

    monkeypatch.setattr("imgpipe.archives.folders.shutil.copyfileobj", copy_and_add)
    with pytest.raises(
        PipelineError, match="images: changed while it was read; run the stage again"
    ):
        pack_folder(folder, tmp_path / "images.zip")


def test_a_file_or_folder_that_cannot_be_read_is_named(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By simulated errors, because permissions do not stop the superuser."""
    refused = folder / "top" / "one" / "a.txt"
    real_open, real_scandir = open, os.scandir

    def refuse_open(path: str, *arguments: Any, **more: Any) -> Any:
        if Path(path) == refused:
            raise PermissionError(13, "Permission denied", path)
        return real_open(path, *arguments, **more)

    def refuse_scandir(path: str) -> Any:
        if Path(path) == refused.parent:
            raise PermissionError(13, "Permission denied", str(path))
        return real_scandir(path)

    with monkeypatch.context() as patched:
        patched.setattr("builtins.open", refuse_open)
        with pytest.raises(PipelineError) as caught:
            pack_folder(folder, tmp_path / "a.zip")
    assert str(caught.value) == (
        f"{refused.as_posix()}: cannot be read: Permission denied; change its permissions, or"
        " delete it"
    )
    with monkeypatch.context() as patched:
        patched.setattr(os, "scandir", refuse_scandir)
        with pytest.raises(PipelineError, match=r"top/one: cannot be read: Permission denied; "):
            pack_folder(folder, tmp_path / "a.zip")
