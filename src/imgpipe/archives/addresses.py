"""The files of archives: on this machine, or at an address, where they are read without a copy.

An address is one of fsspec, such as s3://bucket/folder/file, https://host/folder/file, or the path
of a mounted disk: https://filesystem-spec.readthedocs.io

A file at an address may change at any time, also on purpose. Its SHA-256 is checked in one pass
over the whole file. The parts that were read before, such as a list of members, must be the same in
this pass. The parts that are read later are checked by digests from this pass.
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
_CHANGED = "changed while it was read; run the stage again when the file stays as it is"
DIGEST_BYTES = 16  # 128 bits of a SHA-256: it is not possible to make other bytes with the same
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

    def read_checked(self, part: Range, digest: bytes) -> bytes:
        """Return a part of the file, which `fetch` has checked; there is no digest."""
        return self.read(part)

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
        self._unchecked: list[tuple[Range, bytes]] = []  # what was read, and its digest
        self._prefetched: dict[Range, bytes] = {}

    @cached_property
    def _system(self) -> tuple[Any, str]:
        return _find_system(self.shown)

    def compute_sha256(self) -> str:
        """Read the whole file; return its SHA-256 in hexadecimal digits."""
        with ProgressBar(self.shown, self._size_bytes, "B") as bar:
            return _HashingStream(self, self._size_bytes, [], bar.update).finish()

    def open(self) -> BinaryIO:
        """Open the file, to be read in large blocks before it is checked, as by `read`."""
        return io.BufferedReader(_RemoteStream(self, self._size_bytes), _BLOCK_BYTES)

    @contextmanager
    def open_checked(self) -> Iterator[BinaryIO]:
        """Open the file; when the block ends without error, the whole file has been checked.

        The block reads from the beginning to the end, and at most 8 MiB back; each byte is read
        once.

        Raises:
            PipelineError: at the end of the block, if the SHA-256 is another one, or a part
                differs from the bytes that `read` returned before.
        """
        raw = _HashingStream(self, self._size_bytes, self._unchecked)
        with io.BufferedReader(raw) as stream:
            yield stream
            found = raw.finish()
        if found != self._sha256:
            raise PipelineError(
                f"{self.shown}: expected SHA-256 {self._sha256}, as the catalog says; found {found}"
            )
        if not raw.has_seen_all():
            raise PipelineError(f"{self.shown}: {_CHANGED}")

    def read(self, part: Range) -> bytes:
        """Return a part of the file before the file is checked; less than that at its end.

        Raises:
            PipelineError: the address does not answer, even if it is tried again.
        """
        content = _try(self.shown, lambda: self._request(part))
        self._unchecked.append((part, compute_digest(content)))
        return content

    def read_checked(self, part: Range, digest: bytes) -> bytes:
        """Return a part of the file that `compute_digest` gave this digest in the checked pass.

        Raises:
            PipelineError: the address does not answer, or the part has changed, even if it is
                tried again.
        """
        prefetched = self._prefetched.pop(part, None)
        if prefetched is not None and compute_digest(prefetched) == digest:
            return prefetched

        def request() -> bytes:
            content = self._request(part)
            if compute_digest(content) != digest:
                raise _ChangedError(_CHANGED)
            return content

        return _try(self.shown, request)

    def request_next(self, part: Range) -> bytes:
        """Return a part of the file for the pass that checks it."""
        return _try(self.shown, lambda: self._request(part))

    def _request(self, part: Range) -> bytes:
        system, path = self._system
        end = min(part.start + part.size_bytes, self._size_bytes)
        if end <= part.start:
            return b""
        content: bytes = system.cat_file(path, start=part.start, end=end)
        if len(content) < end - part.start:
            raise _ChangedError(_CHANGED)
        if len(content) > end - part.start:
            raise PipelineError(
                f"{self.shown}: expected bytes {part.start} to {end}; found {len(content)} bytes;"
                " its server cannot give parts of files"
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
            for part, content in zip(parts, found, strict=True)
            if isinstance(content, bytes)
        }

    def close(self) -> None:
        """Forget the parts that were prefetched."""
        self._prefetched.clear()

    def __getstate__(self) -> dict[str, Any]:
        kept = ("shown", "_size_bytes", "_sha256", "_unchecked")
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
    lasting = (FileNotFoundError, ImportError, PipelineError, ValueError)
    try:
        return try_again(access, may_pass=lambda error: not isinstance(error, lasting))
    except PipelineError:
        raise
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
        content = self._read_at(Range(self._position, len(buffer)))
        buffer[: len(content)] = content
        self._position += len(content)
        return len(content)

    def _read_at(self, part: Range) -> bytes:
        return self._file.read(part)


class _HashingStream(_RemoteStream):
    """A stream that computes the SHA-256 of the whole file, with each byte requested once.

    It keeps the last two blocks, so that a reader may go back a little.
    """

    def __init__(
        self,
        file: RemoteFile,
        size_bytes: int,
        known_parts: Sequence[tuple[Range, bytes]],
        on_hashed: Callable[[int], object] = int,
    ) -> None:
        """Start before the first byte; digests of parts of the file may be known."""
        super().__init__(file, size_bytes)
        self._digest, self._hashed_bytes = hashlib.sha256(), 0
        self._blocks = (b"", b"")
        self._known = [(part, digest, hashlib.sha256()) for part, digest in known_parts]
        self._on_hashed = on_hashed

    def finish(self) -> str:
        """Read the rest of the file; return the SHA-256 in hexadecimal digits."""
        while self._hashed_bytes < self._size_bytes:
            self._hash_block()
        return self._digest.hexdigest()

    def has_seen_all(self) -> bool:
        """Return whether the known parts had their digests, after `finish`."""
        return all(hasher.digest()[:DIGEST_BYTES] == digest for _, digest, hasher in self._known)

    def _hash_block(self) -> None:
        start = self._hashed_bytes
        block = self._file.request_next(Range(start, _BLOCK_BYTES))
        for part, _, hasher in self._known:
            first = max(part.start - start, 0)
            hasher.update(block[first : max(part.start + part.size_bytes - start, 0)])
        self._digest.update(block)
        self._hashed_bytes += len(block)
        self._blocks = (self._blocks[1], block)
        self._on_hashed(len(block))

    def _read_at(self, part: Range) -> bytes:
        while self._hashed_bytes <= part.start < self._size_bytes:
            self._hash_block()
        end = self._hashed_bytes
        for block in reversed(self._blocks):
            if end - len(block) <= part.start < end:
                first = part.start - (end - len(block))
                return block[first : first + part.size_bytes]
            end -= len(block)
        if part.start < self._size_bytes:
            raise ValueError(f"byte {part.start} is too far back; it has been checked")
        return b""


class _ChangedError(Exception):
    """A part of a file has changed; a new attempt may find the old bytes again."""


def compute_digest(content: bytes | memoryview) -> bytes:
    """Return the DIGEST_BYTES by which a part of a file is found to be the same later."""
    return hashlib.sha256(content).digest()[:DIGEST_BYTES]


def _in_one_line(error: Exception) -> str:
    return " ".join(str(error).split()) or type(error).__name__
