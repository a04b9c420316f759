import numpy as np
import pytest
from scipy.stats import binomtest
from sklearn import metrics

from imgpipe.evaluation.metrics import (
    measure_reliability,
    measure_roc,
    score_classes,
    score_predictions,
    wilson_interval,
)

LABELS = np.array([0, 0, 1, 1, 2, 2])
PROBABILITIES = np.array(
    [
        [0.8, 0.1, 0.1],  # right
        [0.3, 0.6, 0.1],  # wrong: 1
        [0.1, 0.9, 0.0],  # right
        [0.1, 0.5, 0.4],  # right
        [0.5, 0.2, 0.3],  # wrong: 0
        [0.5, 0.3, 0.2],  # wrong: 0, and the label comes last
    ],
    dtype=np.float32,
)


def scores(top_k: int = 2, bins: int = 10) -> dict[str, float | int]:
    return score_predictions(LABELS, PROBABILITIES, top_k=top_k, bins=bins)


def test_scores_by_hand() -> None:
    result = scores()
    assert result["images"] == 6
    assert result["accuracy"] == pytest.approx(3 / 6)
    assert result["loss"] == pytest.approx(-np.log([0.8, 0.3, 0.9, 0.5, 0.3, 0.2]).mean())
    # Class 0: 1 of 3 predictions right, 1 of 2 found; class 1: 2 of 3, 2 of 2; class 2: nothing.
    assert result["macro_precision"] == pytest.approx((1 / 3 + 2 / 3 + 0) / 3)
    assert result["macro_recall"] == pytest.approx((1 / 2 + 1 + 0) / 3)
    assert result["macro_f1"] == pytest.approx((0.4 + 0.8 + 0) / 3)
    assert result["top_2_accuracy"] == pytest.approx(5 / 6)
    # Of the pairs of an image of the class and another one, how many are in the right order; ties
    # count half. Class 0: (0.8, 0.3) against (0.1, 0.1, 0.5, 0.5); 1 and 2 likewise.
    areas = [(4 + 2) / 8, (3 + 3) / 8, (4 + 3) / 8]
    assert result["roc_auc"] == pytest.approx(np.mean(areas))


@pytest.mark.parametrize("classes", [2, 3, 10])
@pytest.mark.parametrize("rounded", [True, False])
def test_scores_are_scikit_learns(classes: int, rounded: bool) -> None:
    """Rounded, many probabilities are equal."""
    generator = np.random.default_rng(classes)
    labels = generator.integers(0, classes, 400)
    raw = generator.dirichlet(np.ones(classes), 400) + 0.3 * np.eye(classes)[labels]
    raw = np.maximum(raw.round(1), 0.1) if rounded else raw
    probabilities = (raw / raw.sum(axis=1, keepdims=True)).astype(np.float32)
    names = [str(label) for label in range(classes)]
    result = score_predictions(labels, probabilities, top_k=2, bins=10)
    table = score_classes(labels, probabilities, names)
    assert result["loss"] == pytest.approx(metrics.log_loss(labels, probabilities), rel=1e-6)
    columns = metrics.precision_recall_fscore_support(
        labels, probabilities.argmax(axis=1), zero_division=0
    )
    for name, column in zip(("precision", "recall", "f1", "images"), columns, strict=True):
        assert [getattr(row, name) for row in table] == pytest.approx(column.tolist())
        if name != "images":
            assert result[f"macro_{name}"] == pytest.approx(column.mean())
    areas = [
        metrics.roc_auc_score(labels == label, probabilities[:, label]) for label in range(classes)
    ]
    assert [row.roc_auc for row in table] == pytest.approx(areas)
    assert result["roc_auc"] == pytest.approx(np.mean(areas))
    if classes > 2 and not rounded:  # of equal probabilities, which come first is a matter of taste
        expected = metrics.top_k_accuracy_score(labels, probabilities, k=2)
        assert result["top_2_accuracy"] == pytest.approx(expected)
    points = measure_roc(labels, probabilities, names)
    for label in range(classes) if classes > 2 else [1]:
        mine = [
            (point.false_positive_rate, point.true_positive_rate)
            for point in points
            if point.name == names[label]
        ]
        theirs = metrics.roc_curve(labels == label, probabilities[:, label])[:2]
        every = np.linspace(0, 1, 1001) + 1e-9  # beside the steps
        curves = [np.interp(every, *np.transpose(curve)) for curve in (mine, np.transpose(theirs))]
        assert curves[0] == pytest.approx(curves[1], abs=1e-6)
        assert len(mine) <= len(theirs[0])


@pytest.mark.parametrize("labels", [[0, 0, 1, 1, 1, 0], [2, 2, 2, 2, 2, 2]])
def test_without_images_of_a_class_it_has_no_scores(labels: list[int]) -> None:
    with pytest.raises(ValueError, match="a class has no examples, or all of them"):
        score_classes(np.array(labels), PROBABILITIES, ["a", "b", "c"])


def test_top_k_needs_more_classes_than_k() -> None:
    assert "top_3_accuracy" not in scores(top_k=3)


def test_the_table_of_classes() -> None:
    table = score_classes(LABELS, PROBABILITIES, ["a", "b", "c"])
    assert [row.name for row in table] == ["a", "b", "c"]
    assert [row.images for row in table] == [2, 2, 2]
    assert table[1].precision == pytest.approx(2 / 3)
    assert (table[2].precision, table[2].f1) == (0, 0)


def test_reliability_by_hand() -> None:
    bins = measure_reliability(LABELS, PROBABILITIES, 5)
    assert [(part.low, part.high) for part in bins] == [
        (0.0, 0.2), (0.2, 0.4), (0.4, 0.6), (0.6, 0.8), (0.8, 1.0)
    ]  # fmt: skip
    # Confidences 0.8, 0.6, 0.9, 0.5, 0.5, 0.5; as float32, 0.8 and 0.6 lie just above.
    assert [part.images for part in bins] == [0, 0, 3, 1, 2]
    assert bins[2].confidence == pytest.approx(0.5)
    assert bins[2].accuracy == pytest.approx(1 / 3)
    expected = 3 / 6 * abs(0.5 - 1 / 3) + 1 / 6 * abs(0.6 - 0) + 2 / 6 * abs(0.85 - 1)
    assert scores(bins=5)["calibration_error"] == pytest.approx(expected)


def test_certain_predictions_fall_into_the_last_bin() -> None:
    bins = measure_reliability(np.array([0]), np.array([[1.0, 0.0]], dtype=np.float32), 10)
    assert [part.images for part in bins] == [0] * 9 + [1]


def test_two_classes_have_an_area_under_the_curve() -> None:
    labels = np.array([0, 0, 1, 1])
    positive = np.array([0.1, 0.4, 0.35, 0.8], dtype=np.float32)
    probabilities = np.stack([1 - positive, positive], axis=1)
    result = score_predictions(labels, probabilities, top_k=2, bins=10)
    assert result["roc_auc"] == pytest.approx(0.75)
    assert "top_2_accuracy" not in result
    points = measure_roc(labels, probabilities, ["no", "yes"])
    assert [(p.name, p.false_positive_rate, p.true_positive_rate) for p in points] == [
        ("yes", 0, 0), ("yes", 0, 0.5), ("yes", 0.5, 0.5), ("yes", 0.5, 1), ("yes", 1, 1)
    ]  # fmt: skip


def test_the_area_under_the_points_is_the_score() -> None:
    generator = np.random.default_rng(0)
    labels = generator.integers(0, 4, 300)
    probabilities = generator.dirichlet(np.ones(4), 300).astype(np.float32)
    table = score_classes(labels, probabilities, ["a", "b", "c", "d"])
    points = measure_roc(labels, probabilities, ["a", "b", "c", "d"])
    for row in table:
        curve = [
            (point.false_positive_rate, point.true_positive_rate)
            for point in points
            if point.name == row.name
        ]
        area = np.trapezoid([y for _, y in curve], [x for x, _ in curve])
        assert area == pytest.approx(row.roc_auc)


@pytest.mark.parametrize(("successes", "trials"), [(0, 5), (5, 5), (355, 359), (9_900, 10_000)])
def test_the_interval_is_wilsons(successes: int, trials: int) -> None:
    expected = binomtest(successes, trials).proportion_ci(0.95, method="wilson")
    assert wilson_interval(successes, trials) == pytest.approx((expected.low, expected.high))


def test_every_score_is_finite_at_the_extremes() -> None:
    for probabilities in (
        np.eye(3, dtype=np.float32)[LABELS],
        np.eye(3, dtype=np.float32)[LABELS - 1],
    ):
        result = score_predictions(LABELS, probabilities, top_k=2, bins=3)
        assert np.isfinite(list(result.values())).all()
