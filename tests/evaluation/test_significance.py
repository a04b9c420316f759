import itertools
import tracemalloc

import numpy as np
import pytest
from numpy.typing import NDArray

from imgpipe.core.errors import PipelineError
from imgpipe.evaluation.metrics import METRICS, Metric, score_predictions, wilson_interval
from imgpipe.evaluation.predictions import Predictions
from imgpipe.evaluation.significance import (
    Difference,
    align,
    compare_calibration,
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


@pytest.mark.parametrize(
    ("won", "lost"), [*itertools.product(range(7), range(7)), (40, 61), (3000, 3100)]
)
def test_the_p_value_is_that_of_the_binomial_test(won: int, lost: int) -> None:
    from scipy.stats import binomtest

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


def test_equally_good_networks_seldom_differ() -> None:
    """The rate of wrong verdicts is 5 % or less: by accuracy, and by any of the metrics."""
    by_accuracy, by_any, uncorrected, outside = 0, 0, 0, 0
    for seed in range(60):
        pair = [predictions(1.0, 2 * seed + each, 150) for each in (0, 1)]
        comparison = compare_predictions(*pair, top_k=2, bins=5)
        differences = comparison.differences
        by_accuracy += comparison.verdict != "no evidence either way"
        by_any += any(each.verdict != "no evidence either way" for each in differences)
        uncorrected += any(not each.low <= 0 <= each.high for each in differences)
        outside += not differences[0].low <= 0 <= differences[0].high
    assert by_accuracy <= 6  # of 60 at most 3 are expected
    assert by_any <= 6
    assert uncorrected > by_any
    assert 1 <= outside <= 8  # a 95 % interval


def test_a_network_is_no_better_than_itself() -> None:
    comparison = compare_predictions(predictions(1, 1), predictions(1, 1), top_k=2, bins=5)
    assert comparison.verdict == "no evidence either way"
    assert comparison.p_value == 1
    assert len(comparison.won) == len(comparison.lost) == 0
    for each in comparison.differences:
        assert (each.change, each.low, each.high) == (0, 0, 0)
        assert (each.corrected_low, each.corrected_high) == (0, 0)
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
        # For two of four classes of equal size, recall varies as the accuracy does.
        low, high = intervals["macro_recall"]
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


def test_runs_are_compared_on_the_images_that_both_test_sets_have() -> None:
    """Image 0 has another class in the second run, 1 and 2 are not in it, and one is new."""
    first, second = predictions(1.0, 1), predictions(1.5, 2)
    rows = [*range(399, 2, -1), 0]
    second = Predictions(
        CLASSES,
        ["new", *(second.identities[row] for row in rows)],
        np.array([3, *second.labels[rows[:-1]], 1]),
        second.probabilities[[0, *rows]],
    )
    shared = align(first, second, NAMES)
    assert shared[0].identities == shared[1].identities == first.identities[3:]
    assert (shared[0].labels == shared[1].labels).all()
    assert (shared[0].labels == first.labels[3:]).all()
    assert (shared[0].probabilities == first.probabilities[3:]).all()
    assert (shared[1].probabilities == second.probabilities[1:-1][::-1]).all()
    back = align(second, first, NAMES)
    assert back[0].identities == back[1].identities == first.identities[:2:-1]


def take(drawn: Predictions, rows: slice) -> Predictions:
    return Predictions(
        drawn.classes, drawn.identities[rows], drawn.labels[rows], drawn.probabilities[rows]
    )


def test_half_of_the_larger_test_set_is_enough() -> None:
    first, second = predictions(1.0, 1), predictions(1.5, 2)
    for rows in (slice(200), slice(200, None)):
        assert align(first, take(second, rows), NAMES)[1].identities == first.identities[rows]
    other = Predictions(**{**vars(second), "identities": [f"image-{n}" for n in range(200, 600)]})
    assert align(first, other, NAMES)[0].identities == first.identities[200:]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"identities": [f"image-{number}" for number in range(204, 604)]},
            "their test sets differ: 400 and 400 images, 196 of them in both with the same class;"
            " at least half of the larger test set is needed",
        ),
        (
            {"identities": [f"other-{number}" for number in range(400)]},
            "their test sets differ: 400 and 400 images, 0 of them in both with the same class;"
            " at least half of the larger test set is needed",
        ),
        (
            {"labels": np.array([0] * 400)},
            "their test sets differ: 400 and 400 images, 100 of them in both with the same class;"
            " at least half of the larger test set is needed",
        ),
        (
            {"classes": ["cat", "dog", "fox", "elk"]},
            "their classes differ: cat, dog, fox, owl; and cat, dog, fox, elk",
        ),
    ],
)
def test_runs_with_other_test_sets_are_refused(change: dict[str, object], message: str) -> None:
    first = predictions(1.0, 1)
    second = Predictions(**{**vars(first), **change})
    with pytest.raises(PipelineError) as raised:
        align(first, second, NAMES)
    assert str(raised.value) == f"main and try cannot be compared: {message}"


def test_shared_images_of_one_class_are_refused() -> None:
    first = predictions(1.0, 1)
    labels = np.where(first.labels == 2, 2, (first.labels + 1) % 4)
    second = Predictions(**{**vars(first), "labels": labels})
    rows = np.flatnonzero(first.labels == 2).tolist()
    few = [
        Predictions(
            CLASSES,
            [each.identities[row] for row in [*rows, 0]],
            each.labels[[*rows, 0]],
            each.probabilities[[*rows, 0]],
        )
        for each in (first, second)
    ]
    with pytest.raises(PipelineError) as raised:
        align(few[0], few[1], NAMES)
    assert str(raised.value) == (
        "main and try cannot be compared: their test sets differ: the images in both are all of"
        " class 'fox'"
    )


def test_a_small_part_of_a_large_test_set_is_refused() -> None:
    first, second = predictions(1.0, 1), take(predictions(1.5, 2), slice(199))
    for pair in ((first, second), (second, first)):
        with pytest.raises(PipelineError, match=r" 199 of them in both with the same class; at "):
            align(*pair, NAMES)


def test_the_interval_of_a_proportion_is_wilsons_also_if_all_images_are_right() -> None:
    drawn = predictions(1.5, 3, 80)
    intervals = score_intervals(drawn, top_k=3, bins=4)
    right = int((drawn.probabilities.argmax(axis=1) == drawn.labels).sum())
    assert intervals["accuracy"] == wilson_interval(right, 80)
    perfect = predictions(50.0, 3, 80)
    intervals = score_intervals(perfect, top_k=3, bins=4)
    assert intervals["accuracy"] == intervals["top_3_accuracy"] == wilson_interval(80, 80)
    assert intervals["accuracy"][0] < 0.96


def test_the_verdict_on_one_metric_is_corrected_for_the_number_of_metrics() -> None:
    from scipy.stats import norm

    comparison = compare_predictions(predictions(1.0, 1), predictions(1.2, 2), top_k=2, bins=5)
    assert len(comparison.differences) == len(METRICS)
    for each in comparison.differences:
        assert each.corrected_low < each.low < each.high < each.corrected_high
    # An interval of level 1 - a is as wide as percentile 1 - a / 2 of a normal variable says.
    wide, narrow = norm.ppf([1 - 0.05 / len(METRICS) / 2, 1 - 0.05 / 2])
    accuracy = comparison.differences[0]
    ratio = (accuracy.corrected_high - accuracy.corrected_low) / (accuracy.high - accuracy.low)
    assert ratio == pytest.approx(wide / narrow, rel=0.1)


@pytest.mark.parametrize("metric", METRICS, ids=lambda metric: metric.name)
def test_the_verdict_follows_the_corrected_interval_and_the_direction(metric: Metric) -> None:
    def verdict(low: float, high: float) -> str:
        name = metric.name.format(k=3)
        return Difference(name, 0.5, 0.6, 0.01, 0.02, low, high).verdict

    increase, decrease = ("better", "worse") if metric.higher_is_better else ("worse", "better")
    assert verdict(0.001, 0.2) == increase
    assert verdict(-0.2, -0.001) == decrease
    assert verdict(-0.001, 0.2) == "no evidence either way"


def test_resamples_of_few_images_may_lack_a_class() -> None:
    """About 2 of 100 resamples of these 7 images hold one class only, which has no ROC curve."""
    labels = np.array([0, 0, 0, 0, 1, 1, 1])
    identities = [f"image-{number}" for number in range(7)]
    few = [
        Predictions(["cat", "dog"], identities, labels, draw_probabilities(labels, 0.5, seed, 2))
        for seed in (1, 2)
    ]
    found = compare_predictions(*few, top_k=3, bins=5)
    intervals = score_intervals(few[0], top_k=3, bins=5)
    for each in found.differences:
        assert each.corrected_low <= each.low <= each.high <= each.corrected_high
        low, high = intervals[each.score]
        assert low <= high


def test_intervals_of_many_classes_take_little_memory() -> None:
    """Resamples x classes x classes would be 1.3 GB here."""
    labels = np.arange(400)
    many = Predictions(
        [str(label) for label in labels],
        [str(label) for label in labels],
        labels,
        draw_probabilities(labels, 3.0, 0, classes=400),
    )
    tracemalloc.start()
    try:
        score_intervals(many, top_k=3, bins=5)
        _, peak_bytes = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak_bytes < 100 << 20


def test_the_calibration_is_compared_as_in_the_whole_comparison() -> None:
    generator = np.random.default_rng(0)
    labels, sure = generator.integers(0, 3, 200), generator.dirichlet(np.ones(3) / 5, 200)
    first, second = (
        Predictions(["a", "b", "c"], [str(n) for n in range(200)], labels, each.astype(np.float32))
        for each in (sure, (sure + 1) / 4)
    )
    whole = {
        difference.score: difference
        for difference in compare_predictions(first, second, top_k=2, bins=10).differences
    }
    found = compare_calibration(first, second, bins=10)
    assert [difference.score for difference in found] == ["loss", "calibration_error"]
    for difference in found:
        expected = whole[difference.score]
        assert (difference.first, difference.second) == (expected.first, expected.second)
        assert (difference.low, difference.high) == (expected.low, expected.high)
    assert found[0].change < 0
    assert found[0].verdict == "better"
