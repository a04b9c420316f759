"""Members of zip and tar archives, read in place: one at a time, nothing is ever unpacked to files.

A member is known by its position in the archive, one number, so that an index of a million members
is a small array. Python's `zipfile` keeps an object of half a kilobyte for each.

Formats: APPNOTE.TXT 6.3 (https://pkware.cachefly.net/webdocs/casestudies/APPNOTE.TXT) for zip,
stored and deflated members, zip64 too; `tarfile` for tar, plain or packed with gzip, bzip2 or xz.
"""

import bz2
import gzip
import lzma
import os
import re
import struct
import tarfile
import zlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, BinaryIO, Protocol

from imgpipe.core.errors import PipelineError, UnreadableImageError

MEMBER_LIMIT_BYTES = 256 << 20  # larger than any image file


UNPACKED_LIMIT_FACTOR = 200  # times the packed size: far beyond what images are packed by


UNPACKED_LIMIT_FLOOR_BYTES = 1 << 30


_PLAIN_NAME = re.compile(r"(?:[\w -][\w .-]*/)*(?:[\w -][\w .-]*)?")


_END = struct.Struct("<4s4H2IH")


_END64_LOCATOR = struct.Struct("<4sIQI")


_END64 = struct.Struct("<4sQ2H2I4Q")


_ENTRY = struct.Struct("<4s6H3I5H2I")


_LOCAL = struct.Struct("<4s5H3I2H")


_LARGEST_COMMENT_BYTES = 0xFFFF


_ENCRYPTED_FLAG, _UTF8_FLAG = 0x1, 0x800


_STORED, _DEFLATED = 0, 8


_UNIX = 3  # in "made by": the attributes are those of Unix


_LINK_TYPE, _TYPE_MASK = 0o120000, 0o170000


class Archive(Protocol):
    """An archive whose members are read in place. Can be sent to another process."""

    def scan(self) -> Iterator[tuple[int, str]]:
        """Yield the position and the name of each member, in their order; folders end with "/".

        Raises:
            PipelineError: the archive is damaged, or a name leads out of it.
        """

    def names_at(self, positions: Iterable[int]) -> list[str]:
        """Return the names of the files at positions that `scan` has told."""

    def read_at(self, position: int) -> tuple[str, bytes]:
        """Return the name and the content of the file at a position that `scan` has told.

        Raises:
            UnreadableImageError: it is a link, encrypted, damaged, or larger than
                `MEMBER_LIMIT_BYTES`.
        """


def open_archive(path: Path, scratch: Path) -> Archive:
    """Open a zip or tar archive, told apart by content.

    A packed tar archive can only be read from its beginning, so it is first unpacked, as one file,
    into the folder `scratch`.

    Raises:
        PipelineError: no such archive, or neither zip nor tar.
    """
    unpackers: dict[bytes, Any] = {
        b"\x1f\x8b": gzip.open,
        b"BZh": bz2.open,
        b"\xfd7zXZ\0": lzma.open,
    }
    with _open_file(path) as stream:
        start = stream.read(tarfile.BLOCKSIZE)
    if start.startswith(b"PK"):
        return ZipArchive(path, path.as_posix())
    for magic, unpacker in unpackers.items():
        if start.startswith(magic):
            unpacked = scratch / "unpacked.tar"
            _unpack(path, unpacker, unpacked)
            return TarArchive(unpacked, path.as_posix())
    if start[257:262] == b"ustar":
        return TarArchive(path, path.as_posix())
    raise PipelineError(f"{path.as_posix()}: expected a zip or tar archive; found neither")


def _open_file(path: Path, buffering: int = -1) -> BinaryIO:
    try:
        stream: BinaryIO = open(path, "rb", buffering)  # noqa: SIM115, the caller closes it
        return stream
    except FileNotFoundError:
        raise PipelineError(f"{path.as_posix()}: not found; `dvc repro fetch` brings it") from None


def _unpack(path: Path, unpacker: Any, target: Path) -> None:
    packed_bytes = path.stat().st_size
    limit_bytes = max(UNPACKED_LIMIT_FLOOR_BYTES, UNPACKED_LIMIT_FACTOR * packed_bytes)
    try:
        with unpacker(path, "rb") as source, target.open("wb") as stream:
            written_bytes = 0
            while chunk := source.read(1 << 20):
                written_bytes += len(chunk)
                if written_bytes > limit_bytes:
                    raise PipelineError(
                        f"{path.as_posix()}: refused: {packed_bytes} bytes unpack to more than"
                        f" {limit_bytes}"
                    )
                stream.write(chunk)
    except (OSError, EOFError, zlib.error, lzma.LZMAError) as error:
        raise PipelineError(f"{path.as_posix()}: damaged archive: {error}") from None


def _check_name(name: str, archive: str) -> str:
    """Return a member's name with "/" between its parts; refuse one that leads elsewhere."""
    if _PLAIN_NAME.fullmatch(name):  # nearly all; the rest of the checks is slow
        return name
    name = name.replace("\\", "/")
    path = PurePosixPath(name)
    if path.is_absolute() or ".." in path.parts or re.match("[A-Za-z]:/", path.as_posix()):
        raise PipelineError(f"{archive}: refused: the member {name!r} leads out of the archive")
    if any(ord(character) < 32 for character in name):
        raise PipelineError(f"{archive}: refused: control characters in the name {name!r}")
    return path.as_posix() + "/" * name.endswith("/")


@dataclass(frozen=True)
class _ZipMember:
    """One entry of a zip archive's central directory."""

    name: str
    flags: int
    method: int
    crc: int
    packed_bytes: int
    size_bytes: int
    mode: int
    header: int
    next_entry: int


@dataclass(frozen=True)
class ZipArchive:
    """A zip archive; the position of a member is that of its entry in the central directory."""

    path: Path
    shown_path: str
    """What errors call it."""

    def scan(self) -> Iterator[tuple[int, str]]:
        with _open_file(self.path) as stream:
            position, entries, end = self._find_directory(stream)
            for _ in range(entries):
                member = self._entry_at(position, stream)
                yield position, member.name
                position = member.next_entry
            if position != end:
                raise self._damaged("its directory does not end where it says")

    def names_at(self, positions: Iterable[int]) -> list[str]:
        with _open_file(self.path) as stream:
            return [self._entry_at(position, stream).name for position in positions]

    def read_at(self, position: int) -> tuple[str, bytes]:
        with _open_file(self.path, buffering=0) as stream:
            member = self._entry_at(position, stream)
            if member.mode & _TYPE_MASK == _LINK_TYPE:
                raise UnreadableImageError("a link; links in archives are not followed")
            if member.flags & _ENCRYPTED_FLAG:
                raise UnreadableImageError("encrypted")
            if member.method not in (_STORED, _DEFLATED):
                raise UnreadableImageError(f"compression method {member.method} is not supported")
            _check_size(member.size_bytes)
            _check_size(member.packed_bytes)
            stream.seek(member.header)
            header = stream.read(_LOCAL.size)
            if len(header) < _LOCAL.size or header[:4] != b"PK\3\4":
                raise UnreadableImageError("damaged in the archive: no header where it should be")
            *_, name_bytes, extra_bytes = _LOCAL.unpack(header)
            stream.seek(name_bytes + extra_bytes, os.SEEK_CUR)
            content = stream.read(member.packed_bytes)
        if member.method == _DEFLATED:
            unpacker = zlib.decompressobj(-zlib.MAX_WBITS)
            try:
                content = unpacker.decompress(content, member.size_bytes + 1)
            except zlib.error as error:
                raise UnreadableImageError(f"damaged in the archive: {error}") from None
        if len(content) != member.size_bytes:
            raise UnreadableImageError(
                f"damaged in the archive: not the {member.size_bytes} bytes that it declares"
            )
        if zlib.crc32(content) != member.crc:
            raise UnreadableImageError("damaged in the archive: wrong checksum")
        return member.name, content

    def _find_directory(self, stream: BinaryIO) -> tuple[int, int, int]:
        """Return where the central directory begins, its number of entries, and where it ends."""
        size_bytes = stream.seek(0, os.SEEK_END)
        tail_start = max(0, size_bytes - _END.size - _LARGEST_COMMENT_BYTES)
        stream.seek(tail_start)
        tail = stream.read()
        found = tail.rfind(b"PK\5\6")
        if found < 0 or len(tail) - found < _END.size:
            raise self._damaged("cut short, or no zip archive")
        _, _, _, _, entries, directory_bytes, start, _ = _END.unpack_from(tail, found)
        if entries == 0xFFFF or directory_bytes == 0xFFFFFFFF or start == 0xFFFFFFFF:
            start, entries, directory_bytes = self._find_directory64(stream, tail_start + found)
        if start + directory_bytes > size_bytes:
            raise self._damaged("its directory lies beyond its end")
        return start, entries, start + directory_bytes

    def _find_directory64(self, stream: BinaryIO, end: int) -> tuple[int, int, int]:
        stream.seek(max(0, end - _END64_LOCATOR.size))
        locator = stream.read(_END64_LOCATOR.size)
        record = b""
        if locator[:4] == b"PK\6\7":
            _, _, position, _ = _END64_LOCATOR.unpack(locator)
            stream.seek(min(position, end))
            record = stream.read(_END64.size)
        if len(record) < _END64.size or record[:4] != b"PK\6\6":
            raise self._damaged("no zip64 directory")
        *_, entries, directory_bytes, start = _END64.unpack(record)
        return start, entries, directory_bytes

    def _entry_at(self, position: int, stream: BinaryIO) -> _ZipMember:
        stream.seek(position)
        entry = stream.read(_ENTRY.size)
        if len(entry) < _ENTRY.size or entry[:4] != b"PK\1\2":
            raise self._damaged("its directory is damaged")
        (
            _, made_by, _, flags, method, _, _, crc, packed_bytes, size_bytes,
            name_bytes, extra_bytes, comment_bytes, _, _, attributes, header,
        ) = _ENTRY.unpack(entry)  # fmt: skip
        name = stream.read(name_bytes)
        extra = stream.read(extra_bytes)
        size_bytes, packed_bytes, header = _zip64_values(extra, size_bytes, packed_bytes, header)
        text = name.decode("utf-8" if flags & _UTF8_FLAG else "cp437", "backslashreplace")
        return _ZipMember(
            name=_check_name(text, self.shown_path),
            flags=flags,
            method=method,
            crc=crc,
            packed_bytes=packed_bytes,
            size_bytes=size_bytes,
            mode=attributes >> 16 if made_by >> 8 == _UNIX else 0,
            header=header,
            next_entry=position + _ENTRY.size + name_bytes + extra_bytes + comment_bytes,
        )

    def _damaged(self, reason: str) -> PipelineError:
        return PipelineError(f"{self.shown_path}: damaged zip archive: {reason}")


def _zip64_values(extra: bytes, *values: int) -> tuple[int, ...]:
    """Replace each value that is too large for its 32 bits by the next one in the zip64 field."""
    position = 0
    while position + 4 <= len(extra):
        kind, size_bytes = struct.unpack_from("<2H", extra, position)
        field = extra[position + 4 : position + 4 + size_bytes]
        position += 4 + size_bytes
        if kind == 1:
            larger = iter(struct.unpack(f"<{len(field) // 8}Q", field[: len(field) // 8 * 8]))
            return tuple(next(larger, value) if value == 0xFFFFFFFF else value for value in values)
    return values


def _check_size(size_bytes: int) -> None:
    if size_bytes > MEMBER_LIMIT_BYTES:
        raise UnreadableImageError(
            f"expands to {size_bytes} bytes, more than the limit of {MEMBER_LIMIT_BYTES}"
        )


@dataclass(frozen=True)
class TarArchive:
    """A tar archive that is not packed; the position of a member is that of its first header."""

    path: Path
    shown_path: str
    """What errors call it."""

    def scan(self) -> Iterator[tuple[int, str]]:
        with _open_file(self.path) as stream:
            position = 0
            while (found := self._find_member(position, stream)) is not None:
                member, next_position = found
                yield position, _check_name(member.name + "/" * member.isdir(), self.shown_path)
                position = next_position

    def names_at(self, positions: Iterable[int]) -> list[str]:
        with _open_file(self.path) as stream:
            return [
                _check_name(self._member_at(position, stream).name, self.shown_path)
                for position in positions
            ]

    def read_at(self, position: int) -> tuple[str, bytes]:
        with _open_file(self.path) as stream:
            member = self._member_at(position, stream)
            if member.issym() or member.islnk():
                raise UnreadableImageError("a link; links in archives are not followed")
            if not member.isreg() or member.issparse():
                raise UnreadableImageError("not a regular file")
            _check_size(member.size)
            stream.seek(member.offset_data)
            content = stream.read(member.size)
        if len(content) != member.size:
            raise UnreadableImageError("damaged in the archive: cut short")
        return _check_name(member.name, self.shown_path), content

    def _member_at(self, position: int, stream: BinaryIO) -> tarfile.TarInfo:
        found = self._find_member(position, stream)
        if found is None:
            raise PipelineError(f"{self.shown_path}: damaged tar archive: cut short")
        return found[0]

    def _find_member(self, position: int, stream: BinaryIO) -> tuple[tarfile.TarInfo, int] | None:
        """Return the member and where the next one begins, or None at the archive's end."""
        stream.seek(position)
        if not any(stream.read(tarfile.BLOCKSIZE)):
            if position > stream.seek(0, os.SEEK_END):
                raise PipelineError(f"{self.shown_path}: damaged tar archive: cut short")
            return None
        stream.seek(position)
        try:
            # As if the archive began there; its first member is read at once.
            tar = tarfile.TarFile(fileobj=stream, encoding="utf-8", errors="backslashreplace")
            member = tar.next()
        except (tarfile.TarError, ValueError, OSError) as error:
            raise PipelineError(
                f"{self.shown_path}: damaged tar archive, at byte {position}: {error}"
            ) from None
        if member is None:
            raise PipelineError(f"{self.shown_path}: damaged tar archive, at byte {position}")
        return member, tar.offset
