from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray
from support import LABELS, PROBABILITIES, draw_predictions

from imgpipe.evaluation import metrics
from imgpipe.evaluation.metrics import (
    METRICS,
    Metric,
    find_metric,
    metrics_among,
    score_predictions,
    score_resamples,
    wilson_interval,
)
from imgpipe.evaluation.resamples import Resamples, ScoredExamples


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
def test_metrics_are_scikit_learns(classes: int, rounded: bool) -> None:
    """If the probabilities are rounded, many of them are equal."""
    from sklearn import metrics as oracle

    predictions = draw_predictions(classes, rounded=rounded)
    labels, probabilities = predictions.labels, predictions.probabilities
    result = score_predictions(labels, probabilities, top_k=2, bins=10)
    predicted = probabilities.argmax(axis=1)
    assert result["accuracy"] == oracle.accuracy_score(labels, predicted)
    assert result["loss"] == pytest.approx(oracle.log_loss(labels, probabilities), rel=1e-6)
    columns = oracle.precision_recall_fscore_support(labels, predicted, zero_division=0)
    for name, column in zip(("precision", "recall", "f1"), columns, strict=False):
        assert result[f"macro_{name}"] == pytest.approx(column.mean())
    areas = [
        oracle.roc_auc_score(labels == label, probabilities[:, label]) for label in range(classes)
    ]
    assert result["roc_auc"] == pytest.approx(np.mean(areas))
    if classes > 2 and not rounded:  # libraries order equal probabilities differently
        expected = oracle.top_k_accuracy_score(labels, probabilities, k=2)
        assert result["top_2_accuracy"] == pytest.approx(expected)


def test_the_scores_are_those_of_the_registry() -> None:
    names = [metric.name.format(k=2) for metric in METRICS]
    assert names[0] == "accuracy"
    expected = ["accuracy", "accuracy_low", "accuracy_high", *names[1:], "images"]
    assert list(scores()) == expected
    assert [metric.name for metric in metrics_among(scores())] == names


def test_a_metric_is_added_by_one_entry(monkeypatch: pytest.MonkeyPatch) -> None:
    def mistakes(resamples: Resamples) -> NDArray[np.float64]:
        return resamples.share(~resamples.examples.correct)

    entry = Metric("error", "share of mistakes", False, True, mistakes)
    monkeypatch.setattr(metrics, "METRICS", (*METRICS, entry))
    assert scores()["error"] == 0.5
    assert find_metric("error") == entry


def test_every_metric_is_best_for_a_perfect_network() -> None:
    """The direction of each entry, from values: no network is better than a perfect one."""
    perfect = np.eye(3, dtype=np.float32)[LABELS]
    best = score_predictions(LABELS, perfect, top_k=2, bins=10)
    wrong = score_predictions(LABELS, np.roll(perfect, 1, axis=1), top_k=2, bins=10)
    for metric in metrics_among(best):
        assert (best[metric.name] > wrong[metric.name]) == metric.higher_is_better, metric.name
        if metric.is_proportion:
            assert 0 <= wrong[metric.name] <= best[metric.name] == 1


def test_a_metric_of_a_family_is_found_by_its_number() -> None:
    metric = find_metric("top_12_accuracy")
    assert metric.name == "top_12_accuracy"
    assert metric.label == "share of images with the true class among the 12 likeliest"
    general = next(entry for entry in METRICS if entry.name == "top_{k}_accuracy")
    assert metric == replace(general, name=metric.name, label=metric.label)
    for name in ("top_accuracy", "accuracies", "macro_f2"):
        with pytest.raises(KeyError, match=name):
            find_metric(name)


@pytest.mark.parametrize("classes", [2, 4])
def test_the_metrics_of_a_resample_are_those_of_its_images(classes: int) -> None:
    generator = np.random.default_rng(1)
    probabilities = draw_predictions(classes, rounded=False, examples=60).probabilities.copy()
    labels = generator.integers(classes, size=60)
    probabilities[:20] = probabilities[:20].round(1) + 0.01  # some of them equal
    probabilities[20] = np.eye(classes)[1 - labels[20] % 2]  # certain, and wrong
    probabilities /= probabilities.sum(axis=1, keepdims=True)
    probabilities[21:30] = np.eye(classes)[0] / 2 + 0.5 / classes  # on the edge of a bin
    probabilities[30:36] = [0.5, 0.5, *[0.0] * (classes - 2)]
    drawn = generator.integers(60, size=(5, 60))
    weights = np.stack([np.bincount(row, minlength=60) for row in drawn]).astype(float)
    examples = ScoredExamples(labels, probabilities, top_k=2, bins=4)
    found = score_resamples(Resamples(examples, weights))
    for number, row in enumerate(drawn):
        expected = score_predictions(labels[row], probabilities[row], top_k=2, bins=4)
        for name in ("accuracy_low", "accuracy_high", "images"):
            del expected[name]
        assert list(found) == list(expected)
        for name, value in expected.items():
            assert found[name][number] == pytest.approx(value, abs=1e-6), name


def test_a_class_that_a_resample_lacks_is_left_out() -> None:
    labels = np.array([0, 0, 1, 1, 2])
    probabilities = draw_predictions(3, rounded=False, examples=5).probabilities
    examples = ScoredExamples(labels, probabilities, top_k=2, bins=5)
    found = score_resamples(Resamples(examples, np.array([[1.0, 1, 1, 1, 0]])))
    recalls = [(probabilities[i].argmax(axis=1) == labels[i]).mean() for i in ([0, 1], [2, 3])]
    assert found["macro_recall"][0] == pytest.approx(np.mean(recalls))
    assert np.isfinite(found["roc_auc"][0])


def test_top_k_needs_more_classes_than_k() -> None:
    assert "top_3_accuracy" not in scores(top_k=3)


@pytest.mark.parametrize(("successes", "trials"), [(0, 7), (10, 10), (355, 359), (9_900, 10_000)])
def test_the_interval_is_wilsons(successes: int, trials: int) -> None:
    from scipy.stats import binomtest

    expected = binomtest(successes, trials).proportion_ci(0.95, method="wilson")
    low, high = wilson_interval(successes, trials)
    assert (low, high) == pytest.approx((expected.low, expected.high))
    assert low <= successes / trials <= high


def test_every_score_is_finite_at_the_extremes() -> None:
    for probabilities in (
        np.eye(3, dtype=np.float32)[LABELS],
        np.eye(3, dtype=np.float32)[LABELS - 1],
    ):
        result = score_predictions(LABELS, probabilities, top_k=2, bins=3)
        assert np.isfinite(list(result.values())).all()
