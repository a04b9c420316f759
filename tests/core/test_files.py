import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from imgpipe.core import files
from imgpipe.core.errors import PipelineError
from imgpipe.core.files import (
    read_json,
    replace_directory,
    replace_file,
    scratch_directory,
    write_csv,
    write_json,
)


def stop_after_writing(path: Path) -> None:
    path.write_text("half of the n")
    raise ZeroDivisionError


def test_replace_file_keeps_the_old_one_on_an_error(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_text("old")
    with pytest.raises(ZeroDivisionError), replace_file(path) as partial:
        stop_after_writing(partial)
    assert path.read_text() == "old"
    assert [entry.name for entry in tmp_path.iterdir()] == ["file"]


def test_replace_file_renames_the_temporary_file(tmp_path: Path) -> None:
    """A rename is one step; a reader could see a part of a copy."""
    path = tmp_path / "file"
    with replace_file(path) as partial:
        partial.write_text("new")
        written = partial.stat().st_ino
        assert not path.exists()
    assert path.stat().st_ino == written


def test_processes_that_share_a_file_write_temporary_files_of_their_own(tmp_path: Path) -> None:
    path = tmp_path / "file"
    with replace_file(path, shared=True) as first, replace_file(path, shared=True) as second:
        first.write_text("first")
        second.write_text("second")
    assert path.read_text() == "first"  # its block ended last
    assert [entry.name for entry in tmp_path.iterdir()] == ["file"]


def test_replace_directory_swaps_only_at_the_end(tmp_path: Path) -> None:
    path = tmp_path / "folder"
    with replace_directory(path) as partial:
        (partial / "a").write_text("1")
        assert not path.exists()
    with replace_directory(path) as partial:
        (partial / "b").write_text("2")
        assert (path / "a").exists()
    assert [entry.name for entry in path.iterdir()] == ["b"]


def test_replace_directory_keeps_the_old_one_on_an_error(tmp_path: Path) -> None:
    path = tmp_path / "folder"
    with replace_directory(path) as partial:
        (partial / "a").write_text("1")
    with pytest.raises(ZeroDivisionError), replace_directory(path) as partial:
        stop_after_writing(partial / "b")
    assert [entry.name for entry in path.iterdir()] == ["a"]
    assert [entry.name for entry in tmp_path.iterdir()] == ["folder"]


def test_replace_directory_deletes_the_rest_of_a_killed_process(tmp_path: Path) -> None:
    for name in ("folder.partial", "folder.replaced.partial"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "stale").write_text("1")
    with replace_directory(tmp_path / "folder"):
        pass
    assert [entry.name for entry in tmp_path.iterdir()] == ["folder"]
    assert list((tmp_path / "folder").iterdir()) == []


def test_replace_directory_never_shows_a_part_of_the_old_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A process that is killed while it deletes the old directory leaves the new one whole."""
    path = tmp_path / "folder"
    with replace_directory(path) as partial:
        (partial / "a").write_text("1")

    deleted: list[str] = []

    def stop(folder: Path) -> None:
        deleted.append(Path(folder).name)
        if any(Path(folder).iterdir()):
            raise ZeroDivisionError

    monkeypatch.setattr(shutil, "rmtree", stop)
    with pytest.raises(ZeroDivisionError), replace_directory(path) as partial:
        (partial / "b").write_text("2")
    assert deleted == ["folder.replaced.partial"]
    assert [entry.name for entry in path.iterdir()] == ["b"]


@pytest.mark.parametrize("kind", ["file", "link"])
def test_replace_directory_replaces_a_file_or_a_dangling_link(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "folder"
    if kind == "file":
        path.write_text("1")
    else:
        path.symlink_to("missing")
    with replace_directory(path):
        pass
    assert list(path.iterdir()) == []
    assert [entry.name for entry in tmp_path.iterdir()] == ["folder"]


def test_the_scratch_directory_is_deleted_at_the_end(tmp_path: Path) -> None:
    with scratch_directory(tmp_path / "scratch") as scratch:
        (scratch / "a").write_text("1")
    assert list(tmp_path.iterdir()) == []


def test_json_has_stable_bytes_and_reads_back(tmp_path: Path) -> None:
    path = tmp_path / "value.json"
    write_json(path, {"b": 1, "a": [0.5, "ä"]})
    assert path.read_bytes() == '{\n  "b": 1,\n  "a": [\n    0.5,\n    "ä"\n  ]\n}\n'.encode()
    assert read_json(path) == {"b": 1, "a": [0.5, "ä"]}


def test_json_refuses_nan(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="JSON"):
        write_json(tmp_path / "value.json", {"a": float("nan")})
    assert list(tmp_path.iterdir()) == []


def test_the_error_for_missing_json_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(PipelineError, match=r"info\.json: not found; `dvc repro`"):
        read_json(tmp_path / "info.json")


def test_csv_has_unix_line_ends(tmp_path: Path) -> None:
    path = tmp_path / "table.csv"
    write_csv(path, ["name", "value"], [["a,b", 1], ["c", 0.5]])
    assert path.read_bytes() == b'name,value\n"a,b",1\nc,0.5\n'


def test_json_that_is_not_json_is_reported(tmp_path: Path) -> None:
    path = tmp_path / "info.json"
    path.write_text("{")
    with pytest.raises(PipelineError, match=r"info\.json: not valid JSON: .*; run `dvc repro`"):
        read_json(path)


@pytest.fixture
def calls(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Every flush, rename and new directory, in their order, with paths from the test's folder."""
    seen: list[str] = []
    paths: dict[int, str] = {}
    sync, replace, open_, mkdir = os.fsync, os.replace, os.open, os.mkdir

    def name(path: object) -> str:
        return os.path.relpath(str(path), tmp_path)

    def record_open(path: object, *arguments: int, **keywords: int) -> int:
        descriptor = open_(str(path), *arguments, **keywords)
        paths[descriptor] = name(path)
        return descriptor

    def record_sync(descriptor: int) -> None:
        seen.append(f"flush {paths[descriptor]}")
        sync(descriptor)

    def record_replace(source: object, target: object) -> None:
        seen.append(f"rename {name(source)} to {name(target)}")
        replace(str(source), str(target))

    def record_mkdir(path: object, *arguments: int) -> None:
        mkdir(str(path), *arguments)
        seen.append(f"make {name(path)}")

    monkeypatch.setattr(os, "open", record_open)
    monkeypatch.setattr(os, "fsync", record_sync)
    monkeypatch.setattr(os, "replace", record_replace)
    monkeypatch.setattr(os, "mkdir", record_mkdir)
    return seen


def test_a_file_is_flushed_renamed_and_its_name_flushed(tmp_path: Path, calls: list[str]) -> None:
    write_json(tmp_path / "a.json", 1)
    assert calls == ["flush a.json.partial", "rename a.json.partial to a.json", "flush ."]


def test_new_parent_directories_are_flushed(tmp_path: Path, calls: list[str]) -> None:
    write_json(tmp_path / "a" / "b" / "c.json", 1)
    assert calls[:4] == ["make a", "flush .", "make a/b", "flush a"]
    assert calls[-1] == "flush a/b"


def test_a_file_that_is_not_complete_is_not_renamed(tmp_path: Path, calls: list[str]) -> None:
    with pytest.raises(ZeroDivisionError), replace_file(tmp_path / "a") as partial:
        stop_after_writing(partial)
    assert calls == []


def test_a_directory_is_flushed_with_everything_in_it_before_its_rename(
    tmp_path: Path, calls: list[str]
) -> None:
    def replace() -> tuple[list[str], list[str]]:
        """Return the flushes before the first rename, and the calls from there."""
        with replace_directory(tmp_path / "d") as partial:
            (partial / "x").write_text("1")
            (partial / "sub").mkdir()
            (partial / "sub" / "y").write_text("2")
            (partial / "sub" / "empty").mkdir()
            calls.clear()
        first_rename = [call.startswith("rename") for call in calls].index(True)
        return sorted(calls[:first_rename]), calls[first_rename:]

    everything = [f"flush d.partial{name}" for name in ("", "/sub", "/sub/empty", "/sub/y", "/x")]
    assert replace() == (everything, ["rename d.partial to d", "flush ."])
    assert replace() == (
        everything,
        ["rename d to d.replaced.partial", "rename d.partial to d", "flush ."],
    )


class Disk:
    """A file system of its own whose power can be cut."""

    def __init__(self, folder: Path) -> None:
        self._image, self._copy = folder / "image", folder / "copy"
        self.path, self._seen = folder / "disk", folder / "seen"
        with self._image.open("wb") as stream:
            stream.truncate(8 << 20)
        subprocess.run(["mkfs.ext4", "-q", self._image], check=True)
        self.path.mkdir()
        self._seen.mkdir()
        self._mount(self._image, self.path)

    @staticmethod
    def _mount(image: Path, folder: Path) -> None:
        subprocess.run(["mount", "-o", "loop", image, folder], check=True, capture_output=True)

    def cut_power(self) -> dict[str, bytes]:
        """Return the files that are on the disk now, as after a power cut and a restart."""
        shutil.copyfile(self._image, self._copy)
        self._mount(self._copy, self._seen)
        try:
            return {
                file.relative_to(self._seen).as_posix(): file.read_bytes()
                for file in self._seen.rglob("*")
                if file.is_file()
            }
        finally:
            subprocess.run(["umount", self._seen], check=True)

    def remove(self) -> None:
        subprocess.run(["umount", self.path], check=True)


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Disk]:
    """A small ext4 file system in a file."""
    if not shutil.which("mkfs.ext4") or not hasattr(os, "geteuid") or os.geteuid() != 0:
        pytest.skip("mounting a file system takes root and mkfs.ext4")
    try:
        disk = Disk(tmp_path)
    except subprocess.CalledProcessError as error:
        pytest.skip(f"no file system can be mounted here: {error.stderr}")
    yield disk
    disk.remove()


CONTENT = bytes(range(256)) * 400


def test_a_power_cut_leaves_whole_files(disk: Disk) -> None:
    with replace_file(disk.path / "new" / "file") as partial:
        partial.write_bytes(CONTENT)
    assert disk.cut_power() == {"new/file": CONTENT}
    with replace_file(disk.path / "new" / "file") as partial:
        partial.write_bytes(CONTENT[::-1])
        assert disk.cut_power()["new/file"] == CONTENT
    assert disk.cut_power() == {"new/file": CONTENT[::-1]}


def test_a_power_cut_leaves_whole_directories(disk: Disk) -> None:
    for number in (1, 2):
        with replace_directory(disk.path / "new" / "folder") as partial:
            (partial / "sub").mkdir()
            (partial / "a").write_bytes(CONTENT)
            (partial / "sub" / f"b{number}").write_bytes(CONTENT)
        found = disk.cut_power()
        # The old directory is deleted last, so the disk may still have it under another name.
        found = {name: data for name, data in found.items() if ".replaced." not in name}
        assert found == {"new/folder/a": CONTENT, f"new/folder/sub/b{number}": CONTENT}


def test_a_power_cut_without_a_flush_leaves_no_or_an_empty_file(
    disk: Disk, monkeypatch: pytest.MonkeyPatch
) -> None:
    """This shows that the tests above can detect a missing flush."""
    monkeypatch.setattr(files, "_sync", lambda _: None)
    with replace_file(disk.path / "file") as partial:
        partial.write_bytes(CONTENT)
    assert not disk.cut_power().get("file")
