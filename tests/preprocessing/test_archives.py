import contextlib
import io
import os
import pickle
import stat
import struct
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import IO

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from imgpipe.core.errors import PipelineError, UnreadableImageError
from imgpipe.datasets.packing import pack_folder
from imgpipe.preprocessing import archives
from imgpipe.preprocessing.archives import open_archive

FILES = {
    "top/one/a.txt": b"first",
    "top/one/b.txt": b"",
    "top/two/" + 60 * "long/" + "c.txt": bytes(range(256)) * 100,
    "top/two/ü €.txt": b"umlaut",
}


def write_zip(path: Path, method: int = zipfile.ZIP_DEFLATED) -> None:
    with zipfile.ZipFile(path, "w", method) as archive:
        archive.writestr("top/", b"")
        for name, content in FILES.items():
            archive.writestr(name, content)


def write_tar(path: Path, mode: str, tar_format: int = tarfile.PAX_FORMAT) -> None:
    with tarfile.open(path, mode, format=tar_format) as archive:  # type: ignore[call-overload]
        folder = tarfile.TarInfo("top")
        folder.type = tarfile.DIRTYPE
        archive.addfile(folder)
        for name, content in FILES.items():
            member = tarfile.TarInfo(f"./{name}")
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))


WRITERS: dict[str, Callable[[Path], None]] = {
    "deflated.zip": write_zip,
    "stored.zip": lambda path: write_zip(path, zipfile.ZIP_STORED),
    "pax.tar": lambda path: write_tar(path, "w"),
    "gnu.tar": lambda path: write_tar(path, "w", tarfile.GNU_FORMAT),
    "packed.tgz": lambda path: write_tar(path, "w:gz"),
    "packed.tar.bz2": lambda path: write_tar(path, "w:bz2"),
    "packed.tar.xz": lambda path: write_tar(path, "w:xz"),
}


@pytest.mark.parametrize("name", WRITERS)
def test_members_are_read_in_place(tmp_path: Path, name: str) -> None:
    WRITERS[name](tmp_path / name)
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    archive = open_archive(tmp_path / name, scratch)
    found = dict(archive.scan())
    assert list(found.values()) == ["top/", *FILES]
    files = [position for position, member in found.items() if not member.endswith("/")]
    for position in reversed(files):  # in any order
        assert archive.names_at([position]) == [found[position]]
        assert archive.read_at(position) == (found[position], FILES[found[position]])
    elsewhere = pickle.loads(pickle.dumps(archive))  # as another process gets it
    assert elsewhere.read_at(files[0])[1] == b"first"
    assert all(path.name == "unpacked.tar" for path in scratch.iterdir())


def test_more_than_65535_members_need_zip64(tmp_path: Path) -> None:
    path = tmp_path / "many.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as target:
        for number in range(70_000):
            target.writestr(zipfile.ZipInfo(f"{number}.txt"), b"%d" % number)
    archive = open_archive(path, tmp_path)
    positions = [position for position, _ in archive.scan()]
    assert len(positions) == 70_000
    assert archive.read_at(positions[66_666]) == ("66666.txt", b"66666")


def test_zip64_sizes_and_comments(tmp_path: Path) -> None:
    """A zip64 field for each size, as other writers use it also for small members."""
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as target:
        with target.open("a.txt", "w", force_zip64=True) as member:
            member.write(b"hello")
        target.comment = b"a comment"
    content = bytearray(stream.getvalue())
    entry = content.rfind(b"PK\1\2")
    extra = struct.pack("<2H2Q", 1, 16, 5, 5)
    name_end = entry + 46 + len("a.txt")
    content[entry + 20 : entry + 28] = b"\xff" * 8  # both sizes stand in the extra field
    content[entry + 30 : entry + 32] = struct.pack("<H", len(extra))
    content[name_end:name_end] = extra
    end = content.rfind(b"PK\5\6")
    (directory_bytes,) = struct.unpack_from("<I", content, end + 12)
    struct.pack_into("<I", content, end + 12, directory_bytes + len(extra))
    path = tmp_path / "a.zip"
    path.write_bytes(content)
    archive = open_archive(path, tmp_path)
    ((position, name),) = archive.scan()
    assert name == "a.txt"
    assert archive.read_at(position) == ("a.txt", b"hello")


# What may be wrong with an archive.


def read_all(path: Path) -> None:
    archive = open_archive(path, path.parent)
    for position, name in archive.scan():
        assert ".." not in name.split("/")
        if not name.endswith("/"):
            archive.read_at(position)


def error_of(path: Path) -> str:
    with pytest.raises(PipelineError) as caught:
        read_all(path)
    message = str(caught.value)
    assert "\n" not in message
    return message.removeprefix(path.as_posix())


def reason_of(path: Path) -> str:
    archive = open_archive(path, path.parent)
    ((position, _),) = archive.scan()
    with pytest.raises(UnreadableImageError) as caught:
        archive.read_at(position)
    return str(caught.value)


def test_no_archive(tmp_path: Path) -> None:
    path = tmp_path / "a.zip"
    assert error_of(path) == ": not found; `dvc repro fetch` brings it"
    for content in (b"", b"<html>" * 1000):
        path.write_bytes(content)
        assert error_of(path) == ": expected a zip or tar archive; found neither"


@pytest.mark.parametrize(
    "name", ["../evil.jpg", "a/../../evil.jpg", "/etc/evil.jpg", "..\\evil.jpg", "C:\\evil.jpg"]
)
def test_a_member_that_leads_elsewhere_is_refused(tmp_path: Path, name: str) -> None:
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as target:
        target.writestr("good.jpg", b"x")
        target.writestr(name, b"x")
    assert ": refused: the member '" in error_of(tmp_path / "a.zip")
    with tarfile.open(tmp_path / "a.tar", "w") as tar:
        tar.addfile(tarfile.TarInfo(name))
    assert ": refused: the member '" in error_of(tmp_path / "a.tar")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.tar", "a.zip"]


def test_control_characters_in_a_name_are_refused(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as target:
        target.writestr("a\nb.jpg", b"x")
    assert error_of(tmp_path / "a.zip").endswith("control characters in the name 'a\\nb.jpg'")


@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE])
def test_links_in_a_tar_archive_are_not_followed(tmp_path: Path, kind: bytes) -> None:
    member = tarfile.TarInfo("a.jpg")
    member.type, member.linkname = kind, "/etc/passwd"
    with tarfile.open(tmp_path / "a.tar", "w") as tar:
        tar.addfile(member)
    assert reason_of(tmp_path / "a.tar") == "a link; links in archives are not followed"


def test_devices_in_a_tar_archive_are_not_read(tmp_path: Path) -> None:
    member = tarfile.TarInfo("a.jpg")
    member.type = tarfile.FIFOTYPE
    with tarfile.open(tmp_path / "a.tar", "w") as tar:
        tar.addfile(member)
    assert reason_of(tmp_path / "a.tar") == "not a regular file"


def test_links_in_a_zip_archive_are_not_followed(tmp_path: Path) -> None:
    member = zipfile.ZipInfo("a.jpg")
    member.create_system, member.external_attr = 3, (stat.S_IFLNK | 0o777) << 16
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as target:
        target.writestr(member, b"/etc/passwd")
    assert reason_of(tmp_path / "a.zip") == "a link; links in archives are not followed"


def test_a_member_that_expands_past_the_limit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(archives, "MEMBER_LIMIT_BYTES", 1000)
    with zipfile.ZipFile(tmp_path / "a.zip", "w", zipfile.ZIP_DEFLATED) as target:
        target.writestr("a.jpg", bytes(100_000))
    assert (tmp_path / "a.zip").stat().st_size < 1000
    expected = "expands to 100000 bytes, more than the limit of 1000"
    assert reason_of(tmp_path / "a.zip") == expected
    with tarfile.open(tmp_path / "a.tgz", "w:gz") as tar:
        member = tarfile.TarInfo("a.jpg")
        member.size = 100_000
        tar.addfile(member, io.BytesIO(bytes(100_000)))
    assert reason_of(tmp_path / "a.tgz") == expected


def test_a_member_that_lies_about_its_size(tmp_path: Path) -> None:
    path = tmp_path / "a.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as target:
        target.writestr("a.jpg", bytes(100_000_000))
    content = bytearray(path.read_bytes())
    struct.pack_into("<I", content, content.rfind(b"PK\1\2") + 24, 10)  # says: 10 bytes
    path.write_bytes(content)
    assert reason_of(path) == "damaged in the archive: not the 10 bytes that it declares"


def test_a_packed_tar_archive_that_expands_past_the_limit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(archives, "UNPACKED_LIMIT_FLOOR_BYTES", 1000)
    with tarfile.open(tmp_path / "a.tgz", "w:gz") as tar:
        member = tarfile.TarInfo("a.jpg")
        member.size = 10_000_000
        tar.addfile(member, io.BytesIO(bytes(member.size)))
    assert ": refused: " in error_of(tmp_path / "a.tgz")
    assert "unpack to more than" in error_of(tmp_path / "a.tgz")


def test_encrypted_and_strangely_compressed_members(tmp_path: Path) -> None:
    path = tmp_path / "a.zip"
    for offset, value, reason in (
        (8, 1, "encrypted"),
        (10, 14, "compression method 14 is not supported"),
    ):
        with zipfile.ZipFile(path, "w") as target:
            target.writestr("a.jpg", b"x")
        content = bytearray(path.read_bytes())
        struct.pack_into("<H", content, content.rfind(b"PK\1\2") + offset, value)
        path.write_bytes(content)
        assert reason_of(path) == reason


def test_a_damaged_member(tmp_path: Path) -> None:
    path = tmp_path / "a.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as target:
        target.writestr("a.jpg", b"x" * 1000)
    content = bytearray(path.read_bytes())
    content[500] ^= 1
    path.write_bytes(content)
    assert reason_of(path) == "damaged in the archive: wrong checksum"
    content[:4] = b"PK\3\3"
    path.write_bytes(content)
    assert "no header where it should be" in reason_of(path)


def test_a_directory_that_counts_wrongly(tmp_path: Path) -> None:
    path = tmp_path / "a.zip"
    write_zip(path)
    content = bytearray(path.read_bytes())
    struct.pack_into("<H", content, content.rfind(b"PK\5\6") + 10, len(FILES))  # one less
    path.write_bytes(content)
    assert error_of(path) == ": damaged zip archive: its directory does not end where it says"


def test_archives_that_are_cut_short(tmp_path: Path) -> None:
    for name in ("deflated.zip", "packed.tgz", "packed.tar.xz", "packed.tar.bz2"):
        path = tmp_path / name
        WRITERS[name](path)
        path.write_bytes(path.read_bytes()[:-40])
        assert ": damaged " in error_of(path)
    path = tmp_path / "pax.tar"
    write_tar(path, "w")
    path.write_bytes(path.read_bytes()[:1100])
    assert ": damaged tar archive" in error_of(path)


@pytest.mark.parametrize("name", ["deflated.zip", "gnu.tar", "pax.tar"])
@settings(
    max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(data=st.data())
def test_whatever_is_wrong_with_an_archive_is_said(
    tmp_path: Path, name: str, data: st.DataObject
) -> None:
    """Damage at random places is read over or gives one of two errors, never another."""
    path = tmp_path / name
    WRITERS[name](path)
    content = bytearray(path.read_bytes())
    tail = min(1200, len(content))  # the directory of a zip archive is at its end
    for _ in range(data.draw(st.integers(1, 4))):
        place = data.draw(st.integers(0, tail - 1))
        content[-place if name.endswith("zip") else place] = data.draw(st.integers(0, 255))
    path.write_bytes(content)
    with contextlib.suppress(PipelineError, UnreadableImageError):
        read_all(path)


# Packing a folder.


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    top = tmp_path / "images"
    for name, content in FILES.items():
        (top / name).parent.mkdir(parents=True, exist_ok=True)
        (top / name).write_bytes(content)
    return top


def test_a_packed_folder_holds_its_files_in_order(folder: Path, tmp_path: Path) -> None:
    (folder / "top" / "empty").mkdir()
    for litter in (".DS_Store", "Thumbs.db", "desktop.ini", "__MACOSX/x.jpg", ".git/config"):
        (folder / litter).parent.mkdir(exist_ok=True)
        (folder / litter).write_bytes(b"litter")
    assert pack_folder(folder, tmp_path / "a.zip") == len(FILES)
    archive = open_archive(tmp_path / "a.zip", tmp_path)
    members = [name for _, name in archive.scan()]
    assert members == sorted(members)
    assert "top/empty/" in members
    assert {name for name in members if not name.endswith("/")} == set(FILES)
    with zipfile.ZipFile(tmp_path / "a.zip") as opened:
        assert opened.testzip() is None
        assert {name: opened.read(name) for name in FILES} == FILES


def test_packing_gives_the_same_bytes_whenever_and_wherever(folder: Path, tmp_path: Path) -> None:
    pack_folder(folder, tmp_path / "a.zip")
    elsewhere = tmp_path / "elsewhere"
    folder.rename(elsewhere)
    for path in elsewhere.rglob("*"):
        os.utime(path, (1, 1))
        path.chmod(0o700)
    pack_folder(elsewhere, tmp_path / "b.zip")
    assert (tmp_path / "a.zip").read_bytes() == (tmp_path / "b.zip").read_bytes()


def test_links_to_files_are_followed_and_links_to_folders_refused(
    folder: Path, tmp_path: Path
) -> None:
    (folder / "link.txt").symlink_to(folder / "top/one/a.txt")
    pack_folder(folder, tmp_path / "a.zip")
    with zipfile.ZipFile(tmp_path / "a.zip") as opened:
        assert opened.read("link.txt") == b"first"
    (folder / "more").symlink_to(tmp_path)
    with pytest.raises(PipelineError, match="more: a link to a folder, whose changes DVC does not"):
        pack_folder(folder, tmp_path / "a.zip")
    (folder / "more").unlink()
    (tmp_path / "link").symlink_to(folder)
    with pytest.raises(PipelineError, match="link: a link to a folder, whose changes DVC does not"):
        pack_folder(tmp_path / "link", tmp_path / "a.zip")


def test_what_cannot_be_packed_is_said(folder: Path, tmp_path: Path) -> None:
    (folder / "broken.txt").symlink_to(tmp_path / "nowhere")
    with pytest.raises(PipelineError, match=r"broken.txt: No such file or directory"):
        pack_folder(folder, tmp_path / "a.zip")
    (folder / "broken.txt").unlink()
    (folder / os.fsdecode(b"latin-\xe4.txt")).write_bytes(b"x")
    with pytest.raises(PipelineError, match="the name is not UTF-8; rename the file"):
        pack_folder(folder, tmp_path / "a.zip")


def test_a_missing_and_an_empty_folder(tmp_path: Path) -> None:
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

    def copy_and_add(source: IO[bytes], target: IO[bytes]) -> None:
        target.write(source.read())
        (folder / "a" / "2.txt").write_text("two")

    monkeypatch.setattr("imgpipe.archives.shutil.copyfileobj", copy_and_add)
    with pytest.raises(PipelineError, match="images: changed while it was read; run it again"):
        archives.pack_folder(folder, tmp_path / "images.zip")
