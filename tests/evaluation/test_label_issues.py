"""Suspected wrong labels."""

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from support import write_random_records

from imgpipe.core.errors import PipelineError
from imgpipe.evaluation.label_issues import (
    find_confident,
    find_label_issues,
    list_label_issues,
    read_label_issues,
    write_label_issues,
)
from imgpipe.evaluation.predictions import Predictions
from imgpipe.records.folders import Records
from imgpipe.records.out_of_sample import OutOfSample


def plant(
    share: float, *, images: int, classes: int, sharpness: float, seed: int = 0
) -> tuple[NDArray[np.int64], NDArray[np.float32], NDArray[np.bool_]]:
    """Return labels, of which a share is wrong, probabilities, and whether each label is wrong."""
    generator = np.random.default_rng(seed)
    truth = generator.integers(0, classes, images)
    logits = generator.normal(size=(images, classes)) + sharpness * np.eye(classes)[truth]
    probabilities = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    wrong = generator.random(images) < share
    shift = generator.integers(1, classes, images)
    labels = np.where(wrong, (truth + shift) % classes, truth)
    return labels, probabilities.astype(np.float32), wrong


@pytest.mark.parametrize("classes", [2, 3, 10])
@pytest.mark.parametrize("sharpness", [1.0, 4.0])
def test_the_counted_labels_are_those_of_cleanlab(classes: int, sharpness: float) -> None:
    from cleanlab.filter import find_label_issues as find_by_cleanlab  # a second

    labels, probabilities, _ = plant(0.05, images=800, classes=classes, sharpness=sharpness)
    expected = find_by_cleanlab(
        labels, probabilities.astype(np.float64), filter_by="confident_learning", n_jobs=1
    )
    assert expected.any()
    # Of several confident classes, the paper takes the most probable one; cleanlab takes the most
    # probable one of all classes, which may not be among them.
    means = [probabilities[labels == label, label].mean() for label in range(classes)]
    confident = probabilities >= np.array(means)
    most_probable = confident[np.arange(len(labels)), probabilities.argmax(axis=1)]
    differs = (confident.sum(axis=1) > 1) & ~most_probable
    found = find_confident(labels, probabilities)
    assert (found == expected)[~differs].all()
    assert differs.mean() < 0.1


def test_planted_labels_are_found_with_few_others() -> None:
    labels, probabilities, wrong = plant(0.05, images=2000, classes=4, sharpness=7.0)
    found = find_label_issues(labels, probabilities)
    assert wrong[found].sum() >= 0.97 * wrong.sum()
    assert len(found) <= 2 * wrong.sum()


def test_the_least_probable_label_comes_first() -> None:
    labels, probabilities, _ = plant(0.2, images=300, classes=3, sharpness=4.0)
    found = find_label_issues(labels, probabilities)
    given = probabilities[found, labels[found]]
    assert (np.diff(given) >= 0).all()
    assert (probabilities[found].max(axis=1) > given).all()
    assert 0 < len(found) <= 2 * find_confident(labels, probabilities).sum()


def test_right_labels_of_a_sure_network_are_not_suspected() -> None:
    labels = np.arange(30) % 3
    probabilities = np.full((30, 3), 0.01, dtype=np.float32)
    probabilities[np.arange(30), labels] = 0.98
    assert len(find_label_issues(labels, probabilities)) == 0


def test_a_class_without_images_is_no_suspect() -> None:
    labels = np.array([0, 0, 1, 1])
    probabilities = np.tile(np.array([[0.15, 0.1, 0.75]], dtype=np.float32), (4, 1))
    probabilities[2:] = [0.1, 0.15, 0.75]
    assert len(find_label_issues(labels, probabilities)) == 0


def test_the_table_names_the_images_of_all_splits(tmp_path: Path) -> None:
    info = write_random_records(
        tmp_path, {"train": [4], "validation": [3], "test": [3]}, classes=("a", "b")
    )
    records = Records(tmp_path, info)
    index = {split: records.shards(split)[0].index() for split in info.splits}

    def answer(split: str, wrong: int) -> NDArray[np.float32]:
        """Return probabilities that contradict one label."""
        labels = index[split].labels.copy()
        labels[wrong] = 1 - labels[wrong]
        sure = np.float32(0.9 + 0.01 * wrong)
        return np.where(np.eye(2)[labels] > 0, sure, 1 - sure).astype(np.float32)

    test = Predictions(
        ["a", "b"], index["test"].identities, index["test"].labels, answer("test", 2)
    )
    out_of_sample = OutOfSample(
        np.array([1, 3]), answer("train", 3)[[1, 3]], answer("validation", 1)
    )
    path = tmp_path / "issues.csv"
    write_label_issues(path, records, out_of_sample, test)
    found = read_label_issues(path)
    for row, listed in zip(found, list_label_issues(records, out_of_sample, test), strict=True):
        assert row[:4] == listed[:4]
        # To the last bit of float32.
        assert np.array(row[4:], dtype=np.float32).tolist() == list(listed[4:])
    assert [(row.split, row.file) for row in found] == [
        ("train", index["train"].identities[3]),
        ("test", index["test"].identities[2]),
        ("validation", index["validation"].identities[1]),
    ]
    labels = [index[row.split].labels[number] for row, number in zip(found, (3, 2, 1), strict=True)]
    assert [row.label for row in found] == ["ab"[label] for label in labels]
    assert [row.likeliest for row in found] == ["ba"[label] for label in labels]

    without = OutOfSample(
        out_of_sample.training_numbers[:0], out_of_sample.training[:0], out_of_sample.validation
    )
    assert {row.split for row in list_label_issues(records, without, test)} == {
        "validation",
        "test",
    }


@pytest.mark.parametrize("text", ["", "file,split\n", "file,split,label,likeliest,x,y\n"])
def test_another_table_is_refused(text: str, tmp_path: Path) -> None:
    (tmp_path / "issues.csv").write_text(text)
    with pytest.raises(PipelineError, match=r"issues\.csv: not a table of label issues"):
        read_label_issues(tmp_path / "issues.csv")
