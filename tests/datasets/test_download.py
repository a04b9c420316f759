import hashlib
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from support import find_error, hash_file, load_download

from imgpipe.core.errors import PipelineError
from imgpipe.datasets import download
from imgpipe.datasets.catalog import RawFile
from imgpipe.datasets.download import fetch_file, find_addresses

CONTENT = b"0123456789" * 1000
FILE = RawFile(name="data.bin", bytes=len(CONTENT), sha256=hashlib.sha256(CONTENT).hexdigest())


class Server(ThreadingHTTPServer):
    """Answers each path with the next of its planned (status, body) pairs, then the last again."""

    plan: dict[str, list[tuple[int, bytes]]]
    requests: list[str]


class Handler(BaseHTTPRequestHandler):
    server: Server

    def do_GET(self) -> None:
        self.server.requests.append(self.path)
        answers = self.server.plan[self.path]
        status, body = answers.pop(0) if len(answers) > 1 else answers[0]
        self.send_response(status)
        self.send_header("Content-Length", str(len(CONTENT) if status == 200 else 0))
        self.end_headers()
        if status == 200:
            self.wfile.write(body)

    def log_message(self, *args: object) -> None:
        pass


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    monkeypatch.setattr(download, "FIRST_PAUSE_S", 0.001)
    monkeypatch.setattr(download, "TIMEOUT_S", 5.0)
    with Server(("127.0.0.1", 0), Handler) as running:
        running.plan, running.requests = {}, []
        thread = threading.Thread(target=running.serve_forever, args=(0.01,))
        thread.start()
        yield running
        running.shutdown()
        thread.join()


def url(server: Server, folder: str) -> str:
    return f"http://127.0.0.1:{server.server_port}/{folder}"


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """A folder with the file."""
    folder = tmp_path / "with space"
    folder.mkdir()
    (folder / "data.bin").write_bytes(CONTENT)
    return folder


def test_after_a_temporary_failure_the_address_is_tried_again(
    server: Server, tmp_path: Path
) -> None:
    server.plan["/a/data.bin"] = [(503, b""), (200, CONTENT[:5000]), (200, CONTENT)]
    fetch_file(FILE, [url(server, "a")], tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["data.bin"]
    assert (tmp_path / "data.bin").read_bytes() == CONTENT
    assert len(server.requests) == 3


@pytest.mark.parametrize("answer", [(404, b""), (200, b"x" * len(CONTENT))])
def test_after_a_missing_file_or_a_wrong_hash_the_next_address_is_tried_at_once(
    server: Server, tmp_path: Path, answer: tuple[int, bytes]
) -> None:
    server.plan = {"/a/data.bin": [answer], "/b/data.bin": [(200, CONTENT)]}
    fetch_file(FILE, [url(server, "a"), url(server, "b/")], tmp_path)
    assert (tmp_path / "data.bin").read_bytes() == CONTENT
    assert server.requests == ["/a/data.bin", "/b/data.bin"]


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        ((200, b"x" * len(CONTENT)), f"expected SHA-256 {FILE.sha256}, found"),
        ((200, CONTENT[:-1]), "expected 10000 bytes, found 9999"),
        ((500, b""), "HTTP 500"),
        ((403, b""), "HTTP 403"),
    ],
)
def test_nothing_is_left_of_a_bad_file(
    server: Server, tmp_path: Path, answer: tuple[int, bytes], reason: str
) -> None:
    server.plan["/a/data.bin"] = [answer]
    message = find_error(fetch_file, FILE, [url(server, "a")], tmp_path)
    assert message.startswith(f"could not fetch data.bin: {url(server, 'a')}/data.bin: {reason}")
    assert message.endswith("Set DATASET_MIRROR to a folder that holds <dataset>/data.bin")
    assert list(tmp_path.iterdir()) == []


def test_a_file_that_is_too_long_is_refused_early(source: Path, tmp_path: Path) -> None:
    (source / "data.bin").write_bytes(CONTENT + b"more")
    with pytest.raises(PipelineError, match="expected 10000 bytes, found more"):
        fetch_file(FILE, [source.as_posix()], tmp_path / "target")
    assert list((tmp_path / "target").iterdir()) == []


def test_the_error_gives_the_answer_of_every_address(server: Server, tmp_path: Path) -> None:
    server.plan = {"/a/data.bin": [(404, b"")], "/b/data.bin": [(410, b"")]}
    with pytest.raises(PipelineError, match=r"HTTP 404.*; .*HTTP 410"):
        fetch_file(FILE, [url(server, "a"), url(server, "b")], tmp_path)


UNPINNED = RawFile(name="data.bin", bytes=len(CONTENT), sha256="unpublished")


def test_without_a_published_hash_the_first_fetch_prints_the_hash_and_stops(
    source: Path, tmp_path: Path
) -> None:
    with pytest.raises(PipelineError) as caught:
        fetch_file(UNPINNED, [source.as_posix()], tmp_path / "target")
    assert str(caught.value) == (
        f"data.bin: the catalog does not know its SHA-256; the SHA-256 of"
        f" {source.as_posix()}/data.bin is {FILE.sha256}; write it into data/catalog.yaml if you"
        " trust the file, or set allow_unpinned: true in params.yaml"
    )
    assert list((tmp_path / "target").iterdir()) == []


def test_a_file_without_a_published_hash_can_be_allowed(source: Path, tmp_path: Path) -> None:
    target = tmp_path / "target"
    assert fetch_file(UNPINNED, [source.as_posix()], target, allow_unpinned=True) == FILE.sha256
    (source / "data.bin").write_bytes(CONTENT[:-1])  # the size is checked all the same
    with pytest.raises(PipelineError, match="expected 10000 bytes, found 9999"):
        fetch_file(UNPINNED, [source.as_posix()], tmp_path / "other", allow_unpinned=True)


def test_a_pinned_hash_is_checked_even_if_unpinned_files_are_allowed(
    source: Path, tmp_path: Path
) -> None:
    (source / "data.bin").write_bytes(b"x" * len(CONTENT))
    with pytest.raises(PipelineError, match="expected SHA-256"):
        fetch_file(FILE, [source.as_posix()], tmp_path / "target", allow_unpinned=True)


def test_a_dataset_without_an_address_is_reported(tmp_path: Path) -> None:
    with pytest.raises(PipelineError) as caught:
        fetch_file(FILE, [], tmp_path)
    assert str(caught.value) == (
        "could not fetch data.bin: the catalog has no address. Set DATASET_MIRROR to a folder that"
        " holds <dataset>/data.bin"
    )


def test_a_server_that_does_not_answer_is_reported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(download, "FIRST_PAUSE_S", 0.001)
    with pytest.raises(PipelineError, match="refused"):
        fetch_file(FILE, ["http://127.0.0.1:1"], tmp_path)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("form", ["{}", "file://{}"])
def test_folders_serve_as_addresses(source: Path, tmp_path: Path, form: str) -> None:
    fetch_file(FILE, [form.format(source.as_posix())], tmp_path / "target")
    assert (tmp_path / "target" / "data.bin").read_bytes() == CONTENT


@pytest.mark.parametrize(
    ("project", "mirror", "addresses"),
    [
        (None, None, ["https://x/y", "data/local"]),
        (None, "https://mirror/", ["https://mirror/mnist", "https://x/y", "data/local"]),
        (None, "../mirror", ["../mirror/mnist", "https://x/y", "data/local"]),
        ("/a", "../mirror", ["/a/../mirror/mnist", "https://x/y", "/a/data/local"]),
        ("/a", "/mirror", ["/mirror/mnist", "https://x/y", "/a/data/local"]),
    ],
)
def test_the_mirror_comes_first_and_relative_addresses_begin_in_the_project(
    project: str | None, mirror: str | None, addresses: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in (("DVC_ROOT", project), ("DATASET_MIRROR", mirror)):
        monkeypatch.delenv(name, raising=False)
        if value:
            monkeypatch.setenv(name, value)
    assert find_addresses("mnist", ["https://x/y", "data/local"]) == addresses


def test_the_embedded_dataset_needs_no_network(tmp_path: Path) -> None:
    entry = load_download("digits")
    fetch_file(entry.files[0], entry.urls, tmp_path)
    assert hash_file(tmp_path / "digits.csv.gz") == entry.files[0].sha256


@pytest.mark.parametrize("dataset", ["mnist", "fashion_mnist", "cats_and_dogs_small"])
def test_the_official_archives_pass_the_check(dataset: str, mirror: Path, tmp_path: Path) -> None:
    for file in load_download(dataset).files:
        fetch_file(file, [(mirror / dataset).as_posix()], tmp_path)
        assert (tmp_path / file.name).stat().st_size == file.bytes
