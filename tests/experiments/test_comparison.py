"""The comparison of two runs: provenance, test images, and source files that differ."""

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support import commit_run, find_error, run_parameters, set_params

from imgpipe.core.errors import PipelineError
from imgpipe.experiments.comparison import (
    RunComparison,
    check_test_images,
    compare_runs,
    find_code_differences,
    find_code_edits,
    find_differences,
)
from imgpipe.experiments.run import load_run
from imgpipe.records.info import RecordsInfo, Shard, SplitInfo, write_info
from imgpipe.records.normalization import Normalization
from imgpipe.records.shards import write_shard
from imgpipe.settings.image_spec import ImageSpec

IMAGE_SPEC = ImageSpec(height_px=8, width_px=8, channels=1, fit="pad", interpolation="nearest")
FILES = "src/imgpipe/core/files.py"


def compare(first: str, second: str) -> RunComparison:
    return compare_runs(load_run(first), load_run(second))


def with_image_spec(**changes: Any) -> dict[str, Any]:
    parameters = run_parameters()
    parameters["preprocess"] |= IMAGE_SPEC.model_dump() | changes
    return parameters


def test_a_better_run_gets_the_verdict_better(repository: Path) -> None:
    commit_run(repository, skill=4.0)
    compared = compare("HEAD~1", "HEAD")
    assert compared.comparison.verdict == "better"
    assert compared.notes == []
    assert compare("HEAD", "HEAD~1").comparison.verdict == "worse"


def test_differences_in_parameters_libraries_sources_and_data_are_found(repository: Path) -> None:
    commit_run(
        repository,
        parameters=run_parameters(training__learning_rate=0.1),
        raw="other",
        sources={"src/train.py": "edited\n"},
        pins=["keras==3.2", "numpy==2", "psutil==7"],
    )
    first, second = load_run("HEAD~1"), load_run("HEAD")
    found = find_differences(first, second)
    assert found.parameters == {"training.learning_rate": (0.002, 0.1)}
    assert found.libraries == {"keras": ("3.1", "3.2"), "psutil": (None, "7")}
    assert found.sources == ["src/train.py"]
    assert found.data == ["data/raw", "data/records", "data/augmented"]
    same = find_differences(first, first)
    assert (same.parameters, same.libraries, same.sources, same.data) == ({}, {}, [], [])


def test_files_are_named_under_folders_whose_hashes_differ(repository: Path) -> None:
    commit_run(repository, sources={FILES: "edited\n", "src/imgpipe/core/new.py": "new\n"})
    assert find_code_differences(load_run("HEAD~1"), load_run("HEAD")) == [
        FILES,
        "src/imgpipe/core/new.py",
    ]
    assert find_code_differences(load_run("HEAD"), load_run("HEAD~1")) == [
        FILES,
        "src/imgpipe/core/new.py",
    ]
    (repository / "src/imgpipe/core/ä.py").write_text("not in git\n")
    assert find_code_differences(load_run("HEAD~1"), load_run("workspace")) == [
        FILES,
        "src/imgpipe/core/new.py",
        "src/imgpipe/core/ä.py",
    ]


def test_equal_files_are_no_difference_if_only_one_lock_lists_their_folder(
    repository: Path,
) -> None:
    """One lock lists the folder; the other lists the files in the folder."""
    commit_run(repository, dependencies=["src/{stage}.py", "src/imgpipe/core/errors.py", FILES])
    assert find_code_differences(load_run("HEAD~1"), load_run("HEAD")) == []
    commit_run(repository, sources={FILES: "edited\n"})
    assert find_code_differences(load_run("HEAD~1"), load_run("HEAD")) == [FILES]


def test_code_edited_since_the_run_is_noted(repository: Path) -> None:
    assert find_code_edits(load_run("workspace")) == []
    (repository / "src/imgpipe/core/__pycache__").mkdir()
    (repository / "src/imgpipe/core/__pycache__/files.pyc").touch()
    assert find_code_edits(load_run("workspace")) == []
    (repository / FILES).write_text("edited\n")
    (repository / "src/train.py").unlink()
    notes = compare("HEAD", "workspace").notes
    assert notes == ["workspace: code edited since the run: src/imgpipe/core, src/train.py"]
    assert find_code_differences(load_run("HEAD"), load_run("workspace")) == []


def test_a_folder_is_named_if_its_files_now_equal_the_files_of_the_other_run(
    repository: Path,
) -> None:
    """The hashes of the code differ, but the changed file was changed back after the run."""
    commit_run(repository, sources={FILES: "edited\n"})
    (repository / FILES).write_text("files\n")
    assert find_code_differences(load_run("HEAD~1"), load_run("workspace")) == ["src/imgpipe/core"]
    shutil.rmtree(repository / "src/imgpipe/core")
    assert find_code_edits(load_run("workspace")) == ["src/imgpipe/core"]


def test_many_edits_are_counted(repository: Path) -> None:
    for path in (repository / "src").glob("*.py"):
        path.unlink()
    (repository / FILES).write_text("edited\n")
    (note,) = compare("HEAD", "workspace").notes
    assert note.endswith(" and 1 more")


def test_parameters_edited_since_the_run_are_noted(repository: Path) -> None:
    set_params(repository, run_parameters(training__learning_rate=0.1))
    assert compare("HEAD", "workspace").notes == [
        "workspace: parameters edited since the run: training.learning_rate: 0.1"
    ]


def test_runs_with_too_few_shared_test_images_are_refused(repository: Path) -> None:
    commit_run(repository, images=99)
    with pytest.raises(PipelineError, match="HEAD~1 and HEAD cannot be compared: "):
        compare("HEAD~1", "HEAD")


def test_shared_test_images_are_compared_and_counted(repository: Path) -> None:
    commit_run(repository, images=150, skill=4.0)
    compared = compare("HEAD~1", "HEAD")
    assert compared.notes == [
        "the test sets differ: the comparison is on the 150 images that both have with the same"
        " class, 150 of 200 in HEAD~1 and 150 of 150 in HEAD"
    ]
    assert [len(each.labels) for each in compared.predictions] == [150, 150]
    first, second = compared.predictions
    right = (second.probabilities.argmax(axis=1) == second.labels).mean()
    assert compared.comparison.differences[0].second == right
    assert first.identities == compared.first.predictions.identities[:150]


def test_images_of_other_sizes_are_assumed_to_be_the_same(repository: Path) -> None:
    for width_px in (8, 9):
        parameters = with_image_spec(width_px=width_px)
        commit_run(repository, parameters=parameters, raw=f"raw {width_px}")
    compared = compare("HEAD~1", "HEAD")
    assert compared.notes == [
        "data/raw and the image settings of preprocess differ: the test images are assumed to be"
        " the same because their names are the same"
    ]
    assert compared.made_by.data == ["data/raw", "data/records", "data/augmented"]


def test_pixels_are_compared_if_the_raw_data_differ(repository: Path) -> None:
    """For example, the raw data differ after a user adds images for training."""
    images = np.random.default_rng(0).integers(0, 256, (200, 8, 8, 1), dtype=np.uint8)
    records = repository / "data/records"
    for raw in ("before", "added", "changed"):
        if raw == "changed":
            images[7, 0, 0] ^= 1
        shard = write_shard(
            records / "test-00000-of-00001.tfrecord",
            ((image, n % 3, f"image-{n}") for n, image in enumerate(images)),
        )
        write_records_info(records, shard)
        commit_run(repository, parameters=with_image_spec(), raw=raw)
    before, added, changed = (load_run(f"HEAD~{n}") for n in (2, 1, 0))
    shared = before.predictions.identities
    assert check_test_images(before, added, shared) == []
    assert find_error(compare_runs, added, changed) == (
        "HEAD~1 and HEAD~0 cannot be compared: 1 test images have the same name but different"
        " pixels, such as image-7"
    )
    assert check_test_images(added, changed, [*shared[:7], *shared[8:]]) == []


def write_records_info(records: Path, shard: Shard) -> None:
    per_class = {"a": 67, "b": 67, "c": 66}
    info = RecordsInfo(
        format_version=1,
        dataset="digits",
        classes=["a", "b", "c"],
        image_spec=IMAGE_SPEC,
        normalization=Normalization(method="rescale", scale=[1 / 255], offset=[0.0]),
        record_fields={},
        splits={"test": SplitInfo(examples=200, per_class=per_class, shards=[shard])},
    )
    write_info(records, info)
