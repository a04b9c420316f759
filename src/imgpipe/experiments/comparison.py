"""Compare two runs on shared test images: metrics, parameters, libraries, data and code."""

import hashlib
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

from imgpipe.console.messages import join_some
from imgpipe.core.errors import PipelineError
from imgpipe.core.paths import AUGMENTED, RAW, RECORDS
from imgpipe.evaluation.predictions import Predictions
from imgpipe.evaluation.significance import Comparison, align, compare_predictions
from imgpipe.experiments.provenance import find_parameter_edits, list_changed_files, open_hasher
from imgpipe.experiments.run import Run
from imgpipe.settings.image_spec import ImageSpec

_RAW = RAW.as_posix()
_DATA = (_RAW, RECORDS.as_posix(), AUGMENTED.as_posix())
_SHOWN_EDITS = 5


@dataclass(frozen=True)
class ProvenanceDifferences:
    """The differences in the provenance of two runs; None if a run does not have a key."""

    parameters: dict[str, tuple[Any, Any]]
    libraries: dict[str, tuple[str | None, str | None]]
    sources: list[str]
    """Source files that were changed, added or removed."""
    data: list[str]
    """Outputs of fetch, preprocess and augment that differ."""


@dataclass(frozen=True)
class RunComparison:
    """The result of comparing a second run with a first one."""

    first: Run
    second: Run
    predictions: tuple[Predictions, Predictions]
    """Predictions of both runs for their shared test images; images and classes in one order."""
    comparison: Comparison
    made_by: ProvenanceDifferences
    notes: list[str]
    """Limits of the comparison, a sentence each."""


def compare_runs(first: Run, second: Run) -> RunComparison:
    """Compare two runs on the test images that both have.

    Raises:
        PipelineError: the test sets or the pixels of the images differ too much (`align`,
            `check_test_images`), or files of a run are missing.
    """
    predictions = align(first.predictions, second.predictions, (first.name, second.name))
    shared = predictions[0].identities
    notes = [note for run in (first, second) for note in find_edits(run)]
    notes += describe_shared_images(first, second, len(shared))
    if first.provenance.outputs[_RAW] != second.provenance.outputs[_RAW]:
        notes += check_test_images(first, second, shared)
    parameters = second.provenance.parameters
    comparison = compare_predictions(
        *predictions,
        top_k=parameters["evaluate.top_k"],
        bins=parameters["evaluate.calibration_bins"],
    )
    return RunComparison(
        first, second, predictions, comparison, find_differences(first, second), notes
    )


def find_edits(run: Run) -> list[str]:
    """Return notes on parameters and source files that were edited since the run."""
    edits = {
        "parameters": find_parameter_edits(run.revision, run.provenance),
        "code": find_code_edits(run),
    }
    return [
        f"{run.name}: {kind} edited since the run: {join_some(names, _SHOWN_EDITS)}"
        for kind, names in edits.items()
        if names
    ]


def describe_shared_images(first: Run, second: Run, shared: int) -> list[str]:
    """Return a note on the number of shared test images if the test sets differ."""
    counts = [len(run.predictions.identities) for run in (first, second)]
    if shared == max(counts):
        return []
    return [
        f"the test sets differ: the comparison is on the {shared} images that both have with the"
        f" same class, {shared} of {counts[0]} in {first.name} and {shared} of {counts[1]} in"
        f" {second.name}"
    ]


def check_test_images(first: Run, second: Run, shared: Collection[str]) -> list[str]:
    """Check that shared test images have the same pixels in two runs with different raw data.

    If the sizes of the images differ, pixels cannot be compared: a note says so.

    Raises:
        PipelineError: the pixels differ.
    """
    image_specs = [
        {key: run.provenance.parameters.get(f"preprocess.{key}") for key in ImageSpec.model_fields}
        for run in (first, second)
    ]
    if image_specs[0] != image_specs[1]:
        return [
            f"{_RAW} and the image settings of preprocess differ: the test images are assumed to"
            " be the same because their names are the same"
        ]
    names = set(shared)
    hashes = [
        {
            name: hashlib.sha256(image.tobytes()).digest()
            for name, image in run.read_test_images()
            if name in names
        }
        for run in (first, second)
    ]
    changed = [name for name, digest in hashes[1].items() if digest != hashes[0].get(name)]
    if changed:
        raise PipelineError(
            f"{first.name} and {second.name} cannot be compared: {len(changed)} test images have"
            f" the same name but different pixels, such as {changed[0]}"
        )
    return []


def find_differences(first: Run, second: Run) -> ProvenanceDifferences:
    """Return the differences in the provenance of two runs, in the order of the first run."""
    before, after = first.provenance, second.provenance
    return ProvenanceDifferences(
        parameters=_differing(before.parameters, after.parameters),
        libraries=_differing(before.libraries, after.libraries),
        sources=find_code_differences(first, second),
        data=[path for path in _differing(before.outputs, after.outputs) if path in _DATA],
    )


def find_code_differences(first: Run, second: Run) -> list[str]:
    """Return the source files that differ, in dependencies whose recorded hashes differ.

    If the hashes of a file or folder differ but its files are equal now, because a file was edited
    since the run, return that file or folder.
    """
    found: set[str] = set()
    for path, recorded in _differing(first.provenance.sources, second.provenance.sources).items():
        files = list_changed_files(first.revision, second.revision, path)
        # Equal files explain a path that only one run lists, for example as part of a folder.
        found |= set(files) if files or None in recorded else {path}
    return sorted(found)


def find_code_edits(run: Run) -> list[str]:
    """Return the source files and folders that changed after DVC recorded the run."""
    with open_hasher(run.revision) as hash_path:
        return [
            path for path, recorded in run.provenance.sources.items() if hash_path(path) != recorded
        ]


def _differing(first: Mapping[str, Any], second: Mapping[str, Any]) -> dict[str, tuple[Any, Any]]:
    return {
        key: (first.get(key), second.get(key))
        for key in dict.fromkeys([*first, *second])
        if first.get(key) != second.get(key)
    }
