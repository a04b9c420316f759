"""Files at addresses: a folder, and a server on 127.0.0.1 that gives parts of files."""

import hashlib
import pickle
import re
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import pytest
from support import find_error

from imgpipe.archives import addresses as archive_files
from imgpipe.archives.addresses import (
    Range,
    RemoteFile,
    compute_digest,
    find_remote_files,
    list_archives,
)
from imgpipe.core.errors import PipelineError
from imgpipe.datasets import download
from imgpipe.datasets.catalog import DownloadEntry
from imgpipe.datasets.formats import ImageFolderFormat

CONTENT = bytes(range(256)) * 300


class Server(ThreadingHTTPServer):
    """Serves CONTENT at /file; lists the requested ranges. The first `failures` requests fail."""

    content = CONTENT
    has_ranges = True
    has_sizes = True
    failures = 0

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.ranges: list[str] = []

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"


class Handler(BaseHTTPRequestHandler):
    server: Server

    def do_HEAD(self) -> None:
        self.answer(200 if self.path == "/file" else 404, self.server.content, has_body=False)

    def do_GET(self) -> None:
        server = self.server
        if server.failures:
            server.failures -= 1
            self.answer(503, b"")
        elif self.path != "/file":
            self.answer(404, b"")
        elif (given := self.headers.get("Range")) and server.has_ranges:
            server.ranges.append(given)
            start, end = map(int, given.removeprefix("bytes=").split("-"))
            self.answer(206, server.content[start : end + 1])
        else:
            self.answer(200, server.content)

    def answer(self, status: int, content: bytes, *, has_body: bool = True) -> None:
        self.send_response(status)
        if self.server.has_sizes:
            self.send_header("Content-Length", str(len(content)))
        self.send_header("Accept-Ranges", "bytes" if self.server.has_ranges else "none")
        self.end_headers()
        if has_body:
            self.wfile.write(content)

    def log_message(self, *_: Any) -> None:
        """Print nothing."""


@contextmanager
def serve() -> Iterator[Server]:
    with Server() as server:
        thread = Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield server
        server.shutdown()
        thread.join()


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    monkeypatch.setattr(download, "FIRST_PAUSE_S", 0.01)
    monkeypatch.setattr(archive_files, "_BLOCK_BYTES", 10_000)
    with serve() as server:
        yield server


def remote(address: str, content: bytes = CONTENT) -> RemoteFile:
    return RemoteFile(address, len(content), hashlib.sha256(content).hexdigest())


@pytest.fixture(params=["path", "file", "http"])
def address(request: pytest.FixtureRequest, tmp_path: Path, server: Server) -> str:
    """The address of a file with CONTENT."""
    (tmp_path / "file").write_bytes(CONTENT)
    path = (tmp_path / "file").as_posix()
    return {"path": path, "file": f"file://{path}", "http": f"{server.address}/file"}[request.param]


def test_parts_of_a_file_are_read(address: str) -> None:
    file = remote(address)
    assert file.read(Range(1000, 77)) == CONTENT[1000:1077]
    assert file.read(Range(len(CONTENT) - 5, 100)) == CONTENT[-5:]
    assert file.read(Range(len(CONTENT) + 5, 100)) == b""
    elsewhere = pickle.loads(pickle.dumps(file))
    assert elsewhere.read(Range(3, 4)) == CONTENT[3:7]
    with file.open() as stream:
        stream.seek(50_000)
        assert stream.read(20_000) == CONTENT[50_000:70_000]
        stream.seek(-3, 2)
        assert stream.read() == CONTENT[-3:]


def test_parts_that_were_prefetched_are_not_read_again(server: Server) -> None:
    file = remote(f"{server.address}/file")
    parts = [Range(start, 10) for start in range(0, 1000, 100)]
    file.prefetch(parts)
    requests = len(server.ranges)
    contents = [CONTENT[part.start : part.start + 10] for part in parts]
    digests = [compute_digest(content) for content in contents]
    assert [*map(file.read_checked, parts, digests)] == contents
    assert len(server.ranges) == requests
    file.read_checked(parts[0], digests[0])
    assert len(server.ranges) == requests + 1


def test_a_part_that_was_damaged_on_its_way_is_requested_again(server: Server) -> None:
    file = remote(f"{server.address}/file")
    server.content = b"x" * len(CONTENT)
    file.prefetch([Range(0, 10)])
    server.content = CONTENT
    assert file.read_checked(Range(0, 10), compute_digest(CONTENT[:10])) == CONTENT[:10]
    assert len(server.ranges) == 2


@pytest.mark.parametrize("content", [b"x" * len(CONTENT), CONTENT[:5]])
def test_a_part_that_has_changed_is_refused_after_all_attempts(
    server: Server, content: bytes
) -> None:
    file = remote(f"{server.address}/file")
    server.content = content
    message = find_error(file.read_checked, Range(0, 10), compute_digest(CONTENT[:10]))
    assert message == (
        f"{server.address}/file: changed while it was read; run the stage again when the file stays"
        " as it is"
    )
    assert len(server.ranges) == download.ATTEMPTS


def test_a_file_is_checked_while_it_is_read_once(server: Server) -> None:
    with remote(f"{server.address}/file").open_checked() as stream:
        assert stream.read(30_500) == CONTENT[:30_500]
        stream.seek(29_500)  # a little back, as for the header of a tar archive
        assert stream.read(1000) == CONTENT[29_500:30_500]
        stream.seek(45_000)
        assert stream.read(100) == CONTENT[45_000:45_100]
        stream.seek(20_000)  # far back: it would be requested again, and not checked
        with pytest.raises(ValueError, match="byte 20000 is too far back"):
            stream.read(1)
        stream.seek(len(CONTENT))
        assert stream.read(1) == b""
    sizes = [int(end) - int(start) + 1 for start, end in (r[6:].split("-") for r in server.ranges)]
    assert sum(sizes) == len(CONTENT)


def test_a_part_that_was_read_before_the_check_must_be_the_same(server: Server) -> None:
    parts = [Range(0, 5), Range(9_990, 20), Range(len(CONTENT) - 5, 100), Range(3, 0)]
    for wrong in parts[:3]:
        file = remote(f"{server.address}/file")
        for part in parts:
            server.content = b"x" * len(CONTENT) if part == wrong else CONTENT
            file.read(part)
        server.content = CONTENT
        elsewhere = pickle.loads(pickle.dumps(file))
        for each in (file, elsewhere):
            with pytest.raises(PipelineError, match="changed while it"), each.open_checked():
                pass
    for part in parts:
        file = remote(f"{server.address}/file")
        file.read(part)
        with file.open_checked():
            pass


@pytest.mark.parametrize("place", [0, 40_000, len(CONTENT) - 1])
def test_a_changed_byte_anywhere_is_found(server: Server, place: int) -> None:
    file = remote(f"{server.address}/file")
    server.content = CONTENT[:place] + b"x" + CONTENT[place + 1 :]
    with (
        pytest.raises(PipelineError, match="/file: expected SHA-256"),
        file.open_checked() as stream,
    ):
        stream.read(20_000)


def test_a_failure_of_the_network_is_tried_again(server: Server) -> None:
    file = remote(f"{server.address}/file")
    server.failures = 2
    assert file.read(Range(0, 10)) == CONTENT[:10]
    server.failures = 3
    with pytest.raises(PipelineError, match="/file: 503"):
        file.read(Range(0, 10))
    server.failures = 3
    file.prefetch([Range(0, 10)])  # says nothing: the read reports it
    assert file.read(Range(0, 10)) == CONTENT[:10]


def test_a_server_without_ranges_is_refused(server: Server) -> None:
    server.has_ranges = False
    with pytest.raises(PipelineError, match="its server cannot give parts of files"):
        remote(f"{server.address}/file").read(Range(10, 10))


def test_a_server_that_reports_no_size_is_refused(server: Server) -> None:
    server.has_sizes = False
    with pytest.raises(PipelineError, match="/file: its server does not report the size"):
        find_remote_files(entry_at(server.address))


@pytest.mark.parametrize(
    ("address", "reason"),
    [
        ("nothing://folder/file", "Protocol not known: nothing"),
        ("http://127.0.0.1:1/file", "Cannot connect to host"),
    ],
)
def test_an_address_that_cannot_be_used_is_one_line(
    address: str, reason: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(download, "FIRST_PAUSE_S", 0.01)
    with pytest.raises(PipelineError, match=f"{re.escape(address)}: {reason}") as caught:
        remote(address).read(Range(0, 1))
    assert "\n" not in str(caught.value)


def entry_at(*urls: str) -> DownloadEntry[ImageFolderFormat]:
    file = {"name": "file", "bytes": len(CONTENT), "sha256": hashlib.sha256(CONTENT).hexdigest()}
    return DownloadEntry[ImageFolderFormat].model_validate(
        {
            "title": "", "license": "", "citation": "", "urls": list(urls), "files": [file],
            "in_place": True, "format": {"kind": "image_folder"},
        }
    )  # fmt: skip


def test_the_first_address_that_has_the_file_is_used(server: Server, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"another one")
    missing = f"{server.address}/missing"
    urls = (missing, "nothing://there", str(tmp_path), server.address)
    (found,) = find_remote_files(entry_at(*urls))
    assert found.shown == f"{server.address}/file"
    with pytest.raises(PipelineError) as caught:
        find_remote_files(entry_at(missing, str(tmp_path)))
    assert str(caught.value) == (
        f"file: expected a file of {len(CONTENT)} bytes, as the catalog says; {missing}/file:"
        f" no such file; {tmp_path.as_posix()}/file: found 11 bytes"
    )


def test_the_archives_of_a_folder_are_listed(tmp_path: Path) -> None:
    for name in ("b.zip", "a.tar", "notes.txt"):
        (tmp_path / name).write_bytes(name.encode() * 10_000)
    files = list_archives(f"file://{tmp_path.as_posix()}")
    assert [(file.name, file.bytes) for file in files] == [("a.tar", 50_000), ("b.zip", 50_000)]
    assert files[0].sha256 == hashlib.sha256(b"a.tar" * 10_000).hexdigest()
    (tmp_path / "a.tar").unlink()
    (tmp_path / "b.zip").unlink()
    with pytest.raises(PipelineError, match="expected files that end in"):
        list_archives(tmp_path.as_posix())
    with pytest.raises(PipelineError, match="nothing: no such file"):
        list_archives((tmp_path / "nothing").as_posix())
