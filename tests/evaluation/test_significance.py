import itertools

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.stats import binomtest

from imgpipe.core.errors import PipelineError
from imgpipe.evaluation.metrics import score_predictions, score_resamples
from imgpipe.evaluation.predictions import Predictions
from imgpipe.evaluation.significance import (
    align,
    compare_predictions,
    mcnemar_p_value,
    score_intervals,
)

CLASSES = ["cat", "dog", "fox", "owl"]
NAMES = ("main", "try")


def draw_probabilities(
    labels: NDArray[np.int64], skill: float, seed: int, classes: int = 4
) -> NDArray[np.float32]:
    logits = np.random.default_rng(seed).normal(size=(len(labels), classes))
    logits += skill * np.eye(classes)[labels]
    powers = np.exp(logits)
    probabilities: NDArray[np.float32] = powers / powers.sum(axis=1, keepdims=True)
    return probabilities.astype(np.float32)


def predictions(skill: float, seed: int, examples: int = 400) -> Predictions:
    labels = np.arange(examples) % 4
    identities = [f"image-{number}" for number in range(examples)]
    return Predictions(CLASSES, identities, labels, draw_probabilities(labels, skill, seed))


def scores_of(labels: NDArray[np.int64], probabilities: NDArray[np.float32]) -> dict[str, float]:
    return score_predictions(labels, probabilities, top_k=2, bins=4)


@pytest.mark.parametrize("classes", [2, 4])
def test_the_scores_of_a_resample_are_those_of_its_images(classes: int) -> None:
    generator = np.random.default_rng(1)
    labels = generator.integers(classes, size=60)
    probabilities = draw_probabilities(labels, 1.0, 2, classes)
    probabilities[:20] = probabilities[:20].round(1) + 0.01  # with equal ones among them
    probabilities[20] = np.eye(classes)[1 - labels[20] % 2]  # certain, and wrong
    probabilities /= probabilities.sum(axis=1, keepdims=True)
    probabilities[21:30] = np.eye(classes)[0] / 2 + 0.5 / classes  # on the edge of a bin
    probabilities[30:36] = [0.5, 0.5, *[0.0] * (classes - 2)]
    drawn = generator.integers(60, size=(5, 60))
    weights = np.stack([np.bincount(row, minlength=60) for row in drawn]).astype(float)
    found = score_resamples(labels, probabilities, weights, top_k=2, bins=4)
    for number, row in enumerate(drawn):
        expected = scores_of(labels[row], probabilities[row])
        for name in ("accuracy_low", "accuracy_high", "images"):
            del expected[name]
        assert list(found) == list(expected)
        for name, value in expected.items():
            assert found[name][number] == pytest.approx(value, abs=1e-6), name


def test_a_class_that_a_resample_lacks_is_left_out() -> None:
    labels = np.array([0, 0, 1, 1, 2])
    probabilities = draw_probabilities(labels, 2.0, 0, 3)
    weights = np.array([[1.0, 1, 1, 1, 0]])
    found = score_resamples(labels, probabilities, weights, top_k=2, bins=5)
    recalls = [(probabilities[i].argmax(axis=1) == labels[i]).mean() for i in ([0, 1], [2, 3])]
    assert found["macro_recall"][0] == pytest.approx(np.mean(recalls))
    assert np.isfinite(found["roc_auc"][0])


@pytest.mark.parametrize(
    ("won", "lost"), [*itertools.product(range(7), range(7)), (40, 61), (3000, 3100)]
)
def test_the_p_value_is_that_of_the_binomial_test(won: int, lost: int) -> None:
    expected = binomtest(won, won + lost).pvalue if won + lost else 1.0
    assert mcnemar_p_value(won, lost) == pytest.approx(expected, rel=1e-9)


def test_a_better_network_is_found_better_and_the_other_worse() -> None:
    weak, strong = predictions(1.0, 1), predictions(3.0, 2)
    there = compare_predictions(weak, strong, top_k=2, bins=10)
    back = compare_predictions(strong, weak, top_k=2, bins=10)
    assert (there.verdict, back.verdict) == ("better", "worse")
    assert there.p_value == back.p_value < 1e-6
    assert there.won.tolist() == back.lost.tolist()
    accuracy, loss = there.differences[:2]
    right = [(each.probabilities.argmax(axis=1) == each.labels) for each in (weak, strong)]
    assert accuracy.first == right[0].mean()
    assert accuracy.change == pytest.approx((len(there.won) - len(there.lost)) / 400)
    assert set(there.won) == set(np.flatnonzero(~right[0] & right[1]))
    confidence = strong.probabilities.max(axis=1)[there.won]
    assert (np.diff(confidence) <= 0).all()
    assert accuracy.low < accuracy.change < accuracy.high
    assert loss.change < 0
    assert (accuracy.verdict, loss.verdict) == ("better", "better")
    assert back.differences[1].verdict == "worse"


def test_equally_good_networks_are_seldom_told_apart() -> None:
    """At a level of 5 %; the interval covers the true difference of 0 in about 95 of 100."""
    told, outside = 0, 0
    for seed in range(60):
        first, second = predictions(1.0, 2 * seed, 150), predictions(1.0, 2 * seed + 1, 150)
        comparison = compare_predictions(first, second, top_k=2, bins=5)
        told += comparison.verdict != "no evidence either way"
        accuracy = comparison.differences[0]
        outside += not accuracy.low <= 0 <= accuracy.high
    assert told <= 6  # of 60 at most 3 are expected
    assert 1 <= outside <= 8


def test_a_network_is_no_better_than_itself() -> None:
    comparison = compare_predictions(predictions(1, 1), predictions(1, 1), top_k=2, bins=5)
    assert comparison.verdict == "no evidence either way"
    assert comparison.p_value == 1
    assert len(comparison.won) == len(comparison.lost) == 0
    for each in comparison.differences:
        assert (each.change, each.low, each.high) == (0, 0, 0)
        assert each.verdict == "no evidence either way"


def test_intervals_hold_the_scores_and_shrink_with_more_images() -> None:
    widths = {}
    for examples in (100, 1600):
        drawn = predictions(1.5, 3, examples)
        scores = scores_of(drawn.labels, drawn.probabilities)
        intervals = score_intervals(drawn, top_k=2, bins=4)
        for name, (low, high) in intervals.items():
            if name != "calibration_error":  # which resampling raises
                assert low < scores[name] < high
        low, high = intervals["accuracy"]
        share = scores["accuracy"]
        standard_error = np.sqrt(share * (1 - share) / examples)
        assert high - low == pytest.approx(2 * 1.96 * standard_error, rel=0.15)
        widths[examples] = high - low
    assert widths[100] / widths[1600] == pytest.approx(4, rel=0.3)


def test_the_resamples_are_the_same_every_time() -> None:
    first, second = predictions(1.0, 1), predictions(1.2, 2)
    results = [compare_predictions(first, second, top_k=2, bins=5) for _ in range(2)]
    assert results[0].differences == results[1].differences


def test_the_order_of_images_and_classes_makes_no_difference() -> None:
    first, second = predictions(1.0, 1), predictions(1.5, 2)
    rows = np.random.default_rng(0).permutation(400)
    columns = [2, 0, 3, 1]
    shuffled = Predictions(
        [CLASSES[column] for column in columns],
        [second.identities[row] for row in rows],
        np.array([columns.index(label) for label in second.labels[rows]]),
        second.probabilities[rows][:, columns],
    )
    _, aligned = align(first, shuffled, NAMES)
    assert aligned.classes == CLASSES
    assert aligned.identities == first.identities
    assert (aligned.labels == second.labels).all()
    assert (aligned.probabilities == second.probabilities).all()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"identities": [f"image-{number}" for number in range(100, 500)]},
            "main and try cannot be compared: their test sets differ: 400 and 400 images, 300 of",
        ),
        (
            {"classes": ["cat", "dog", "fox", "elk"]},
            "their classes differ: cat, dog, fox, owl; and cat, dog, fox, elk",
        ),
        (
            {"labels": np.array([1, *(np.arange(1, 400) % 4)])},
            "1 test images have another class in each, such as image-0",
        ),
    ],
)
def test_runs_with_other_test_sets_are_refused(change: dict[str, object], message: str) -> None:
    first = predictions(1.0, 1)
    second = Predictions(**{**vars(first), **change})
    with pytest.raises(PipelineError, match=message):
        align(first, second, NAMES)
