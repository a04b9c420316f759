"""Check a folder of images whose labels are in a table, or in the names of the files."""

from collections.abc import Iterable, Mapping
from pathlib import Path

import numpy as np

from imgpipe.archives.folders import find_items
from imgpipe.core.errors import PipelineError
from imgpipe.intake.label_sources import LabelSource
from imgpipe.intake.survey import ALL, LEAST_IMAGES, Survey, inspect_files, show_path, survey_folder
from imgpipe.preprocessing.folder_levels import check_class_names
from imgpipe.preprocessing.labels import NO_LABEL, ImageLabels
from imgpipe.preprocessing.splits import SPLITS, UNASSIGNED


def survey_photographs(folder: Path, source: LabelSource | None) -> Survey:
    """Check a person's folder, by `survey_folder` or `survey_labeled_folder`."""
    return survey_labeled_folder(folder, source) if source else survey_folder(folder)


def survey_labeled_folder(folder: Path, source: LabelSource) -> Survey:
    """Check a folder; unlike `survey_folder`, its folders mean nothing.

    Raises:
        PipelineError: there are fewer than two classes, a class has too few images, or the stages
            refuse a name, a link, the table or the pattern.
    """
    items = sorted(find_items(folder))
    tables = list(source.format.values())
    paths = {
        item.name: folder / item.name
        for item in items
        if not (item.is_ignored or item.is_folder or item.name in tables)
    }
    shown = show_path(folder)
    found = inspect_files(paths)
    names = sorted({**found.images, **found.unreadable})
    labels = source.label_images(lambda some: [names[index] for index in some], len(names), shown)
    classes = sorted(labels.classes)
    check_class_names(classes, shown, "labels")
    unlabeled = {names[index] for index in np.flatnonzero(labels.labels == NO_LABEL)}
    images = {name: size for name, size in found.images.items() if name not in unlabeled}
    counts = _count_images(names, labels, classes, images)
    _check_counts(counts, shown)
    return Survey(
        top=folder,
        splits=None,
        files=list(paths),
        images=images,
        unreadable=_leave_out(found.unreadable, unlabeled),
        misnamed=_leave_out(found.misnamed, unlabeled),
        not_images=found.not_images,
        outside=sorted(unlabeled),
        ignored=sum(item.is_ignored for item in items),
        size_bytes=sum(paths[name].stat().st_size for name in images),
        counts=counts,
        dark_images=found.dark_images,
        labels=source.describe(labels),
        has_groups=labels.groups is not None,
        outside_why=source.reason,
    )


def _leave_out(notes: Mapping[str, str], names: set[str]) -> dict[str, str]:
    return {name: note for name, note in notes.items() if name not in names}


def _count_images(
    names: Iterable[str], labels: ImageLabels, classes: list[str], images: Mapping[str, object]
) -> dict[str, dict[str, int]]:
    """Return the number of readable images by class and split, as `Survey.counts`."""
    present = labels.splits[labels.labels != NO_LABEL]
    splits = {code: split for code, split in enumerate(SPLITS) if code in present}
    if UNASSIGNED in present:
        splits[UNASSIGNED] = "without a split" if splits else ALL
    counts = {name: dict.fromkeys(splits.values(), 0) for name in classes}
    for name, label, split in zip(names, labels.renumber(classes), labels.splits, strict=True):
        if name in images:
            counts[classes[label]][splits[split]] += 1
    return counts


def _check_counts(counts: Mapping[str, Mapping[str, int]], shown: str) -> None:
    if len(counts) == 1:
        raise PipelineError(
            f"{shown}: all labels are {next(iter(counts))!r}; at least two are needed"
        )
    for name, of_splits in counts.items():
        drawn = [count for split, count in of_splits.items() if split not in SPLITS[1:]]
        held_out = [count for split, count in of_splits.items() if split in SPLITS[1:]]
        if sum(drawn) < LEAST_IMAGES or not all(held_out):
            every = ", ".join(f"{count} {split}" for split, count in of_splits.items())
            raise PipelineError(
                f"{shown}: class {name!r} has {every}; expected at least {LEAST_IMAGES} for"
                " training, and 1 for each other split: add images, or delete the labels"
            )
