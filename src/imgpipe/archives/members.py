"""Members of zip and tar archives, read in place: one at a time, without unpacking them to files.

`zipfile` lists the stored and deflated members of zip archives, `tarfile` the members of tar
archives, plain or compressed with gzip, bzip2 or xz. An archive is listed once. While a zip archive
is listed, `zipfile` holds 560 bytes of memory for each member.

A member of a file at an address gets a digest in the pass that checks the file, so a change of the
file is an error later: a CRC-32 would not find one that was made on purpose. The digest is of the
member, not of blocks of the file, so that no more bytes are requested than the member has.
"""

import bz2
import gzip
import lzma
import os
import re
import stat
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import closing, suppress
from pathlib import Path, PurePosixPath
from typing import Any, BinaryIO, NamedTuple, TypeAlias

from imgpipe.archives.addresses import (
    DIGEST_BYTES,
    ArchiveFile,
    LocalFile,
    Range,
    RemoteFile,
    compute_digest,
)
from imgpipe.archives.folders import is_litter
from imgpipe.core.errors import PipelineError, UnreadableImageError

MEMBER_LIMIT_BYTES = 256 << 20  # larger than any image file
UNPACKED_LIMIT_FACTOR = 200  # times the compressed size: far more than images are compressed by
UNPACKED_LIMIT_FLOOR_BYTES = 1 << 30

_PLAIN_NAME = re.compile(r"(?:[\w -][\w .-]*/)*(?:[\w -][\w .-]*)?")
_ENCRYPTED_FLAG = 0x1
_UTF8_FLAG = 0x800
_ENCODING_WITHOUT_MARK = "cp437"
_UNIX = 3  # the value of `create_system` if a member has the attributes of Unix
_HEADER_SIGNATURE = b"PK\3\4"
_LOCAL_HEADER = struct.Struct("<4s22xHH")  # its signature, and the sizes of name and extra field
_USUAL_EXTRA_BYTES = 64

# Why a member is not read. A zip member with an unknown compression method has the code
# _UNKNOWN_METHOD + its method.
_READABLE, _LINK, _NOT_REGULAR, _ENCRYPTED, _NO_HEADER, _CUT, _OVERLAP = range(7)
_UNKNOWN_METHOD = 100
_REFUSALS = {
    _LINK: "a link; links in archives are not followed",
    _NOT_REGULAR: "not a regular file",
    _ENCRYPTED: "encrypted",
    _NO_HEADER: "damaged in the archive: no header of a file where it should be",
    _CUT: "damaged in the archive: cut short",
    _OVERLAP: "damaged in the archive: a part of it belongs to another member",
}
NO_CRC32 = -1
NO_DIGEST = bytes(DIGEST_BYTES)


class Member(NamedTuple):
    """A member of an archive; all fields but the name say where its content is."""

    name: str
    """With "/" between its parts; the name of a folder ends with "/"."""
    start: int
    """The first byte of its content in the archive; of its header in a zip archive on this machine,
    where listing would take long if it read each header."""
    stored_bytes: int
    """The size in the archive, which is another one if the member is compressed."""
    size_bytes: int
    crc32: int
    """Of the content; NO_CRC32 if it is not known."""
    is_compressed: bool
    refusal: int
    """Why the member is not read; 0 if it is read."""
    digest: bytes = NO_DIGEST
    """Of its content in the archive, if that is at an address."""


Archive: TypeAlias = "ZipArchive | TarArchive"


def open_archive(file: ArchiveFile, scratch: Path) -> Archive:
    """Open a zip or tar archive; its content decides which of them it is.

    A compressed tar archive can only be read from its beginning, so it is first unpacked, as one
    file, into the folder `scratch`, which must last as long as the archive is read.

    Raises:
        PipelineError: no such archive, neither zip nor tar, or a compressed tar archive at an
            address.
    """
    unpackers: dict[bytes, Any] = {
        b"\x1f\x8b": gzip.open,
        b"BZh": bz2.open,
        b"\xfd7zXZ\0": lzma.open,
    }
    with closing(file):
        start = file.read(Range(0, tarfile.BLOCKSIZE))
    if start.startswith(b"PK"):
        return ZipArchive(file)
    for magic, unpacker in unpackers.items():
        if start.startswith(magic):
            if not isinstance(file, LocalFile):
                raise PipelineError(
                    f"{file.shown}: a compressed tar archive cannot be read in place; publish it"
                    " as zip or as tar without compression, or delete `in_place` in the catalog,"
                    " so that `fetch` copies it"
                )
            unpacked = scratch / f"{file.path.name}.unpacked"
            _unpack(file.path, unpacker, unpacked)
            return TarArchive(LocalFile(unpacked, file.shown))
    if start[257:262] == b"ustar":
        return TarArchive(file)
    raise PipelineError(f"{file.shown}: expected a zip or tar archive; found neither")


def _unpack(path: Path, unpacker: Any, target: Path) -> None:
    compressed_bytes = path.stat().st_size
    limit_bytes = max(UNPACKED_LIMIT_FLOOR_BYTES, UNPACKED_LIMIT_FACTOR * compressed_bytes)
    try:
        with unpacker(path, "rb") as source, target.open("wb") as stream:
            written_bytes = 0
            while chunk := source.read(1 << 20):
                written_bytes += len(chunk)
                if written_bytes > limit_bytes:
                    raise PipelineError(
                        f"{path.as_posix()}: refused: {compressed_bytes} bytes unpack to more than"
                        f" {limit_bytes}"
                    )
                stream.write(chunk)
    except (OSError, EOFError, zlib.error, lzma.LZMAError) as error:
        raise PipelineError(f"{path.as_posix()}: damaged archive: {error}") from None


def is_link(member: Member) -> bool:
    """Return whether a member is a link, to a file or to a folder."""
    return member.refusal == _LINK


def check_name(name: str, archive: str, *, backslash_separates: bool = False) -> str:
    """Return the name of a member in its shortest form; refuse one that leads elsewhere.

    In the names of zip archives that programs of Windows made, backslashes separate folders: they
    become "/". In other names a backslash is a character like any other.
    """
    if _PLAIN_NAME.fullmatch(name):  # nearly all names; the other checks are slow
        return name
    slashes = name.replace("\\", "/")
    path = PurePosixPath(slashes)
    if path.is_absolute() or ".." in path.parts or re.match("[A-Za-z]:/", path.as_posix()):
        raise PipelineError(f"{archive}: refused: the member {name!r} leads out of the archive")
    # macOS leaves files with the name "Icon\r"; such files are ignored.
    if any(ord(character) < 32 for character in name) and not is_litter(name):
        raise PipelineError(f"{archive}: refused: control characters in the name {name!r}")
    if backslash_separates:
        # Folders `a\x` and `a\y` of another system would become the folder `a`.
        if "\\" in name.rstrip("/").rpartition("/")[0]:
            raise PipelineError(
                f"{archive}: refused: the name {name!r} separates folders by \\ and by /; make the"
                " archive again, with / only"
            )
        name = slashes
    return PurePosixPath(name).as_posix() + "/" * name.endswith("/")


class ZipArchive:
    """A zip archive, read in place. It can be sent to another process."""

    def __init__(self, file: ArchiveFile) -> None:
        self.file = file

    def list_members(self) -> Iterator[Member]:
        """Yield all members, in the order of the archive's list.

        Raises:
            PipelineError: the archive is damaged, or a name leads out of it; or it is at an
                address, and changed.
        """
        try:
            with self.file.open() as stream, zipfile.ZipFile(stream) as archive:
                infos = archive.filelist
        except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError) as error:
            with self.file.open_checked():
                pass  # it may be another file than the catalog says, which is the better error
            raise PipelineError(f"{self.file.shown}: damaged zip archive: {error}") from None
        members = (
            Member(
                check_name(_decode_name(info), self.file.shown, backslash_separates=True),
                info.header_offset,
                info.compress_size,
                info.file_size,
                info.CRC,
                info.compress_type == zipfile.ZIP_DEFLATED,
                _refuse_zip(info),
            )
            for info in infos
        )
        if isinstance(self.file, RemoteFile):
            return iter(_check_members(self.file, list(members)))
        return members

    def locate(self, member: Member) -> Range:
        """Return the part of a file at an address that `read` needs."""
        return Range(member.start, member.stored_bytes)

    def read(self, member: Member) -> bytes:
        """Return the content of a member.

        Raises:
            UnreadableImageError: it is a link, encrypted, damaged, or larger than
                `MEMBER_LIMIT_BYTES`.
            PipelineError: the archive is at an address, and changed after it was listed.
        """
        _check_readable(member)
        _check_size(member.stored_bytes)
        if isinstance(self.file, RemoteFile):
            stored = self.file.read_checked(self.locate(member), member.digest)
        else:
            stored = self._read_stored(self.file, member)
        content = stored
        if member.is_compressed:
            try:
                # With a size, zlib unpacks no more than that, however much there is.
                content = zlib.decompressobj(-zlib.MAX_WBITS).decompress(
                    stored, member.size_bytes + 1
                )
            except zlib.error as error:
                raise _damaged(str(error)) from None
        _check_content(member, content)
        return content

    @staticmethod
    def _read_stored(file: LocalFile, member: Member) -> bytes:
        # The header has the name again, and an extra field, whose size only the header has.
        name_bytes = len(member.name.encode("utf-8", "surrogatepass"))
        before = _LOCAL_HEADER.size + name_bytes + _USUAL_EXTRA_BYTES
        part = Range(member.start, before + member.stored_bytes)
        found = file.read(part)
        if len(found) < _LOCAL_HEADER.size:
            raise UnreadableImageError(_REFUSALS[_CUT])
        signature, name_bytes, extra_bytes = _LOCAL_HEADER.unpack_from(found)
        if signature != _HEADER_SIGNATURE:
            raise UnreadableImageError(_REFUSALS[_NO_HEADER])
        start = _LOCAL_HEADER.size + name_bytes + extra_bytes
        stored = found[start : start + member.stored_bytes]
        if len(stored) < member.stored_bytes and len(found) == part.size_bytes:
            stored = file.read(Range(member.start + start, member.stored_bytes))
        if len(stored) < member.stored_bytes:
            raise UnreadableImageError(_REFUSALS[_CUT])
        return stored


def _check_members(file: RemoteFile, members: list[Member]) -> list[Member]:
    """Check a zip archive as a whole; return its members, with places and digests of contents."""
    end = 0
    with file.open_checked() as stream:
        for number in sorted(range(len(members)), key=lambda number: members[number].start):
            member = members[number]
            if member.start < end:
                members[number] = member._replace(refusal=_OVERLAP)
                continue
            members[number] = found = _find_digest(member, stream)
            if not found.refusal:
                end = found.start + found.stored_bytes
    return members


def _find_digest(member: Member, stream: BinaryIO) -> Member:
    """Return a zip member with place and digest of its content in an archive."""
    if member.refusal or member.stored_bytes > MEMBER_LIMIT_BYTES:
        return member  # it is never read
    stream.seek(member.start)
    header = stream.read(_LOCAL_HEADER.size)
    if len(header) < _LOCAL_HEADER.size:
        return member._replace(refusal=_CUT)
    signature, name_bytes, extra_bytes = _LOCAL_HEADER.unpack(header)
    if signature != _HEADER_SIGNATURE:
        return member._replace(refusal=_NO_HEADER)
    start = member.start + len(header) + name_bytes + extra_bytes
    if start + member.stored_bytes > stream.seek(0, os.SEEK_END):
        return member._replace(refusal=_CUT)
    stream.seek(start)
    stored = stream.read(member.stored_bytes)
    return member._replace(start=start, digest=compute_digest(stored))


def _decode_name(info: zipfile.ZipInfo) -> str:
    """Return the name of a member of a zip archive; some programs write UTF-8 without its mark."""
    name = info.orig_filename  # `filename` ends at the first NUL
    if not info.flag_bits & _UTF8_FLAG:
        with suppress(UnicodeError):
            return name.encode(_ENCODING_WITHOUT_MARK).decode()
    return name


def _refuse_zip(info: zipfile.ZipInfo) -> int:
    """Return why a member of a zip archive is not read; 0 if it is."""
    if info.create_system == _UNIX and stat.S_ISLNK(info.external_attr >> 16):
        return _LINK
    if info.flag_bits & _ENCRYPTED_FLAG:
        return _ENCRYPTED
    if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        return _UNKNOWN_METHOD + info.compress_type
    return _READABLE


class TarArchive:
    """A tar archive that is not compressed; its methods are as in `ZipArchive`."""

    def __init__(self, file: ArchiveFile) -> None:
        self.file = file

    def list_members(self) -> Iterator[Member]:
        with self.file.open_checked() as stream:
            position = 0
            while (found := self._find_member(position, stream)) is not None:
                info, position = found
                refusal, digest = _refuse_tar(info), NO_DIGEST
                if self.file.is_remote and not refusal and info.size <= MEMBER_LIMIT_BYTES:
                    stream.seek(info.offset_data)
                    digest = compute_digest(stream.read(info.size))
                yield Member(
                    check_name(info.name + "/" * info.isdir(), self.file.shown),
                    info.offset_data,
                    info.size,
                    info.size,
                    NO_CRC32,
                    False,
                    refusal,
                    digest,
                )

    def locate(self, member: Member) -> Range:
        return Range(member.start, member.stored_bytes)

    def read(self, member: Member) -> bytes:
        _check_readable(member)
        content = self.file.read_checked(self.locate(member), member.digest)
        if len(content) != member.size_bytes:
            raise UnreadableImageError(_REFUSALS[_CUT])
        _check_content(member, content)
        return content

    def _find_member(self, position: int, stream: BinaryIO) -> tuple[tarfile.TarInfo, int] | None:
        """Return the member and where the next one begins, or None at the end of the archive."""
        stream.seek(position)
        if not any(stream.read(tarfile.BLOCKSIZE)):
            if position > stream.seek(0, os.SEEK_END):
                raise PipelineError(f"{self.file.shown}: damaged tar archive: cut short")
            return None
        stream.seek(position)
        try:
            # As if the archive began there: `tarfile` takes damage further on for its end.
            tar = tarfile.TarFile(fileobj=stream, encoding="utf-8", errors="backslashreplace")
            member = tar.next()
        except (tarfile.TarError, ValueError, OSError) as error:
            raise PipelineError(
                f"{self.file.shown}: damaged tar archive, at byte {position}: {error}"
            ) from None
        if member is None:
            raise PipelineError(f"{self.file.shown}: damaged tar archive, at byte {position}")
        return member, tar.offset


def _refuse_tar(member: tarfile.TarInfo) -> int:
    """Return why a member of a tar archive is not read; 0 if it is."""
    if member.issym() or member.islnk():
        return _LINK
    if not member.isreg() or member.issparse():
        return _NOT_REGULAR
    return _READABLE


def _check_readable(member: Member) -> None:
    if member.refusal >= _UNKNOWN_METHOD:
        method = member.refusal - _UNKNOWN_METHOD
        raise UnreadableImageError(f"compression method {method} is not supported")
    if member.refusal:
        raise UnreadableImageError(_REFUSALS[member.refusal])
    _check_size(member.size_bytes)


def _check_size(size_bytes: int) -> None:
    if size_bytes > MEMBER_LIMIT_BYTES:
        raise UnreadableImageError(
            f"expands to {size_bytes} bytes, more than the limit of {MEMBER_LIMIT_BYTES}"
        )


def _check_content(member: Member, content: bytes) -> None:
    if len(content) != member.size_bytes:
        raise _damaged(f"not the {member.size_bytes} bytes that it declares")
    if member.crc32 not in (NO_CRC32, zlib.crc32(content)):
        raise _damaged("its checksum is another one")


def _damaged(how: str) -> UnreadableImageError:
    return UnreadableImageError(f"damaged in the archive: {how}")
