import contextlib
import io
import pickle
import stat
import struct
import tarfile
import tracemalloc
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from support import find_error

from imgpipe.archives import members as archives
from imgpipe.archives.addresses import LocalFile
from imgpipe.archives.members import open_archive
from imgpipe.core.errors import PipelineError, UnreadableImageError

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


class Opened:
    """An archive and the list of its members; another process can get it."""

    def __init__(self, path: Path, scratch: Path) -> None:
        self._archive = open_archive(LocalFile(path, path.as_posix()), scratch)
        self._members = list(self._archive.list_members())
        self.names = [member.name for member in self._members]

    def read(self, number: int) -> bytes:
        return self._archive.read(self._members[number])

    def close(self) -> None:
        self._archive.file.close()


@contextlib.contextmanager
def open_path(path: Path, scratch: Path) -> Iterator[Opened]:
    with contextlib.closing(Opened(path, scratch)) as archive:
        yield archive


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
    with open_path(tmp_path / name, scratch) as archive:
        assert list(archive.names) == ["top/", *FILES]
        for number in reversed(range(1, 1 + len(FILES))):  # in any order
            assert archive.read(number) == FILES[archive.names[number]]
        elsewhere = pickle.loads(pickle.dumps(archive))  # as another process gets it
        assert elsewhere.read(1) == b"first"
        elsewhere.close()
    assert all(path.name == f"{name}.unpacked" for path in scratch.iterdir())


@pytest.mark.parametrize("name", ["deflated.zip", "pax.tar"])
def test_an_archive_is_opened_once_by_each_process(
    tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    WRITERS[name](tmp_path / name)
    with open_path(tmp_path / name, tmp_path) as archive:
        assert archive.read(1) == b"first"
        state = pickle.dumps(archive)
        opened: list[str] = []

        def note_and_open(path: Any, *arguments: Any, **options: Any) -> Any:
            opened.append(Path(path).name)
            return open(path, *arguments, **options)

        monkeypatch.setattr("io.open", note_and_open)
        assert archive.read(4) == b"umlaut"
        assert opened == []
        elsewhere = pickle.loads(state)
        for number in range(1, 1 + len(FILES)):
            elsewhere.read(number)
        assert opened == [name]
        elsewhere.close()
        archive.close()
        assert archive.read(1) == b"first"  # opened again


def test_more_than_65535_members_are_read_by_zip64(tmp_path: Path) -> None:
    path = tmp_path / "many.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as target:
        for number in range(70_000):
            target.writestr(zipfile.ZipInfo(f"{number}.txt"), b"%d" % number)
    with open_path(path, tmp_path) as archive:
        assert len(archive.names) == 70_000
        assert (archive.names[66_666], archive.read(66_666)) == ("66666.txt", b"66666")


def test_zip64_sizes_and_comments_are_read(tmp_path: Path) -> None:
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
    with open_path(path, tmp_path) as archive:
        assert (list(archive.names), archive.read(0)) == (["a.txt"], b"hello")


# What may be wrong with an archive.


def read_all(path: Path) -> None:
    with open_path(path, path.parent) as archive:
        for number, name in enumerate(archive.names):
            assert ".." not in name.split("/")
            if not name.endswith("/"):
                archive.read(number)


def error_of(path: Path) -> str:
    return find_error(read_all, path).removeprefix(path.as_posix())


def reason_of(path: Path) -> str:
    with open_path(path, path.parent) as archive:
        assert len(archive.names) == 1
        with pytest.raises(UnreadableImageError) as caught:
            archive.read(0)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def change_number(
    path: Path, header: bytes, offset: int, kind: str, change: Callable[[int], int]
) -> None:
    """Change a number in the last header of a kind."""
    content = bytearray(path.read_bytes())
    place = content.rfind(header) + offset
    struct.pack_into(kind, content, place, change(*struct.unpack_from(kind, content, place)))
    path.write_bytes(content)


def test_a_file_that_is_no_archive_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.zip"
    assert error_of(path) == ": not found; run `dvc repro fetch`"
    for content in (b"", b"<html>" * 1000):
        path.write_bytes(content)
        assert error_of(path) == ": expected a zip or tar archive; found neither"


@pytest.mark.parametrize(
    "name", ["../evil.jpg", "a/../../evil.jpg", "/etc/evil.jpg", "..\\evil.jpg", "C:\\evil.jpg"]
)
def test_a_member_that_leads_out_of_the_archive_is_refused(tmp_path: Path, name: str) -> None:
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as target:
        target.writestr("good.jpg", b"x")
        target.writestr(name, b"x")
    assert ": refused: the member '" in error_of(tmp_path / "a.zip")
    with tarfile.open(tmp_path / "a.tar", "w") as tar:
        tar.addfile(tarfile.TarInfo(name))
    assert ": refused: the member '" in error_of(tmp_path / "a.tar")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.tar", "a.zip"]


@pytest.mark.parametrize(
    ("name", "shown"), [(b"a\nb.jpg", "a\\nb.jpg"), (b"a\0b.jpg", "a\\x00b.jpg")]
)
def test_control_characters_in_a_name_are_refused(tmp_path: Path, name: bytes, shown: str) -> None:
    path = tmp_path / "a.zip"
    with zipfile.ZipFile(path, "w") as target:
        target.writestr("a_b.jpg", b"x")
    path.write_bytes(path.read_bytes().replace(b"a_b.jpg", name))
    assert error_of(path).endswith(f"control characters in the name '{shown}'")


def list_names(path: Path) -> list[str]:
    with open_path(path, path.parent) as opened:
        return opened.names


def test_a_backslash_separates_folders_only_in_zip_archives_of_windows(tmp_path: Path) -> None:
    names = ["a\\x\\1.jpg", "a\\x\\", "a\\y/", "b/c\\2.jpg"]
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as target:
        for name in names:
            target.writestr(name, b"x")
    assert list_names(tmp_path / "a.zip") == ["a/x/1.jpg", "a/x/", "a/y/", "b/c/2.jpg"]
    with tarfile.open(tmp_path / "a.tar", "w") as tar:
        for name in [*names, "./a\\x/3.jpg"]:
            tar.addfile(tarfile.TarInfo(name))
    assert list_names(tmp_path / "a.tar") == [*names, "a\\x/3.jpg"]


def test_folders_with_a_backslash_in_a_zip_archive_are_refused(tmp_path: Path) -> None:
    """They would become one folder `a`, although their names come from another system."""
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as target:
        for name in ("a\\x/1.jpg", "a\\y/1.jpg"):
            target.writestr(name, b"x")
    assert error_of(tmp_path / "a.zip") == (
        ": refused: the name 'a\\\\x/1.jpg' separates folders by \\ and by /; make the archive"
        " again, with / only"
    )


def test_names_in_a_zip_archive_without_the_mark_of_utf8(tmp_path: Path) -> None:
    """Programs of macOS write UTF-8 without its mark; other programs write code page 437."""
    for written in (b"cafe\xcc\x81/1.jpg", b"caf\x82/1.jpg"):
        path = tmp_path / "a.zip"
        with zipfile.ZipFile(path, "w") as target:
            target.writestr("x" * len(written), b"x")  # plain letters have no mark
        path.write_bytes(path.read_bytes().replace(b"x" * len(written), written))
        encoding = "utf-8" if b"\xcc" in written else "cp437"
        assert list_names(path) == [written.decode(encoding)]
        with open_path(path, tmp_path) as opened:
            assert opened.read(0) == b"x"


def test_names_in_a_tar_archive_that_are_not_utf8_stay_distinct(tmp_path: Path) -> None:
    with tarfile.open(
        tmp_path / "a.tar", "w", format=tarfile.GNU_FORMAT, encoding="latin-1"
    ) as tar:
        for name in ("caf\xe9/1.jpg", "caf\xe8/1.jpg"):
            tar.addfile(tarfile.TarInfo(name))
    assert list_names(tmp_path / "a.tar") == ["caf\\xe9/1.jpg", "caf\\xe8/1.jpg"]


@pytest.mark.parametrize(
    ("kind", "reason"),
    [
        (tarfile.SYMTYPE, "a link; links in archives are not followed"),
        (tarfile.LNKTYPE, "a link; links in archives are not followed"),
        (tarfile.FIFOTYPE, "not a regular file"),
    ],
)
def test_links_and_devices_in_a_tar_archive_are_not_read(
    tmp_path: Path, kind: bytes, reason: str
) -> None:
    member = tarfile.TarInfo("a.jpg")
    member.type, member.linkname = kind, "/etc/passwd"
    with tarfile.open(tmp_path / "a.tar", "w") as tar:
        tar.addfile(member)
    assert reason_of(tmp_path / "a.tar") == reason


def test_links_in_a_zip_archive_are_not_followed(tmp_path: Path) -> None:
    member = zipfile.ZipInfo("a.jpg")
    member.create_system, member.external_attr = 3, (stat.S_IFLNK | 0o777) << 16
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as target:
        target.writestr(member, b"/etc/passwd")
    assert reason_of(tmp_path / "a.zip") == "a link; links in archives are not followed"


def test_a_member_that_expands_past_the_limit_is_refused(
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


@pytest.mark.parametrize("declared_bytes", [10, 200_000_000])
def test_a_member_of_another_size_than_declared_is_refused(
    tmp_path: Path, declared_bytes: int
) -> None:
    path = tmp_path / "a.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as target:
        target.writestr("a.jpg", bytes(100_000_000))
    change_number(path, b"PK\1\2", 24, "<I", lambda _: declared_bytes)
    tracemalloc.start()
    assert reason_of(path) == (
        f"damaged in the archive: not the {declared_bytes} bytes that it declares"
    )
    _, peak_bytes = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    if declared_bytes == 10:
        assert peak_bytes < 2_000_000  # it is not unpacked beyond its declared size


def test_a_packed_tar_archive_that_expands_past_the_limit_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(archives, "UNPACKED_LIMIT_FLOOR_BYTES", 1000)
    with tarfile.open(tmp_path / "a.tgz", "w:gz") as tar:
        member = tarfile.TarInfo("a.jpg")
        member.size = 10_000_000
        tar.addfile(member, io.BytesIO(bytes(member.size)))
    assert ": refused: " in error_of(tmp_path / "a.tgz")
    assert "unpack to more than" in error_of(tmp_path / "a.tgz")


@pytest.mark.parametrize(
    ("offset", "value", "reason"),
    [(8, 1, "encrypted"), (10, 14, "compression method 14 is not supported")],
)
def test_encrypted_members_and_unknown_compressions_are_refused(
    tmp_path: Path, offset: int, value: int, reason: str
) -> None:
    path = tmp_path / "a.zip"
    with zipfile.ZipFile(path, "w") as target:
        target.writestr("a.jpg", b"x")
    change_number(path, b"PK\1\2", offset, "<H", lambda _: value)
    assert reason_of(path) == reason


def test_a_damaged_member_is_reported(tmp_path: Path) -> None:
    path = tmp_path / "a.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as target:
        target.writestr("a.jpg", b"x" * 1000)
    content = bytearray(path.read_bytes())
    content[500] ^= 1
    path.write_bytes(content)
    assert reason_of(path) == "damaged in the archive: its checksum is another one"
    content[:4] = b"PK\3\3"
    path.write_bytes(content)
    assert reason_of(path) == "damaged in the archive: no header of a file where it should be"


def test_a_directory_at_another_place_than_declared_is_reported(tmp_path: Path) -> None:
    path = tmp_path / "a.zip"
    write_zip(path)
    change_number(path, b"PK\5\6", 12, "<I", lambda size_bytes: size_bytes + 10_000_000)
    assert error_of(path).startswith(": damaged zip archive: ")


def test_a_name_that_is_declared_as_utf8_and_is_not_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.zip"
    with zipfile.ZipFile(path, "w") as target:
        target.writestr("ü.jpg", b"x")
    path.write_bytes(path.read_bytes().replace("ü".encode(), b"\xff\xfe"))
    assert error_of(path).startswith(": damaged zip archive: ")


@pytest.mark.parametrize("name", [*WRITERS])
def test_cut_archives_are_reported(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    WRITERS[name](path)
    end = 1100 if name.endswith(".tar") else -40
    path.write_bytes(path.read_bytes()[:end])
    assert ": damaged " in error_of(path)


@pytest.mark.parametrize("name", ["deflated.zip", "gnu.tar", "pax.tar"])
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_every_damage_of_an_archive_is_reported_in_one_line(
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
