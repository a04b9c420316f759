"""The report about the data of a folder, or of a dataset of the catalog, before any stage runs."""

import zipfile
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from imgpipe.archives.folders import pack_folder, pack_local_dataset
from imgpipe.console.messages import escape_unprintable
from imgpipe.core.errors import PipelineError
from imgpipe.core.files import scratch_directory, write_json
from imgpipe.datasets.catalog import Entry, LocalEntry, load_entry
from imgpipe.datasets.download import download_dataset
from imgpipe.datasets.formats import ImageFolderFormat
from imgpipe.intake.label_sources import LabelFile, find_label_source
from imgpipe.intake.labeled_survey import survey_photographs
from imgpipe.intake.survey import find_given_path
from imgpipe.preprocessing.copies import find_copies
from imgpipe.preprocessing.copy_policy import divide_images, find_splits
from imgpipe.preprocessing.data_report import NOT_DIVIDED, DataReport, report_data
from imgpipe.preprocessing.groups import find_groups
from imgpipe.preprocessing.image_facts import find_facts
from imgpipe.preprocessing.raw_datasets import RawDataset, open_dataset
from imgpipe.preprocessing.thumbnails import draw_thumbnails
from imgpipe.reporting.data_page import write_data_page
from imgpipe.running.locks import hold_paths
from imgpipe.settings.image_spec import ImageSpec
from imgpipe.settings.params import Params
from imgpipe.settings.preprocess import Preprocess

PAGE = Path("data_report.html")
VALUES = Path("data_report.json")

# All of each picture, and enough detail for near duplicates, for any size of the records.
_SEEN = ImageSpec(height_px=224, width_px=224, channels=3, fit="stretch", interpolation="bilinear")
_SCRATCH = Path("data/data_report.partial")


class RawFiles(NamedTuple):
    """The files of a dataset that can be opened."""

    name: str
    entry: Entry
    folder: Path


def write_report(
    dataset: str, folder: str, params: Params, labels: str = "", pattern: str = ""
) -> Iterator[str]:
    """Write page and values of the report; yield lines that describe it.

    Args:
        dataset: a name in the catalog, if `folder` is empty.
        folder: of a person; it is only read.
        params: the parameters: values of `preprocess` choose the splits.
        labels: the table of labels of `folder`; "" without one.
        pattern: for the names of files in `folder`; "" without one. Without both, there is a folder
            for each class.

    Raises:
        PipelineError: no such folder, table or dataset; or the folder does not have the layout.
    """
    # Two reports would delete each other's files.
    with (
        hold_paths("data-report", written=[_SCRATCH.as_posix()], read=[]),
        scratch_directory(_SCRATCH) as scratch,
    ):
        raw = scratch / "raw"
        raw.mkdir()
        files = _pack(folder, labels, pattern, raw) if folder else _fetch(dataset, raw, params)
        opened = scratch / "opened"
        opened.mkdir()
        with closing(open_dataset(files.entry, files.folder, opened)) as images:
            settings = params.preprocess
            if folder and settings.groups in ("none", "column"):  # as `make photographs` chooses
                groups = "none" if images.groups is None else "column"
                settings = settings.model_copy(update={"groups": groups})
            found, note = _look(images, settings)
            thumbnails = draw_thumbnails(images, found.shown)
        write_json(VALUES, found.content)
        write_data_page(PAGE, files.name, found.content, thumbnails, note)
    yield f"{files.name}: {PAGE.as_posix()}, {VALUES.as_posix()}"
    yield from found.describe()
    if note:
        yield f"  no splits: {note}"


def _look(images: RawDataset, settings: Preprocess) -> tuple[DataReport, str]:
    """Return the report, and why the images cannot be divided into splits, if so."""
    facts = find_facts(images, _SEEN)
    try:
        groups = find_groups(settings.groups, images.groups, images.paths, len(images.labels))
        indices, note = divide_images(images, facts, settings, groups), ""
        splits = find_splits(indices, len(images.labels), facts.indices)
    except PipelineError as error:  # the report should help to repair the cause
        splits, note = np.full(len(facts.indices), NOT_DIVIDED, dtype=np.int8), str(error)
    copies = find_copies(facts, settings.duplicate_distance)
    return report_data(images, facts, copies, splits), note


def _pack(folder: str, labels: str, pattern: str, raw: Path) -> RawFiles:
    """Pack a person's folder as `fetch` does, under its last name: no page has the whole path."""
    source = find_given_path(folder)
    if not source.is_dir():
        raise PipelineError(
            f"{escape_unprintable(folder)}: expected a folder: make data-report"
            " FOLDER=path/to/folder"
        )
    label_source = find_label_source(source, labels, pattern, is_in_place=False)
    survey = survey_photographs(source, label_source)
    name = escape_unprintable(survey.top.resolve().name) or "folder"
    reading: dict[str, Any] = {"kind": "image_folder"}
    if survey.splits:
        reading["splits"] = dict(survey.splits)
    if label_source:
        reading |= label_source.format
    content = {"title": name, "files": name, "format": reading}
    entry = LocalEntry[ImageFolderFormat].model_validate(content)
    pack_folder(survey.top, raw / entry.archive_name)
    if isinstance(label_source, LabelFile) and not (source / label_source.name).exists():
        with zipfile.ZipFile(raw / entry.archive_name, "a") as archive:
            archive.writestr(label_source.name, label_source.content)
    return RawFiles(name, entry, raw)


def _fetch(dataset: str, raw: Path, params: Params) -> RawFiles:
    """Bring the files of a dataset of the catalog, as `fetch` does."""
    entry = load_entry(dataset)
    if isinstance(entry, LocalEntry):
        pack_local_dataset(entry, raw)
    elif not entry.in_place:
        download_dataset(dataset, entry, raw, allow_unpinned=params.allow_unpinned)
    return RawFiles(dataset, entry, raw)
