"""Members of zip and tar archives, read in place: one at a time, without unpacking them to files.

`zipfile` reads zip archives with stored and deflated members, `tarfile` tar archives, plain or
compressed with gzip, bzip2 or xz. An archive is indexed once (a zip archive once in each process).
For 100,000 members the index takes 56 MiB of memory (zip, with a peak of 65 MiB) or 21 MiB (tar),
and for more members more in proportion: the limit of 100 MiB holds up to 150,000 members.
"""

import bz2
import gzip
import lzma
import os
import re
import stat
import tarfile
import zipfile
import zlib
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path, PurePosixPath
from typing import Any, BinaryIO, NamedTuple, Protocol

from imgpipe.core.errors import PipelineError, UnreadableImageError
from imgpipe.datasets.packing import is_litter

MEMBER_LIMIT_BYTES = 256 << 20  # larger than any image file
UNPACKED_LIMIT_FACTOR = 200  # times the compressed size: far more than images are compressed by
UNPACKED_LIMIT_FLOOR_BYTES = 1 << 30

_PLAIN_NAME = re.compile(r"(?:[\w -][\w .-]*/)*(?:[\w -][\w .-]*)?")
_ENCRYPTED_FLAG = 0x1
_UNIX = 3  # the value of `create_system` if a member has the attributes of Unix
_LINK = "a link; links in archives are not followed"


class Archive(Protocol):
    """An archive whose members are read in place. It can be sent to another process."""

    @property
    def names(self) -> Sequence[str]:
        """The names of all members in their order in the archive; names of folders end with "/".

        Raises:
            PipelineError: the archive is damaged, or a name leads out of it.
        """

    def read(self, number: int) -> bytes:
        """Return the content of the member `names[number]`.

        Raises:
            UnreadableImageError: it is a link, encrypted, damaged, or larger than
                `MEMBER_LIMIT_BYTES`.
        """

    def close(self) -> None:
        """Close the file of the archive; the next access opens it again."""


def open_archive(path: Path, scratch: Path) -> Archive:
    """Open a zip or tar archive; its content decides which of them it is.

    A compressed tar archive can only be read from its beginning, so it is first unpacked, as one
    file, into the folder `scratch`.

    Args:
        path: the archive.
        scratch: a folder for the unpacked archive; it must last as long as the archive is read.

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
            unpacked = scratch / f"{path.name}.unpacked"
            _unpack(path, unpacker, unpacked)
            return TarArchive(unpacked, path.as_posix())
    if start[257:262] == b"ustar":
        return TarArchive(path, path.as_posix())
    raise PipelineError(f"{path.as_posix()}: expected a zip or tar archive; found neither")


def _open_file(path: Path) -> BinaryIO:
    try:
        return path.open("rb")
    except FileNotFoundError:
        raise PipelineError(f"{path.as_posix()}: not found; run `dvc repro fetch`") from None


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


def check_name(name: str, archive: str) -> str:
    """Return the name of a member with "/" between its parts; refuse one that leads elsewhere."""
    if _PLAIN_NAME.fullmatch(name):  # nearly all names; the other checks are slow
        return name
    name = name.replace("\\", "/")
    path = PurePosixPath(name)
    if path.is_absolute() or ".." in path.parts or re.match("[A-Za-z]:/", path.as_posix()):
        raise PipelineError(f"{archive}: refused: the member {name!r} leads out of the archive")
    # macOS leaves files with the name "Icon\r"; such files are ignored.
    if any(ord(character) < 32 for character in name) and not is_litter(name):
        raise PipelineError(f"{archive}: refused: control characters in the name {name!r}")
    return path.as_posix() + "/" * name.endswith("/")


class ZipArchive:
    """A zip archive. `zipfile` holds its directory, so each process reads the directory once."""

    def __init__(self, path: Path, shown_path: str) -> None:
        self._path = path
        self._shown_path = shown_path

    @cached_property
    def _zip(self) -> zipfile.ZipFile:
        try:
            return zipfile.ZipFile(self._path)
        except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError) as error:
            raise PipelineError(f"{self._shown_path}: damaged zip archive: {error}") from None

    @cached_property
    def names(self) -> Sequence[str]:
        # `filename` ends at the first NUL, `orig_filename` does not.
        return [check_name(info.orig_filename, self._shown_path) for info in self._zip.filelist]

    def read(self, number: int) -> bytes:
        member = self._zip.filelist[number]
        if member.create_system == _UNIX and stat.S_ISLNK(member.external_attr >> 16):
            raise UnreadableImageError(_LINK)
        if member.flag_bits & _ENCRYPTED_FLAG:
            raise UnreadableImageError("encrypted")
        if member.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
            raise UnreadableImageError(
                f"compression method {member.compress_type} is not supported"
            )
        _check_size(member.file_size)
        _check_size(member.compress_size)
        try:
            with self._zip.open(member) as stream:
                # With a size, `zipfile` unpacks no more than that, however much there is.
                content = stream.read(member.file_size + 1)
        except (zipfile.BadZipFile, zlib.error, EOFError, OSError, ValueError) as error:
            raise UnreadableImageError(f"damaged in the archive: {error}") from None
        except NotImplementedError as error:
            raise UnreadableImageError(f"not supported: {error}") from None
        if len(content) != member.file_size:
            raise UnreadableImageError(
                f"damaged in the archive: not the {member.file_size} bytes that it declares"
            )
        return content

    def close(self) -> None:
        if "_zip" in self.__dict__:
            self._zip.close()
            del self._zip

    def __getstate__(self) -> dict[str, Any]:
        """Another process opens the archive itself."""
        return {"_path": self._path, "_shown_path": self._shown_path}


class _TarMember(NamedTuple):
    """Where a member of a tar archive is, or why it is not read."""

    start: int
    size_bytes: int
    refusal: str


class TarArchive:
    """A tar archive that is not compressed."""

    def __init__(self, path: Path, shown_path: str) -> None:
        self._path = path
        self._shown_path = shown_path
        self.names, self._members = self._index()

    @cached_property
    def _stream(self) -> BinaryIO:
        return _open_file(self._path)

    def read(self, number: int) -> bytes:
        member = self._members[number]
        if member.refusal:
            raise UnreadableImageError(member.refusal)
        _check_size(member.size_bytes)
        self._stream.seek(member.start)
        content = self._stream.read(member.size_bytes)
        if len(content) != member.size_bytes:
            raise UnreadableImageError("damaged in the archive: cut short")
        return content

    def close(self) -> None:
        if "_stream" in self.__dict__:
            self._stream.close()
            del self._stream

    def __getstate__(self) -> dict[str, Any]:
        """Another process opens the archive itself."""
        return {name: value for name, value in self.__dict__.items() if name != "_stream"}

    def _index(self) -> tuple[list[str], list[_TarMember]]:
        names, members = [], []
        with _open_file(self._path) as stream:
            position = 0
            while (found := self._find_member(position, stream)) is not None:
                info, position = found
                names.append(check_name(info.name + "/" * info.isdir(), self._shown_path))
                members.append(_TarMember(info.offset_data, info.size, _refuse(info)))
        return names, members

    def _find_member(self, position: int, stream: BinaryIO) -> tuple[tarfile.TarInfo, int] | None:
        """Return the member and where the next one begins, or None at the end of the archive."""
        stream.seek(position)
        if not any(stream.read(tarfile.BLOCKSIZE)):
            if position > stream.seek(0, os.SEEK_END):
                raise PipelineError(f"{self._shown_path}: damaged tar archive: cut short")
            return None
        stream.seek(position)
        try:
            # As if the archive began there: `tarfile` takes damage further on for its end.
            tar = tarfile.TarFile(fileobj=stream, encoding="utf-8", errors="backslashreplace")
            member = tar.next()
        except (tarfile.TarError, ValueError, OSError) as error:
            raise PipelineError(
                f"{self._shown_path}: damaged tar archive, at byte {position}: {error}"
            ) from None
        if member is None:
            raise PipelineError(f"{self._shown_path}: damaged tar archive, at byte {position}")
        return member, tar.offset


def _refuse(member: tarfile.TarInfo) -> str:
    """Return why a member of a tar archive is not read; "" if it is."""
    if member.issym() or member.islnk():
        return _LINK
    if not member.isreg() or member.issparse():
        return "not a regular file"
    return ""


def _check_size(size_bytes: int) -> None:
    if size_bytes > MEMBER_LIMIT_BYTES:
        raise UnreadableImageError(
            f"expands to {size_bytes} bytes, more than the limit of {MEMBER_LIMIT_BYTES}"
        )
