"""Archives at an address whose server gives other bytes at some moments, also on purpose.

The SHA-256 in the catalog decides which contents are read, or there is an error.
"""

import hashlib
import io
import pickle
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from imgpipe.archives import addresses
from imgpipe.archives.addresses import RemoteFile
from imgpipe.archives.members import open_archive
from imgpipe.core.errors import PipelineError, UnreadableImageError
from imgpipe.datasets import download

NAMES = [f"pets/{kind}/{number}.png" for number in range(3) for kind in ("cat", "dog")]
SIZE_BYTES = 3000


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(download, "FIRST_PAUSE_S", 0.0)
    monkeypatch.setattr(addresses, "_BLOCK_BYTES", 4000)


def contents(seed: str) -> dict[str, bytes]:
    """Contents that zlib does not make smaller."""
    return {
        name: b"".join(
            hashlib.sha256(f"{seed} {name} {number}".encode()).digest()
            for number in range(SIZE_BYTES // 32)
        )
        for name in NAMES
    }


def pack_zip(members: dict[str, bytes], method: int = zipfile.ZIP_STORED) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", method) as archive:
        for name, content in members.items():
            archive.writestr(zipfile.ZipInfo(name), content, method)
    return stream.getvalue()


def pack_tar(members: dict[str, bytes]) -> bytes:
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w") as archive:
        for name, content in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return stream.getvalue()


PACKERS: dict[str, Callable[[dict[str, bytes]], bytes]] = {
    "stored zip": pack_zip,
    "deflated zip": lambda members: pack_zip(members, zipfile.ZIP_DEFLATED),
    "tar": pack_tar,
}


class Server:
    """In place of the network: gives the other file in some requests, counted from 0."""

    def __init__(self, pinned: bytes, other: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
        self._files = (pinned, other)
        self._is_other: Callable[[int], bool] = lambda _: False
        self.requests = 0
        self.sha256 = hashlib.sha256(pinned).hexdigest()
        self.size_bytes = len(pinned)
        monkeypatch.setattr(RemoteFile, "_system", (self, "path"))

    def cat_file(self, path: str, start: int, end: int) -> bytes:
        """Answer as a file system of fsspec."""
        file = self._files[self._is_other(self.requests)]
        self.requests += 1
        return file[start:end]

    def read_all(
        self, scratch: Path, is_other: Callable[[int], bool]
    ) -> list[tuple[str, bytes]] | str:
        """Return names and contents as a stage reads them, or its error."""
        self.requests, self._is_other = 0, is_other
        file = RemoteFile("there", self.size_bytes, self.sha256)
        try:
            archive = pickle.loads(pickle.dumps(open_archive(file, scratch)))
            members = list(archive.list_members())
            return [(member.name, archive.read(member)) for member in members]
        except PipelineError as error:
            return str(error)


@pytest.mark.parametrize("kind", PACKERS)
@pytest.mark.parametrize("difference", ["contents", "names", "one bit", "cut short"])
def test_only_the_bytes_of_the_catalog_are_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str, difference: str
) -> None:
    """Whenever the server gives another file of the same size, from or until or in a request."""
    members = contents("pinned")
    pinned = PACKERS[kind](members)
    other = {
        "contents": lambda: PACKERS[kind](contents("other")),
        "names": lambda: PACKERS[kind](dict(zip(reversed(NAMES), members.values(), strict=True))),
        "one bit": lambda: pinned[:5000] + bytes([pinned[5000] ^ 1]) + pinned[5001:],
        "cut short": lambda: pinned[:-300],
    }[difference]()
    assert len(other) == len(pinned) or difference == "cut short"
    server = Server(pinned, other, monkeypatch)
    right = server.read_all(tmp_path, lambda _: False)
    assert right == list(members.items())
    count = server.requests
    assert count > 10
    refused = 0
    for place in range(count):
        for is_other in (place.__le__, place.__gt__, place.__eq__):
            found = server.read_all(tmp_path, is_other)
            if isinstance(found, str):
                refused += 1
                assert found.startswith("there: "), found
                assert "changed while it was read" in found or "expected SHA-256" in found, found
            else:
                assert found == right
    assert refused > 10


def test_a_file_that_is_both_a_zip_and_a_tar_archive_is_what_it_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its first bytes decide; they are read before the file is checked."""
    as_tar, as_zip = contents("tar"), contents("zip")
    tar = pack_tar(as_tar)
    stream = io.BytesIO(tar)
    with zipfile.ZipFile(stream, "a") as archive:
        for name, content in as_zip.items():
            archive.writestr(name, content)
    pinned = stream.getvalue()
    server = Server(pinned, b"PK\3\4" + pinned[4:], monkeypatch)
    assert server.read_all(tmp_path, lambda _: False) == list(as_tar.items())
    message = "there: changed while it was read; run the stage again when the file stays as it is"
    assert server.read_all(tmp_path, lambda request: request == 0) == message


def test_a_damaged_member_of_the_file_in_the_catalog_is_an_unreadable_image(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same reasons as for an archive on this machine."""
    content = bytearray(pack_zip(contents("pinned")))
    headers = [place for place in range(len(content)) if content[place : place + 4] == b"PK\3\4"]
    content[headers[0] + 100] ^= 1
    content[headers[1]] ^= 1
    entries = [place for place in range(len(content)) if content[place : place + 4] == b"PK\1\2"]
    content[entries[3] + 42 : entries[3] + 46] = content[entries[2] + 42 : entries[2] + 46]
    content[entries[5] + 42 : entries[5] + 46] = (len(content) - 10).to_bytes(4, "little")
    content[entries[4] + 20 : entries[4] + 28] = (len(content) - 10).to_bytes(4, "little") * 2
    server = Server(bytes(content), b"", monkeypatch)
    file = RemoteFile("there", server.size_bytes, server.sha256)
    archive = open_archive(file, tmp_path)
    members = list(archive.list_members())
    assert [member.name for member in members] == NAMES
    reasons = []
    for number in (0, 1, 3, 4, 5):
        with pytest.raises(UnreadableImageError) as caught:
            archive.read(members[number])
        reasons.append(str(caught.value).removeprefix("damaged in the archive: "))
    assert reasons == [
        "its checksum is another one",
        "no header of a file where it should be",
        "a part of it belongs to another member",
        "cut short",
        "cut short",
    ]
    assert archive.read(members[2]) == contents("pinned")[NAMES[2]]
