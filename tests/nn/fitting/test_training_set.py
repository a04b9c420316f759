"""Training examples in their variants, from records."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support import RESCALE, SMALL_SPEC, make_easy_images

from imgpipe.core.errors import PipelineError
from imgpipe.nn.fitting import training_set as module
from imgpipe.nn.fitting.training_set import (
    TrainingSet,
    draw_bootstrap,
    is_faster_in_memory,
    open_training_set,
)
from imgpipe.records import stored_images
from imgpipe.records.folders import AugmentedRecords, Records
from imgpipe.records.info import AugmentedInfo, RecordsInfo, SplitInfo, copy_folder
from imgpipe.records.shards import write_shard
from imgpipe.records.stored_images import LabeledInputs

COPIES = 2
IMAGES, LABELS = make_easy_images(32)
TRAINING, VALIDATION = slice(0, 25), slice(25, 32)
ALL = np.arange(25)

Folders = tuple[Path, RecordsInfo, Path, AugmentedInfo]


def write_part(folder: Path, file: str, part: slice, variant: int) -> Any:
    """Write a shard; the pixels of variant v are divided by v + 1."""
    rows = zip(IMAGES[part] // (variant + 1), LABELS[part].tolist(), strict=True)
    return write_shard(folder / file, ((image, label, f"#{label}") for image, label in rows))


def describe_split(part: slice, shards: list[Any]) -> SplitInfo:
    """Describe a split of some of the images."""
    counts = np.bincount(LABELS[part], minlength=10).tolist()
    per_class = {str(label): count for label, count in enumerate(counts)}
    return SplitInfo(examples=sum(counts), per_class=per_class, shards=shards)


@pytest.fixture
def folders(tmp_path: Path) -> Folders:
    """Records of 25 training images in two shards, two augmented copies, 7 validation images."""
    records, augmented = tmp_path / "records", tmp_path / "augmented"
    parts = {
        "train-00000-of-00002.tfrecord": slice(0, 15),
        "train-00001-of-00002.tfrecord": slice(15, 25),
    }
    variants = [
        [
            write_part(augmented / copy_folder(copy) if copy else records, file, part, copy)
            for file, part in parts.items()
        ]
        for copy in range(1 + COPIES)
    ]
    validation = write_part(records, "validation-00000-of-00001.tfrecord", VALIDATION, 0)
    info = RecordsInfo(
        format_version=1,
        dataset="easy",
        classes=[str(label) for label in range(10)],
        image_spec=SMALL_SPEC,
        normalization=RESCALE,
        record_fields={},
        splits={
            "train": describe_split(slice(0, 25), variants[0]),
            "validation": describe_split(VALIDATION, [validation]),
        },
    )
    return (
        records,
        info,
        augmented,
        AugmentedInfo(format_version=1, record_fields={}, shards_of_copies=variants[1:]),
    )


@pytest.fixture(params=["memory", "files"])
def place(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Where the images are: in memory, or in files because the limit of memory is 0."""
    chosen: str = request.param
    monkeypatch.setenv("IMGPIPE_MEMORY_MIB", {"memory": "1", "files": "0"}[chosen])
    return chosen


def open_set(
    records: Path, info: RecordsInfo, augmented: Path, augmented_info: AugmentedInfo
) -> TrainingSet:
    originals = Records(records, info)
    return open_training_set(
        originals, AugmentedRecords(augmented, augmented_info, originals), None
    )


def test_each_epoch_shows_one_variant_and_the_variants_take_turns(
    folders: Folders, place: str, capsys: pytest.CaptureFixture[str]
) -> None:
    training_set = open_set(*folders)
    message = "train: the images stay in their files: 11.8 kB would take too much memory\n"
    assert capsys.readouterr().out == (message if place == "files" else "")
    assert training_set.examples == 25
    assert training_set.input_shape == (12, 12, 1)
    assert training_set.labels.tolist() == LABELS[TRAINING].tolist()
    for epoch in range(2 * (1 + COPIES)):
        divisor = 1 + (epoch + ALL) % (1 + COPIES)
        expected = IMAGES[TRAINING] // divisor[:, None, None, None]
        assert (training_set.take(ALL, epoch) == expected).all()
    some = np.array([3, 20, 3, 0])
    assert (training_set.take(some, 1) == training_set.take(ALL, 1)[some]).all()


def test_validation_examples_have_no_variants(folders: Folders, place: str) -> None:
    images, labels = open_set(*folders).validation
    assert isinstance(images, np.ndarray) == (place == "memory")
    assert images.shape == (7, 12, 12, 1)
    assert (images[np.arange(7)] == IMAGES[VALIDATION]).all()
    assert labels.tolist() == LABELS[VALIDATION].tolist()


def test_images_in_more_files_than_can_be_open_at_once_are_found(
    folders: Folders, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("IMGPIPE_MEMORY_MIB", "0")
    monkeypatch.setattr(stored_images, "_MOST_OPEN_FILES", 2)
    training_set = open_set(*folders)
    generator = np.random.default_rng(0)
    for epoch in range(20):
        examples = generator.integers(25, size=8)
        divisor = 1 + (epoch + examples) % (1 + COPIES)
        expected = IMAGES[examples] // divisor[:, None, None, None]
        assert (training_set.take(examples, epoch) == expected).all()


def test_all_images_are_counted_before_they_are_read_into_memory(
    folders: Folders, monkeypatch: pytest.MonkeyPatch
) -> None:
    sizes: list[int] = []

    def record(size_bytes: int) -> bool:
        sizes.append(size_bytes)
        return True

    monkeypatch.setattr(module, "fits_in_memory", record)
    open_set(*folders)
    assert sizes == [(3 * 25 + 7) * 12 * 12]


def test_large_images_stay_in_their_files(folders: Folders) -> None:
    _, info, _, _ = folders
    assert is_faster_in_memory(info)
    large = SMALL_SPEC.model_copy(update={"height_px": 128, "width_px": 128})
    assert not is_faster_in_memory(info.model_copy(update={"image_spec": large}))


def test_a_bootstrap_sample_has_the_same_size_and_repeats_examples() -> None:
    drawn = draw_bootstrap(250, seed=3)
    assert drawn.shape == (250,)
    assert 0 <= drawn.min() <= drawn.max() < 250
    assert 0.55 < len(set(drawn.tolist())) / 250 < 0.71  # the expected share is 1 - 1/e
    assert (draw_bootstrap(250, seed=3) == drawn).all()
    assert (draw_bootstrap(250, seed=4) != drawn).any()


def test_each_draw_of_a_bootstrap_sample_has_its_own_variant() -> None:
    """In one epoch, two draws of the same example may show different variants."""
    images = np.arange(50, dtype=np.uint8)[:, None, None, None]  # two variants of 25 examples
    labels = np.arange(25)
    training_set = TrainingSet(images, labels, LabeledInputs(images, labels), bootstrap_seed=3)
    drawn = draw_bootstrap(25, seed=3)
    assert training_set.examples == 25
    assert training_set.labels.tolist() == drawn.tolist()
    for epoch in range(2):
        taken = training_set.take(ALL, epoch)[:, 0, 0, 0]
        assert taken.tolist() == (drawn + 25 * ((epoch + ALL) % 2)).tolist()


def test_the_digest_depends_on_everything_that_a_training_depends_on(folders: Folders) -> None:
    records, info, augmented, augmented_info = folders

    def digest(info: RecordsInfo = info, augmented_info: AugmentedInfo = augmented_info) -> str:
        return open_set(records, info, augmented, augmented_info).digest

    assert digest() == digest()
    first, second = augmented_info.shards_of_copies
    other_normalization = RESCALE.model_copy(update={"offset": [1.0]})
    without_validation_image = write_part(records, "shorter.tfrecord", slice(26, 32), 0)
    others = [
        digest(info.model_copy(update={"normalization": other_normalization})),
        digest(info.model_copy(update={"classes": info.classes[::-1]})),
        digest(
            info.model_copy(
                update={
                    "splits": {
                        **info.splits,
                        "validation": SplitInfo(
                            examples=6, per_class={}, shards=[without_validation_image]
                        ),
                    }
                }
            )
        ),
        digest(augmented_info=augmented_info.model_copy(update={"shards_of_copies": [first]})),
    ]
    assert second
    assert len({digest(), *others}) == 5


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (
            lambda path: flip_bit(path),
            r"train-00001-of-00002\.tfrecord: record \d+: damaged (content|length)$",
        ),
        (
            lambda path: shutil.copy(path.with_name("train-00000-of-00002.tfrecord"), path),
            r"train-00001-of-00002\.tfrecord: expected 10 records, as info\.json says; found 15",
        ),
        (
            lambda path: path.write_bytes(b""),
            r"train-00001-of-00002\.tfrecord: expected 10 records, as info\.json says; found 0",
        ),
    ],
    ids=["damaged", "another", "empty"],
)
def test_a_damaged_shard_is_named(
    folders: Folders, place: str, damage: Callable[[Path], object], message: str
) -> None:
    records, info, _, _ = folders
    damage(records / info.splits["train"].shards[1].file)
    with pytest.raises(PipelineError, match=message):
        open_set(*folders)


@pytest.mark.parametrize("part", [slice(0, 10), slice(5, 15)], ids=["fewer", "others"])
def test_copies_of_other_images_are_an_error(folders: Folders, part: slice) -> None:
    """This happens if `preprocess` runs again and `augment` does not."""
    records, info, augmented, augmented_info = folders
    shard = write_part(augmented / copy_folder(2), "train-00000-of-00002.tfrecord", part, 2)
    first, second = augmented_info.shards_of_copies
    changed = augmented_info.model_copy(update={"shards_of_copies": [first, [shard, second[1]]]})
    with pytest.raises(PipelineError, match=r"expected 2 copies of the 25 .* `dvc repro augment`$"):
        open_set(records, info, augmented, changed)


def flip_bit(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[300] ^= 1
    path.write_bytes(content)
