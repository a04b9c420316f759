import gzip
import pickle
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from support import CATALOG, find_error, identity

from imgpipe.datasets.catalog import Entry, load_entry
from imgpipe.preprocessing.raw_datasets import RawDataset, open_dataset
from imgpipe.preprocessing.splits import SPLITS

WriteIdx = Callable[[Path, NDArray[np.uint8]], None]
MNIST = load_entry("mnist", CATALOG)
TRAIN_IMAGES, TRAIN_LABELS = "train-images-idx3-ubyte.gz", "train-labels-idx1-ubyte.gz"


@pytest.fixture
def raw(tmp_path: Path, write_idx: WriteIdx) -> Path:
    """Small archives in the form of MNIST's: 20 training and 10 test images."""
    folder = tmp_path / "raw"
    folder.mkdir()
    generator = np.random.default_rng(0)
    for prefix, count in (("train", 20), ("t10k", 10)):
        images = generator.integers(0, 256, (count, 28, 28), dtype=np.uint8)
        write_idx(folder / f"{prefix}-images-idx3-ubyte.gz", images)
        labels = np.arange(count, dtype=np.uint8) % 10
        write_idx(folder / f"{prefix}-labels-idx1-ubyte.gz", labels)
    return folder


def open_small(raw: Path, entry: Entry = MNIST) -> RawDataset:
    scratch = raw.parent / "scratch"
    scratch.mkdir(exist_ok=True)
    return open_dataset(entry, raw, scratch)


def error_of(raw: Path, entry: Entry = MNIST) -> str:
    return find_error(open_small, raw, entry).replace(raw.as_posix() + "/", "")


def test_idx_files_give_images_labels_splits_and_identities(raw: Path) -> None:
    dataset = open_small(raw)
    assert dataset.labels.tolist() == [*range(10)] * 3
    assert [SPLITS[code] for code in dataset.splits] == ["train"] * 20 + ["test"] * 10
    for index, prefix, number in ((0, "train", 0), (19, "train", 19), (20, "t10k", 0)):
        stored = gzip.decompress((raw / f"{prefix}-images-idx3-ubyte.gz").read_bytes())[16:]
        expected = np.frombuffer(stored, np.uint8).reshape(-1, 28, 28)[number]
        assert (np.asarray(dataset.read(index)) == expected).all()
        assert identity(dataset, index) == f"{prefix}-images-idx3-ubyte.gz#{number}"
    assert dataset.paths(np.array([19, 29])) == ["train/19", "test/9"]


def test_the_official_mnist_is_read(mirror: Path, tmp_path: Path) -> None:
    dataset = open_dataset(MNIST, mirror / "mnist", tmp_path)
    assert len(dataset.labels) == 70_000
    # The first training digit is the well-known five; its sum of pixels is a fact about the file.
    assert dataset.labels[0] == 5
    assert np.asarray(dataset.read(0)).sum() == 27_525
    assert dataset.labels[60_000] == 7


def rewrite(path: Path, change: Callable[[bytes], bytes]) -> None:
    path.write_bytes(gzip.compress(change(gzip.decompress(path.read_bytes()))))


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (
            lambda content: b"",
            "expected an IDX file of unsigned bytes (magic 00 00 08 0n); found nothing",
        ),
        (lambda content: b"<htm" + content[4:], "expected an IDX file of unsigned bytes"),
        (lambda content: b"\0\0\x0d\3" + content[4:], "expected an IDX file of unsigned bytes"),
        (lambda content: content[:10], "the IDX header is cut short"),
        (lambda content: content[:-1], "its header (20, 28, 28) promises 15696 bytes; found 15695"),
        (lambda content: content + b"x", "promises 15696 bytes; found 15697"),
        (
            lambda content: content[:4] + struct.pack(">3I", 40, 14, 28) + content[16:],
            "expected images of (28, 28, 1) (image_shape in the catalog); found (14, 28, 1)",
        ),
    ],
)
def test_damaged_images_are_reported(raw: Path, change: Any, expected: str) -> None:
    rewrite(raw / TRAIN_IMAGES, change)
    message = error_of(raw)
    assert message.startswith(f"{TRAIN_IMAGES}: ")
    assert expected in message


@pytest.mark.parametrize(
    "damage", [lambda content: content[:-20], lambda content: content[:999] + content[1000:]]
)
def test_a_damaged_archive_is_reported(raw: Path, damage: Callable[[bytes], bytes]) -> None:
    path = raw / TRAIN_IMAGES
    path.write_bytes(damage(path.read_bytes()))
    assert error_of(raw).startswith(f"{TRAIN_IMAGES}: damaged gzip archive")


def test_labels_that_do_not_fit_the_images_are_reported(raw: Path, write_idx: WriteIdx) -> None:
    write_idx(raw / TRAIN_LABELS, np.zeros(19, np.uint8))
    assert error_of(raw) == (
        f"{TRAIN_LABELS}: expected 20 labels, one for each image in {TRAIN_IMAGES}; found 19"
    )
    write_idx(raw / TRAIN_LABELS, np.zeros((20, 1), np.uint8))
    assert error_of(raw) == f"{TRAIN_LABELS}: expected one dimension, of labels; found 2"


def test_labels_that_do_not_fit_the_classes_are_reported(raw: Path, write_idx: WriteIdx) -> None:
    labels = np.arange(20, dtype=np.uint8) % 10
    labels[4] = 12
    write_idx(raw / TRAIN_LABELS, labels)
    assert error_of(raw) == (f"label 12 found in {TRAIN_IMAGES}#4; the catalog names 10 classes")


def test_each_process_maps_the_images_once(raw: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    dataset = open_small(raw)
    state = pickle.dumps(dataset)
    assert len(state) < 5000  # without the images, which are mapped again
    mapped = []

    def note_and_map(path: Path, *arguments: Any) -> Any:
        mapped.append(path.name)
        return memmap(path, *arguments)

    memmap = np.memmap
    monkeypatch.setattr(np, "memmap", note_and_map)
    elsewhere = pickle.loads(state)
    for index in range(30):
        assert (np.asarray(elsewhere.read(index)) == np.asarray(dataset.read(index))).all()
    twice = ["train-images-idx3-ubyte", "t10k-images-idx3-ubyte"] * 2
    assert mapped == twice  # once by each of the two
    elsewhere.close()
    dataset.close()
    assert len(pickle.dumps(dataset)) == len(state)
