"""Make a dataset of a person's folder of images, or of archives: an entry in the catalog.

The person's folder is only read. The files of the dataset are hard links to the person's files if
both are on one disk, because photographs are large; otherwise they are copies. No stage writes into
data/local.
"""

import os
import re
import shlex
import shutil
import unicodedata
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from imgpipe.archives.addresses import list_archives
from imgpipe.console.messages import escape_unprintable, format_bytes, format_count, join_some
from imgpipe.core.errors import PipelineError
from imgpipe.core.files import replace_directory, replace_file
from imgpipe.core.yaml_file import format_yaml, parse_yaml, read_yaml
from imgpipe.datasets.catalog import (
    CATALOG_FILE,
    LOCAL,
    MANIFEST_NAME,
    check_entry,
    is_valid_name,
    write_manifest,
)
from imgpipe.intake.label_sources import LabelFile, LabelSource
from imgpipe.intake.survey import find_given_path
from imgpipe.running.locks import hold_paths

_SHOWN_CLASSES = 5


@dataclass(frozen=True)
class NewDataset:
    """A dataset that is not in the catalog yet."""

    name: str
    source: Path
    """The person's folder."""
    is_in_place: bool
    """Whether the person's folder is data/local/<name>, the folder of the dataset."""

    @property
    def folder(self) -> Path:
        """The folder of the dataset."""
        return LOCAL / self.name


def plan_dataset(source: str, name: str = "") -> NewDataset:
    """Check the folder and the name of a new dataset.

    In the source, "~" is the home folder. By default the name is made of the folder's.

    Raises:
        PipelineError: no such folder, a folder that holds or is in the project's folder of data, or
            a name that is not valid or already exists.
    """
    if not source:
        raise PipelineError("expected a folder: make photographs FOLDER=path/to/folder")
    given = find_given_path(source)
    shown = escape_unprintable(given.as_posix())
    if not given.exists():
        raise PipelineError(f"{shown}: no such folder")
    if not given.is_dir():
        raise PipelineError(f"{shown}: expected a folder; found a file; unpack an archive first")
    folder, local = given.resolve(), LOCAL.resolve()
    if not name:
        name = folder.name if folder.parent == local else _name_after(folder)
    name = unicodedata.normalize("NFC", name)
    is_in_place, data = folder == local / name, local.parent
    if not is_in_place and (folder.is_relative_to(data) or data.is_relative_to(folder)):
        raise PipelineError(
            f"{shown}: expected a folder outside of {LOCAL.parent.as_posix()}, which the pipeline"
            f" writes; or {LOCAL.as_posix()}/NAME, without another NAME"
        )
    new = NewDataset(name, given, is_in_place)
    # If another run adds this dataset now, its entry is written after its folder.
    with hold_paths("dataset", written=[], read=[new.folder.as_posix()]):
        _check_is_free(new)
    return new


def format_choice(name: str) -> str:
    """Return the line of params.yaml that chooses a dataset; a name such as 007 needs quotes."""
    return format_yaml({"dataset": name}).strip()


def add_dataset(
    new: NewDataset,
    top: Path,
    files: Collection[str],
    classes: Collection[str],
    splits: Mapping[str, str] | None,
    labels: LabelSource | None = None,
) -> str:
    """Bring the files of a new dataset to its folder, append its entry, and return a report.

    The folder gets its name when it is complete, and then the entry is written. So a killed
    process leaves no partial folder, and no entry without its folder.

    The names of the files are below `top`, the folder that holds the folders of the splits or of
    the classes. `splits` has the folder of each official split, if there are such folders. A table
    of labels is copied, so that a later change does not change the person's file.

    Raises:
        PipelineError: an entry cannot be appended to the catalog, or another run has added the
            dataset since `plan_dataset`.
    """
    reading: dict[str, Any] = {"kind": "image_folder"}
    if labels:
        reading |= labels.format
    if new.is_in_place and top != new.source:
        reading["root"] = top.relative_to(new.source).as_posix()
    if splits:
        reading["splits"] = dict(splits)
    title = f"Photographs: {join_some(sorted(classes), _SHOWN_CLASSES)}"
    entry = {"title": title, "files": new.folder.as_posix(), "format": reading}
    with hold_paths("dataset", written=[new.folder.as_posix()], read=[]):
        _check_is_free(new)  # another run may have added it now
        _append_entry(new.name, entry)  # an error is found before the files are copied
        how = "in place"
        if not new.is_in_place:
            with replace_directory(new.folder) as folder:
                linked = sum(_link_or_copy(top / name, folder / name) for name in files)
                if isinstance(labels, LabelFile):
                    path = folder / labels.name
                    path.parent.mkdir(parents=True, exist_ok=True)
                    path.write_bytes(labels.content)
            how = "hard links to your files" if linked == len(files) else "copies of your files"
            if 0 < linked < len(files):
                how = f"{linked} hard links to your files, {len(files) - linked} copies"
        _write_entry(new.name, entry)
    return f"{new.folder.as_posix()}: {how}; {CATALOG_FILE.as_posix()}: the entry {new.name}"


def add_archives(address: str, name: str = "") -> tuple[str, list[str]]:
    """Append the entry of a dataset whose archives stay at an address; return name and report.

    The address is a folder as fsspec writes it, s3://bucket/folder; its last part is the default
    name.

    Raises:
        PipelineError: the address cannot be used, has no such files, or the name is not valid or
            is already in the catalog.
    """
    name = name or PurePosixPath(address).name
    _check_name(name, "to list its files again, delete the entry")
    manifest = LOCAL / name / MANIFEST_NAME
    if os.path.lexists(manifest.parent):
        raise PipelineError(
            f"NAME: {manifest.parent.as_posix()} already exists; delete it, or choose another NAME"
        )
    files = list_archives(address)
    entry = {
        "title": f"Archives at {address}",
        "license": "",
        "citation": "",
        "urls": [address],
        "files": {"in_place": manifest.as_posix()},
        "format": {"kind": "image_folder"},
    }
    write_manifest(manifest, files)
    _write_entry(name, entry)
    size = format_bytes(sum(file.bytes for file in files))
    return name, [
        f"{manifest.as_posix()}: {format_count(len(files), 'archive')}, {size};"
        f" {CATALOG_FILE.as_posix()}: the entry {name}",
        f"for other people: `git add --force {shlex.quote(manifest.as_posix())}`",
    ]


def _check_name(name: str, instead: str) -> None:
    """Check the name of a new dataset; `instead` is what to do if there is one of this name."""
    if not is_valid_name(name):
        raise PipelineError(f"NAME: expected letters, digits, _ and -; found {name!r}")
    if name in _read_catalog():
        raise PipelineError(
            f"NAME: the dataset {name} already exists in {CATALOG_FILE.as_posix()}; {instead};"
            " or choose another NAME"
        )


def _check_is_free(new: NewDataset) -> None:
    """Check that no dataset, and no folder in data/local, has the name of a new dataset."""
    more = f"put more photographs into {new.folder.as_posix()}"
    again = f"`make run` runs it again, with `{format_choice(new.name)}` in params.yaml"
    _check_name(new.name, f"{more}; {again}")
    if os.path.lexists(new.folder) and not new.is_in_place:
        existing = new.folder.as_posix()
        raise PipelineError(
            f"NAME: {existing} already exists, without an entry in {CATALOG_FILE.as_posix()};"
            f" FOLDER={shlex.quote(existing)} makes a dataset of it; or delete it, or choose"
            " another NAME"
        )


def _name_after(folder: Path) -> str:
    name = re.sub(r"[^\w-]+", "_", unicodedata.normalize("NFC", folder.name)).strip("_-")
    if not name:
        raise PipelineError(f"NAME: choose a name; {folder.name!r} has no letters or digits")
    return name


def _read_catalog() -> dict[str, Any]:
    return _check_catalog(read_yaml(CATALOG_FILE))


def _check_catalog(catalog: Any) -> dict[str, Any]:
    """Return the entries of a catalog, which may be empty."""
    if not isinstance(catalog, dict | None):
        raise PipelineError(f"{CATALOG_FILE.as_posix()}: expected a mapping of names to datasets")
    return catalog or {}


def _write_entry(name: str, entry: dict[str, Any]) -> None:
    """Append an entry to the catalog, also if another process does so at the same time."""
    with (
        hold_paths("dataset", written=[CATALOG_FILE.as_posix()], read=[]),
        replace_file(CATALOG_FILE) as partial,
    ):
        partial.write_bytes(_append_entry(name, entry))


def _append_entry(name: str, entry: Mapping[str, Any]) -> bytes:
    """Return the catalog with one more entry at its end; its present bytes do not change."""
    content = CATALOG_FILE.read_bytes()  # once: another process may replace the file
    before = _check_catalog(parse_yaml(content.decode(), CATALOG_FILE.as_posix()))
    content += b"\n" * (not content.endswith(b"\n"))
    content += f"\n{format_yaml({name: dict(entry)})}".encode()
    where = CATALOG_FILE.as_posix()
    try:
        is_right = parse_yaml(content.decode(), where) == {**before, name: entry}
    except PipelineError:
        is_right = False
    if not is_right:
        raise PipelineError(
            f"{where}: an entry cannot be appended after its last line; expected names of datasets"
            " at the beginning of lines, and nothing that ends the document"
        )
    check_entry(name, entry, where)
    return content


def _link_or_copy(source: Path, target: Path) -> bool:
    """Link or copy a file; return whether it is a hard link."""
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        os.link(source.resolve(), target)  # not to the link, if the source is one
    except OSError:  # another disk, or a file system without hard links
        shutil.copyfile(source, target)
        return False
    return True
