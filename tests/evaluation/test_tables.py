from pathlib import Path

import numpy as np
import pytest
from support import LABELS, PROBABILITIES, draw_predictions

from imgpipe.evaluation.metrics import score_predictions
from imgpipe.evaluation.predictions import Predictions
from imgpipe.evaluation.tables import (
    MOST_MISTAKES,
    list_mistakes,
    measure_reliability,
    measure_roc,
    score_classes,
    write_class_scores,
    write_mistakes,
    write_reliability,
    write_roc,
)

PREDICTIONS = Predictions(["a", "b", "c"], list("123456"), LABELS, PROBABILITIES)


def corners(predictions: Predictions, name: str) -> list[tuple[float, float]]:
    return [
        (point.false_positive_rate, point.true_positive_rate)
        for point in measure_roc(predictions)
        if point.name == name
    ]


@pytest.mark.parametrize("classes", [2, 3, 10])
@pytest.mark.parametrize("rounded", [True, False])
def test_the_scores_of_classes_are_scikit_learns(classes: int, rounded: bool) -> None:
    from sklearn import metrics as oracle

    predictions = draw_predictions(classes, rounded=rounded)
    labels, probabilities = predictions.labels, predictions.probabilities
    table = score_classes(predictions)
    columns = oracle.precision_recall_fscore_support(
        labels, probabilities.argmax(axis=1), zero_division=0
    )
    for name, column in zip(("precision", "recall", "f1", "images"), columns, strict=True):
        assert [getattr(row, name) for row in table] == pytest.approx(column.tolist())
    areas = [
        oracle.roc_auc_score(labels == label, probabilities[:, label]) for label in range(classes)
    ]
    assert [row.roc_auc for row in table] == pytest.approx(areas)


@pytest.mark.parametrize("classes", [2, 3, 10])
@pytest.mark.parametrize("rounded", [True, False])
def test_the_corners_lie_on_scikit_learns_curve(classes: int, rounded: bool) -> None:
    from sklearn import metrics as oracle

    predictions = draw_predictions(classes, rounded=rounded)
    for label in range(classes) if classes > 2 else [1]:
        mine = corners(predictions, predictions.classes[label])
        theirs = oracle.roc_curve(predictions.labels == label, predictions.probabilities[:, label])[
            :2
        ]
        every = np.linspace(0, 1, 1001) + 1e-9  # beside the steps
        curves = [np.interp(every, *np.transpose(curve)) for curve in (mine, np.transpose(theirs))]
        assert curves[0] == pytest.approx(curves[1], abs=1e-6)
        assert len(mine) <= len(theirs[0])


def test_the_area_under_the_corners_is_the_score() -> None:
    predictions = draw_predictions(4, rounded=False)
    for row in score_classes(predictions):
        curve = corners(predictions, row.name)
        area = np.trapezoid([y for _, y in curve], [x for x, _ in curve])
        assert area == pytest.approx(row.roc_auc)


@pytest.mark.parametrize("labels", [[0, 0, 1, 1, 1, 0], [2, 2, 2, 2, 2, 2]])
def test_a_class_needs_images_and_others(labels: list[int]) -> None:
    predictions = Predictions(["a", "b", "c"], list("123456"), np.array(labels), PROBABILITIES)
    with pytest.raises(ValueError, match="a class has no examples, or all of them"):
        score_classes(predictions)


def test_the_scores_of_classes_by_hand() -> None:
    table = score_classes(PREDICTIONS)
    assert [row.name for row in table] == ["a", "b", "c"]
    assert [row.images for row in table] == [2, 2, 2]
    assert table[1].precision == pytest.approx(2 / 3)
    assert (table[2].precision, table[2].f1) == (0, 0)


def test_reliability_by_hand() -> None:
    bins = measure_reliability(PREDICTIONS, 5)
    assert [(part.low, part.high) for part in bins] == [
        (0.0, 0.2), (0.2, 0.4), (0.4, 0.6), (0.6, 0.8), (0.8, 1.0)
    ]  # fmt: skip
    # Confidences 0.8, 0.6, 0.9, 0.5, 0.5, 0.5; as float32, 0.8 and 0.6 are slightly larger.
    assert [part.images for part in bins] == [0, 0, 3, 1, 2]
    assert bins[2].confidence == pytest.approx(0.5)
    assert bins[2].accuracy == pytest.approx(1 / 3)
    expected = 3 / 6 * abs(0.5 - 1 / 3) + 1 / 6 * abs(0.6 - 0) + 2 / 6 * abs(0.85 - 1)
    scores = score_predictions(LABELS, PROBABILITIES, top_k=2, bins=5)
    assert scores["calibration_error"] == pytest.approx(expected)


def test_certain_predictions_are_in_the_last_bin() -> None:
    certain = Predictions(["a", "b"], ["1"], np.array([0]), np.array([[1, 0]], dtype=np.float32))
    assert [part.images for part in measure_reliability(certain, 10)] == [0] * 9 + [1]


def test_two_classes_have_one_curve() -> None:
    positive = np.array([0.1, 0.4, 0.35, 0.8], dtype=np.float32)
    predictions = Predictions(
        ["no", "yes"], list("1234"), np.array([0, 0, 1, 1]), np.stack([1 - positive, positive], 1)
    )
    assert [row.roc_auc for row in score_classes(predictions)] == [0.75, 0.75]
    assert list(measure_roc(predictions)) == [
        ("yes", 0, 0), ("yes", 0, 0.5), ("yes", 0.5, 0.5), ("yes", 0.5, 1), ("yes", 1, 1)
    ]  # fmt: skip


def test_tables_are_written_with_their_headers(tmp_path: Path) -> None:
    write_class_scores(tmp_path / "per_class.csv", PREDICTIONS)
    write_roc(tmp_path / "roc.csv", PREDICTIONS)
    write_reliability(tmp_path / "reliability.csv", PREDICTIONS, 2)
    lines = (tmp_path / "per_class.csv").read_text().splitlines()
    assert lines[0] == "class,precision,recall,f1,roc_auc,images"
    assert lines[3] == "c,0.0,0.0,0.0,0.75,2"
    lines = (tmp_path / "roc.csv").read_text().splitlines()
    assert lines[:2] == ["class,false_positive_rate,true_positive_rate", "a,0.0,0.0"]
    lines = (tmp_path / "reliability.csv").read_text().splitlines()
    assert lines[:2] == ["low,high,images,confidence,accuracy", "0.0,0.5,3,0.5,0.3333333333333333"]


def test_mistakes_are_listed_by_name_the_most_confident_first(tmp_path: Path) -> None:
    probabilities = np.array([[0.3, 0.7], [0.9, 0.1], [0.25, 0.75], [0.6, 0.4]], dtype=np.float32)
    names = ["own/cat/a.jpg", "own/cat/b.jpg", "own/cat/c, d.jpg", "own/dog/e.jpg"]
    found = Predictions(["cat", "dog"], names, np.array([0, 0, 0, 1]), probabilities)
    write_mistakes(tmp_path / "mistakes.csv", found)
    assert (tmp_path / "mistakes.csv").read_text().splitlines() == [
        "file,actual,predicted,probability",
        '"own/cat/c, d.jpg",cat,dog,0.75',
        "own/cat/a.jpg,cat,dog,0.699999988",
        "own/dog/e.jpg,dog,cat,0.600000024",
    ]


def test_the_table_of_mistakes_has_a_bounded_size() -> None:
    count = MOST_MISTAKES + 5
    probabilities = np.tile(np.array([[0.1, 0.9]], dtype=np.float32), (count, 1))
    names = [str(number) for number in range(count)]
    found = Predictions(["cat", "dog"], names, np.zeros(count, dtype=np.int64), probabilities)
    assert [row.file for row in list_mistakes(found)] == names[:MOST_MISTAKES]
