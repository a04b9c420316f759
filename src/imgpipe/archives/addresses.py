"""The files of archives: on this machine, or at an address, where they are read without a copy.

An address is one of fsspec, such as s3://bucket/folder/file, https://host/folder/file, or the path
of a mounted disk: https://filesystem-spec.readthedocs.io
"""

import hashlib
import io
import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import cached_property, partial
from pathlib import Path, PurePosixPath
from typing import Any, BinaryIO, NamedTuple, TypeVar

from imgpipe.console.messages import format_count
from imgpipe.console.progress import ProgressBar
from imgpipe.core.errors import PipelineError
from imgpipe.datasets.catalog import DownloadEntry, RawFile
from imgpipe.datasets.download import resolve_addresses, try_again

ARCHIVE_ENDINGS = (".zip", ".tar")
_BLOCK_BYTES = 8 << 20
_REQUESTS_AT_ONCE = 16

ResultT = TypeVar("ResultT")


class Range(NamedTuple):
    """A part of a file."""

    start: int
    size_bytes: int


class LocalFile:
    """A file on this machine. Another process to which it is sent opens the file itself."""

    is_remote = False

    def __init__(self, path: Path, shown: str) -> None:
        """Describe the file by its path, and by its name in errors; nothing is opened."""
        self.path, self.shown = path, shown

    def open(self) -> BinaryIO:
        """Open the file; the stream can seek.

        Raises:
            PipelineError: there is no such file.
        """
        try:
            return self.path.open("rb")
        except FileNotFoundError:
            raise PipelineError(f"{self.shown}: not found; run `dvc repro fetch`") from None

    def open_checked(self) -> BinaryIO:
        """Open the file, which `fetch` has checked."""
        return self.open()

    @cached_property
    def _stream(self) -> BinaryIO:
        return self.open()

    def read(self, part: Range) -> bytes:
        """Return a part of the file; less than that at the end of the file."""
        try:
            self._stream.seek(part.start)
        except (OSError, ValueError):  # a place that no file has, from a damaged list of members
            return b""
        return self._stream.read(part.size_bytes)

    def close(self) -> None:
        """Close the file; the next access opens it again."""
        if "_stream" in self.__dict__:
            self._stream.close()
            del self._stream

    def __del__(self) -> None:
        self.close()

    def __getstate__(self) -> dict[str, Any]:
        return {"path": self.path, "shown": self.shown}


class RemoteFile:
    """A file at an address, which may change at any time. It can be sent to another process."""

    is_remote = True

    def __init__(self, address: str, size_bytes: int, sha256: str) -> None:
        """Describe the file; nothing is opened."""
        self.shown, self._size_bytes, self._sha256 = address, size_bytes, sha256
        self._prefetched: dict[Range, bytes] = {}

    @cached_property
    def _system(self) -> tuple[Any, str]:
        return _find_system(self.shown)

    def compute_sha256(self) -> str:
        """Read the whole file; return its SHA-256 in hexadecimal digits."""
        with ProgressBar(self.shown, self._size_bytes, "B") as bar:
            return _HashingStream(self, self._size_bytes, bar.update).finish()

    def open(self) -> BinaryIO:
        """Open the file, to be read in large blocks."""
        return io.BufferedReader(_RemoteStream(self, self._size_bytes), _BLOCK_BYTES)

    @contextmanager
    def open_checked(self) -> Iterator[BinaryIO]:
        """Open the file; when the block ends without error, the whole file has been checked.

        Each byte is read once, if the block reads from the beginning to the end.

        Raises:
            PipelineError: at the end of the block, if the SHA-256 is another one.
        """
        raw = _HashingStream(self, self._size_bytes)
        with io.BufferedReader(raw, _BLOCK_BYTES) as stream:
            yield stream
            found = raw.finish()
        if found != self._sha256:
            raise PipelineError(
                f"{self.shown}: expected SHA-256 {self._sha256}, as the catalog says; found {found}"
            )

    def read(self, part: Range) -> bytes:
        """Return a part of the file; less than that at the end of the file.

        Raises:
            PipelineError: the address does not answer, even if it is tried again.
        """
        if (known := self._prefetched.pop(part, None)) is not None:
            return known
        system, path = self._system
        end = min(part.start + part.size_bytes, self._size_bytes)
        if end <= part.start:
            return b""
        content: bytes = _try(self.shown, lambda: system.cat_file(path, start=part.start, end=end))
        if len(content) != end - part.start:
            raise PipelineError(
                f"{self.shown}: expected bytes {part.start} to {end}; found {len(content)} bytes;"
                " the file changed, or its server cannot give parts of files"
            )
        return content

    def prefetch(self, parts: Sequence[Range]) -> None:
        """Get parts of the file at the same time, because each answer takes a while."""
        system, path = self._system
        ends = [min(part.start + part.size_bytes, self._size_bytes) for part in parts]
        found = system.cat_ranges(
            [path] * len(parts), [part.start for part in parts], ends, on_error="return"
        )
        self._prefetched = {
            part: bytes(content)
            for part, end, content in zip(parts, ends, found, strict=True)
            if isinstance(content, bytes) and len(content) == end - part.start
        }

    def close(self) -> None:
        """Forget the parts that were prefetched."""
        self._prefetched.clear()

    def __getstate__(self) -> dict[str, Any]:
        kept = ("shown", "_size_bytes", "_sha256")
        return {name: self.__dict__[name] for name in kept} | {"_prefetched": {}}


ArchiveFile = LocalFile | RemoteFile


def _find_system(address: str) -> tuple[Any, str]:
    """Return the file system of an address, and the path in it."""
    import fsspec  # 0.15 s, and only needed for addresses

    system, path = _try(address, lambda: fsspec.core.url_to_fs(address))
    return system, str(path)


def _try(address: str, access: Callable[[], ResultT]) -> ResultT:
    """Return the result of an access to an address; after an error, try again.

    Raises:
        PipelineError: the last attempt failed, too, or there is no such file.
    """
    # A missing file, a missing package or a wrong address stays so.
    lasting = (FileNotFoundError, ImportError, ValueError)
    try:
        return try_again(access, may_pass=lambda error: not isinstance(error, lasting))
    except FileNotFoundError:
        raise PipelineError(f"{address}: no such file") from None
    except ImportError as error:
        install = "install it: pip install --require-hashes -r requirements-s3.txt"
        hint = f"; {install}" if address.startswith("s3:") else ""
        raise PipelineError(f"{address}: {_in_one_line(error)}{hint}") from None
    except Exception as error:  # each file system has errors of its own
        raise PipelineError(f"{address}: {_in_one_line(error)}") from None


def list_archives(address: str) -> list[RawFile]:
    """Return name, size and SHA-256 of each zip and tar file in a folder, in the order of names.

    Every file is read from its beginning to its end.

    Raises:
        PipelineError: the address cannot be used, or has no such files.
    """
    system, path = _find_system(address)
    names = [PurePosixPath(found).name for found in _try(address, lambda: system.ls(path, False))]
    files = []
    for name in sorted(name for name in names if name.endswith(ARCHIVE_ENDINGS)):
        file = f"{address.rstrip('/')}/{name}"
        size_bytes = _find_size(file)
        sha256 = RemoteFile(file, size_bytes, sha256="").compute_sha256()
        files.append(RawFile(name=name, bytes=size_bytes, sha256=sha256))
    if not files:
        raise PipelineError(
            f"{address}: expected files that end in {' or '.join(ARCHIVE_ENDINGS)}; found"
            f" {format_count(len(names), 'other file')}"
        )
    return files


def find_remote_files(entry: DownloadEntry[Any]) -> list[RemoteFile]:
    """Return the files of an entry that is read in place, each at the first address that has it.

    Raises:
        PipelineError: no address has a file of this name and size.
    """
    find = partial(_find_remote_file, addresses=resolve_addresses(entry.urls))
    with ThreadPoolExecutor(_REQUESTS_AT_ONCE) as pool:  # an answer may take a while
        return list(pool.map(find, entry.files))


def _find_remote_file(file: RawFile, addresses: Sequence[str]) -> RemoteFile:
    answers = []
    for address in addresses:
        place = f"{address.rstrip('/')}/{file.name}"
        try:
            size_bytes = _find_size(place)
        except PipelineError as error:
            answers.append(str(error))
            continue
        if size_bytes == file.bytes:
            return RemoteFile(place, file.bytes, file.sha256)
        answers.append(f"{place}: found {size_bytes} bytes")
    raise PipelineError(
        f"{file.name}: expected a file of {file.bytes} bytes, as the catalog says;"
        f" {'; '.join(answers) or 'the catalog has no address'}"
    )


def _find_size(address: str) -> int:
    """Return the size of a file in bytes."""
    system, path = _find_system(address)
    size_bytes: int | None = _try(address, lambda: system.size(path))
    if size_bytes is None:
        raise PipelineError(f"{address}: its server does not report the size of the file")
    return size_bytes


class _RemoteStream(io.RawIOBase):
    """A stream over a remote file, in blocks of the size that a buffer asks for."""

    def __init__(self, file: RemoteFile, size_bytes: int) -> None:
        self._file, self._size_bytes, self._position = file, size_bytes, 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        bases = {os.SEEK_SET: 0, os.SEEK_CUR: self._position, os.SEEK_END: self._size_bytes}
        self._position = max(0, bases[whence] + offset)
        return self._position

    def tell(self) -> int:
        return self._position

    def readinto(self, buffer: Any) -> int:
        content = self._read_at(self._position, len(buffer))
        buffer[: len(content)] = content
        self._position += len(content)
        return len(content)

    def _read_at(self, position: int, size_bytes: int) -> bytes:
        return self._file.read(Range(position, size_bytes))


class _HashingStream(_RemoteStream):
    """A stream that computes the SHA-256 of the whole file, with each byte once."""

    def __init__(
        self, file: RemoteFile, size_bytes: int, on_hashed: Callable[[int], object] = int
    ) -> None:
        super().__init__(file, size_bytes)
        self._digest, self._hashed_bytes = hashlib.sha256(), 0
        self._on_hashed = on_hashed

    def finish(self) -> str:
        """Read the rest of the file; return the SHA-256 in hexadecimal digits."""
        self._hash_until(self._size_bytes)
        return self._digest.hexdigest()

    def _hash_until(self, end: int) -> None:
        while self._hashed_bytes < end:
            self._read_at(self._hashed_bytes, min(_BLOCK_BYTES, end - self._hashed_bytes))

    def _read_at(self, position: int, size_bytes: int) -> bytes:
        self._hash_until(position)  # the bytes that the reader skips
        content = super()._read_at(position, size_bytes)
        new = content[self._hashed_bytes - position :]
        self._digest.update(new)
        self._hashed_bytes += len(new)
        self._on_hashed(len(new))
        return content


def _in_one_line(error: Exception) -> str:
    return " ".join(str(error).split()) or type(error).__name__
