"""Download the files of a dataset from a mirror or from the addresses in the catalog.

Every file is checked by its size and SHA-256. Own code, because pooch 1.9 takes one address for a
file, and its `retrieve` does not try again after a failure.
"""

import functools
import hashlib
import http.client
import importlib.util
import os
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, BinaryIO, TypeVar

from imgpipe.console.progress import ProgressBar
from imgpipe.core.errors import PipelineError
from imgpipe.core.files import replace_directory, replace_file
from imgpipe.datasets.catalog import CATALOG_FILE, UNPUBLISHED, DownloadEntry, RawFile

ATTEMPTS = 3
TIMEOUT_S = 30.0
FIRST_PAUSE_S = 1.0
CHUNK_BYTES = 1 << 20

ResultT = TypeVar("ResultT")


def download_dataset(
    dataset: str, entry: DownloadEntry[Any], raw: Path, *, allow_unpinned: bool
) -> dict[str, str]:
    """Replace `raw` by a folder with the files of a dataset.

    Returns:
        the SHA-256 of each file whose hash the catalog does not know, by its name.

    Raises:
        PipelineError: as `fetch_file`; `raw` is then as before.
    """
    addresses = find_addresses(dataset, entry.urls)
    unpinned = {}
    with replace_directory(raw) as folder:
        for file in entry.files:
            sha256 = fetch_file(file, addresses, folder, allow_unpinned=allow_unpinned)
            if sha256 != file.sha256:
                unpinned[file.name] = sha256
    return unpinned


def find_addresses(dataset: str, urls: Iterable[str]) -> list[str]:
    """Return the folders to try for the files of a dataset, best first.

    `DATASET_MIRROR`, a folder or URL laid out as `<dataset>/<file>`, comes before `urls`. Relative
    folders are resolved as in `resolve_addresses`.
    """
    mirror = os.environ.get("DATASET_MIRROR")
    mirrors = [f"{mirror.rstrip('/')}/{dataset}"] if mirror else []
    return resolve_addresses([*mirrors, *urls])


def resolve_addresses(addresses: Iterable[str]) -> list[str]:
    """Return addresses with relative folders made relative to the top folder of the project.

    This is so also if DVC runs the stage in a copy of the project (`dvc exp run --temp`): DVC names
    the original in `DVC_ROOT`.
    """
    top = Path(os.environ.get("DVC_ROOT", "."))
    return [address if "://" in address else (top / address).as_posix() for address in addresses]


def fetch_file(
    file: RawFile, addresses: Iterable[str], folder: Path, *, allow_unpinned: bool = False
) -> str:
    """Download `file` into `folder` from the first address that has it with the right hash.

    After a network failure the address is tried again, `ATTEMPTS` times in all, with growing
    pauses. After a wrong hash or a missing file the next address is tried at once. The file gets
    its name only if its size and hash are right.

    A file whose hash the catalog does not know is accepted only with `allow_unpinned`.

    Returns:
        the SHA-256 of the file.

    Raises:
        PipelineError: no address had the file; the line gives the answer of each address. Or the
            catalog does not know the hash and `allow_unpinned` is false; the line gives the hash.
    """
    answers = []
    for address in addresses:
        url = f"{address.rstrip('/')}/{file.name}"
        try:
            with replace_file(folder / file.name) as partial:
                sha256 = try_again(
                    functools.partial(_copy_checked, url, file, partial),
                    may_pass=functools.partial(_may_pass, url),
                )
                if file.sha256 == UNPUBLISHED and not allow_unpinned:
                    raise PipelineError(
                        f"{file.name}: the catalog does not know its SHA-256; the SHA-256 of {url}"
                        f" is {sha256}; write it into {CATALOG_FILE.as_posix()} if you trust the"
                        " file, or set allow_unpinned: true in params.yaml"
                    )
            return sha256
        except (OSError, http.client.HTTPException, _WrongContentError) as error:
            answers.append(f"{url}: {_reason(error)}")
    raise PipelineError(
        f"could not fetch {file.name}: {'; '.join(answers) or 'the catalog has no address'}. "
        f"Set DATASET_MIRROR to a folder that holds <dataset>/{file.name}"
    )


class _WrongContentError(Exception):
    """The content differs from the size or hash in the catalog."""


class _ShortContentError(OSError):
    """Fewer bytes than the catalog says: often a broken connection, so it is tried again."""


def try_again(access: Callable[[], ResultT], *, may_pass: Callable[[Exception], bool]) -> ResultT:
    """Return the result of an access, after `ATTEMPTS` attempts at most, with growing pauses.

    `may_pass` returns whether the next attempt may succeed after an error.
    """
    for attempt in range(ATTEMPTS - 1):
        try:
            return access()
        except Exception as error:
            if not may_pass(error):
                raise
        time.sleep(FIRST_PAUSE_S * (1 << attempt))
    return access()


def _may_pass(url: str, error: Exception) -> bool:
    """Return whether the next attempt may succeed."""
    if not isinstance(error, (OSError, http.client.HTTPException)):
        return False
    if not url.startswith(("http://", "https://")):
        return False
    if isinstance(error, urllib.error.HTTPError):
        return error.code in (408, 429) or error.code >= 500
    return True


def _copy_checked(url: str, file: RawFile, destination: Path) -> str:
    digest, received_bytes = hashlib.sha256(), 0
    with (
        _open(url) as source,
        destination.open("wb") as target,
        ProgressBar(file.name, file.bytes, "B") as bar,
    ):
        while chunk := source.read(CHUNK_BYTES):
            received_bytes += len(chunk)
            if received_bytes > file.bytes:
                raise _WrongContentError(f"expected {file.bytes} bytes, found more")
            digest.update(chunk)
            target.write(chunk)
            bar.update(len(chunk))
    if received_bytes < file.bytes:
        raise _ShortContentError(f"expected {file.bytes} bytes, found {received_bytes}")
    if file.sha256 not in (digest.hexdigest(), UNPUBLISHED):
        raise _WrongContentError(f"expected SHA-256 {file.sha256}, found {digest.hexdigest()}")
    return digest.hexdigest()


def _open(url: str) -> BinaryIO:
    parts = urllib.parse.urlsplit(url)
    if parts.scheme in ("http", "https"):
        response: BinaryIO = urllib.request.urlopen(url, timeout=TIMEOUT_S)
        return response
    if parts.scheme == "package":
        return (_package_folder(parts.netloc) / parts.path.lstrip("/")).open("rb")
    if parts.scheme == "file":
        return Path(urllib.request.url2pathname(parts.path)).open("rb")
    return Path(url).open("rb")


def _package_folder(package: str) -> Path:
    """Return the folder in which a Python package is installed, without importing it."""
    spec = importlib.util.find_spec(package)
    if spec is None or not spec.submodule_search_locations:
        raise FileNotFoundError(f"the Python package {package} is not installed")
    return Path(spec.submodule_search_locations[0])


def _reason(error: Exception) -> str:
    match error:
        case urllib.error.HTTPError():
            return f"HTTP {error.code} {error.reason}"
        case urllib.error.URLError():
            return str(error.reason)
        case FileNotFoundError() if error.strerror:
            return "no such file"
        case _:
            return str(error) or type(error).__name__
