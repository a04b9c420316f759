import itertools
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure
from numpy.typing import NDArray
from PIL import Image
from support import random_images, texts_in

from imgpipe.evaluation.metrics import wilson_interval
from imgpipe.evaluation.roc import roc_corners
from imgpipe.reporting.charts.results import (
    draw_class_scores,
    draw_confusion,
    draw_gallery,
    draw_learning_curves,
    draw_reliability,
    draw_roc,
)
from imgpipe.reporting.charts.style import TRAIN_COLOR, VALIDATION_COLOR, save_figure, shorten

GENERATOR = np.random.default_rng(0)
CONFUSION = np.array([[5, 1, 0], [0, 7, 2], [0, 0, 0]])


def history_of(values: NDArray[np.float64]) -> pd.DataFrame:
    """The history of some epochs, (epochs, 4)."""
    columns = ["loss", "accuracy", "validation_loss", "validation_accuracy"]
    history = pd.DataFrame(values, columns=columns)
    history.insert(0, "epoch", range(1, len(values) + 1))
    return history


@pytest.mark.parametrize("epochs", [1, 12])
def test_learning_curves_carry_the_history(epochs: int) -> None:
    history = history_of(GENERATOR.random((epochs, 4)))
    figure = draw_learning_curves(history, best_epoch=1, note="a note")
    loss, accuracy = figure.axes
    assert (loss.lines[0].get_ydata() == history["loss"]).all()
    assert (accuracy.lines[1].get_ydata() == history["validation_accuracy"]).all()
    assert {"training", "validation", "best epoch", "a note"} <= set(texts_in(figure))
    assert "best epoch" not in texts_in(draw_learning_curves(history, best_epoch=None, note=""))


@pytest.mark.parametrize(
    ("epochs", "expected"),
    [
        (1, [1]),
        (2, [1, 2]),
        (5, [1, 2, 3, 4, 5]),
        (30, [1, 4, 8, 12, 16, 20, 24, 28]),
        (200, [1, 25, 50, 75, 100, 125, 150, 175, 200]),
    ],
)
def test_the_axis_of_epochs_starts_at_1(epochs: int, expected: list[int]) -> None:
    figure = draw_learning_curves(history_of(np.ones((epochs, 4))), best_epoch=None, note="")
    assert [axes.get_xticks().tolist() for axes in figure.axes] == [expected, expected]


def test_confusion_shows_counts_and_shares() -> None:
    figure = draw_confusion(CONFUSION, ["a", "b", "c"])
    assert sorted(text.get_text() for text in figure.axes[0].texts) == ["1", "2", "5", "7"]
    shares = np.asarray(figure.axes[0].images[0].get_array())
    assert shares[0].tolist() == [5 / 6, 1 / 6, 0]
    assert shares[2].tolist() == [0, 0, 0]  # a class without test images
    assert "Confusion matrix, test split (accuracy 80.0%)" in texts_in(figure)


@pytest.mark.parametrize(("count", "named"), [(60, True), (61, False)])
def test_the_classes_of_a_large_confusion_matrix_are_numbers(count: int, named: bool) -> None:
    names = [f"name {number}" for number in range(count)]
    found = texts_in(draw_confusion(np.eye(count, dtype=np.int64), names))
    assert ("name 1" in found) == named


def many_scores(count: int) -> pd.DataFrame:
    """Scores of many classes, the last one the worst."""
    names = [f"class {number}" for number in range(count)]
    columns = dict.fromkeys(["precision", "recall", "f1", "roc_auc"], np.linspace(1, 0, count))
    return pd.DataFrame({"class": names, **columns, "images": 5})


def draw_equal_curves(names: list[str]) -> Figure:
    """Draw the same curve for each class; with a single class, the class "a" has no curve."""
    points = pd.DataFrame(
        {
            "class": np.repeat(names, 3),
            "false_positive_rate": np.tile([0, 0.5, 1], len(names)),
            "true_positive_rate": np.tile([0, 1, 1], len(names)),
        }
    )
    table = pd.DataFrame({"class": names, "roc_auc": 0.75, "images": 3})
    if len(names) == 1:
        table = pd.DataFrame({"class": ["a", *names], "roc_auc": 0.75, "images": [2, 3]})
    return draw_roc(points, table)


def test_class_scores_of_many_classes_show_the_worst() -> None:
    whole = draw_class_scores(many_scores(60))
    assert [len(np.asarray(line.get_xdata())) for line in whole.axes[0].lines] == [60, 60, 60]
    few = draw_class_scores(many_scores(1000))
    assert few.get_figheight() < whole.get_figheight()
    found = texts_in(few)
    assert "Scores of each class, test split\n(the 20 classes of lowest F1 of 1000)" in found
    assert {"class 999  (5)", "class 980  (5)"} <= set(found)
    assert "class 979  (5)" not in found


def test_a_thousand_classes_can_be_drawn(tmp_path: Path) -> None:
    names = [f"class {number}" for number in range(1000)]
    for figure in (
        draw_confusion(np.eye(1000, dtype=np.int64), names),
        draw_class_scores(many_scores(1000)),
        draw_equal_curves(names),
    ):
        save_figure(figure, tmp_path / "picture.png", dpi=40)
        with Image.open(tmp_path / "picture.png") as picture:
            assert max(picture.size) < 1000


def test_class_scores_are_the_dots() -> None:
    columns = ["class", "precision", "recall", "f1", "images"]
    rows = [["a", 0.5, 0.6, 0.55, 10], ["b", 1.0, 0.9, 0.95, 12]]
    figure = draw_class_scores(pd.DataFrame(rows, columns=columns))
    axes = figure.axes[0]
    dots = {line.get_label(): np.asarray(line.get_xdata()).tolist() for line in axes.lines}
    assert dots == {"precision": [0.5, 1.0], "recall": [0.6, 0.9], "F1": [0.55, 0.95]}
    assert axes.get_xlim() == (0.45, 1)
    assert {"a  (10)", "b  (12)"} <= set(texts_in(figure))


def draw_curves(labels: NDArray[np.int64], probabilities: NDArray[np.float32]) -> Figure:
    """Draw the curves of classes "0", "1", ... of predictions, (N,) and (N, K)."""
    rows, table = [], []
    for label in range(probabilities.shape[1]):
        corners = roc_corners(labels == label, probabilities[:, label])
        rows += [(str(label), *corner) for corner in corners]
        table.append((str(label), 0.9, int((labels == label).sum())))
    points = pd.DataFrame(rows, columns=["class", "false_positive_rate", "true_positive_rate"])
    return draw_roc(points, pd.DataFrame(table, columns=["class", "roc_auc", "images"]))


def test_roc_and_precision_recall_are_those_of_scikit_learn() -> None:
    from sklearn.metrics import (
        precision_recall_curve,
    )

    labels = np.arange(60) % 3
    probabilities = GENERATOR.dirichlet(np.ones(3), 60).astype(np.float32).round(2)
    figure = draw_curves(labels, probabilities)
    roc, precision_recall = figure.axes
    for label in range(3):
        recall, precision = precision_recall.lines[label].get_data()
        corners = np.stack([np.asarray(recall)[::20], np.asarray(precision)[::20]], axis=1)
        curve = precision_recall_curve(labels == label, probabilities[:, label])
        expected = np.stack([curve[1], curve[0]], axis=1)
        assert len(corners) > 5
        assert np.abs(corners[:, None] - expected[None]).max(axis=2).min(axis=1).max() < 1e-9
    assert {"0 (0.9000)", "1 (0.9000)", "2 (0.9000)"} <= set(texts_in(figure))
    assert len({line.get_color() for line in roc.lines[:3]}) == 3


def test_the_curve_of_precision_begins_with_the_first_answers() -> None:
    labels = np.array([1, 0, 0, 1, 1])
    score = np.array([0.2, 0.9, 0.3, 0.8, 0.7], dtype=np.float32)  # the surest answer is wrong
    figure = draw_curves(labels, np.stack([1 - score, score], axis=1))
    recall, precision = map(np.asarray, figure.axes[1].lines[1].get_data())
    assert (recall[0], precision[0]) == (0, 0)
    assert precision.max() == pytest.approx(2 / 3)


@pytest.mark.parametrize("name", ["b", "_background", "$\\x$"])
def test_of_two_classes_one_curve_is_drawn_and_named(name: str) -> None:
    figure = draw_equal_curves([name])
    roc, precision_recall = figure.axes
    assert len(roc.lines[:-1]) == 1
    assert np.asarray(precision_recall.lines[0].get_ydata())[-1] == pytest.approx(3 / 5)
    found = [text.strip() for text in texts_in(figure)]
    assert f"{name} (0.7500)" in found
    assert f"Curves of class {name} against a, test split" in found


def test_curves_close_to_the_corner_are_enlarged() -> None:
    labels = np.arange(400) % 2
    score = np.where(labels == 1, 0.9, 0.1)
    score[:2] = [0.95, 0.05]  # a mistake for each class
    probabilities = np.stack([1 - score, score], axis=1).astype(np.float32)
    for changed, side in ((probabilities, 0.05), (GENERATOR.random((400, 2)), 1.0)):
        roc, precision_recall = draw_curves(labels, changed.astype(np.float32)).axes
        assert roc.get_xlim()[1] == side
        assert precision_recall.get_xlim()[0] == roc.get_ylim()[0] == 1 - side


def test_the_lines_of_twenty_classes_differ() -> None:
    labels = np.arange(60) % 20
    roc = draw_curves(labels, GENERATOR.dirichlet(np.ones(20), 60).astype(np.float32)).axes[0]
    colors = [line.get_color() for line in roc.lines[:20]]
    dashes = [line.get_linestyle() for line in roc.lines[:20]]
    assert len(set(zip(colors, dashes, strict=True))) == 20
    # Without colors, a line and the three lines after it differ.
    assert all(len(set(dashes[first : first + 4])) == 4 for first in range(17))


def test_reliability_also_shows_the_bins_without_temperature_scaling() -> None:
    columns = ["low", "high", "images", "confidence", "accuracy"]
    after = pd.DataFrame([[0.5, 1.0, 9, 0.8, 6 / 9]], columns=columns)
    before = pd.DataFrame([[0.0, 0.5, 0, 0.0, 0.0], [0.5, 1.0, 9, 0.9, 6 / 9]], columns=columns)
    figure = draw_reliability(after, 0.1, before)
    (line,) = [
        line for line in figure.axes[0].lines if line.get_label() == "without temperature scaling"
    ]
    assert np.asarray(line.get_xydata()).tolist() == [[0.9, 6 / 9]]


def test_reliability_shows_filled_bins_only() -> None:
    columns = ["low", "high", "images", "confidence", "accuracy"]
    rows = [[0.0, 0.5, 0, 0.0, 0.0], [0.5, 1.0, 9, 0.8, 6 / 9]]
    figure = draw_reliability(pd.DataFrame(rows, columns=columns), 0.1)
    dots = figure.axes[0].collections[1]
    assert np.asarray(dots.get_offsets()).tolist() == [[0.8, 6 / 9]]
    (interval,) = figure.axes[0].collections[0].get_paths()
    assert np.asarray(interval.vertices)[:, 1].tolist() == list(wilson_interval(6, 9))
    assert [bar.get_height() for bar in figure.axes[1].patches] == [9]


@pytest.mark.parametrize("count", [0, 2, 24])
def test_a_gallery_has_captions(count: int, tmp_path: Path) -> None:
    captions = [f"3, taken for\n5 ({number}%)" for number in range(count)]
    figure = draw_gallery(random_images(count, (40, 60, 3)), captions, "Mistakes")
    assert set(captions) | {"Mistakes"} <= set(texts_in(figure))
    assert sum(axes.axison for axes in figure.axes) == count
    save_figure(figure, tmp_path / "picture.png", dpi=60)


def test_a_gallery_without_images_is_a_line_of_text() -> None:
    assert draw_gallery([], [], "No mistake").get_figheight() < 0.5


@pytest.mark.parametrize("shape", [(20, 60, 3), (60, 20, 3)])
def test_a_gallery_has_no_empty_places_between_its_rows(shape: tuple[int, int, int]) -> None:
    images = random_images(16, shape)
    figure = draw_gallery(images, ["a, taken for\nb (99.0%)"] * 16, "Mistakes")
    figure.draw_without_rendering()
    first, *_ = figure.axes
    below = figure.axes[8]
    gap = first.get_position().y0 - below.get_position().y1
    assert gap * figure.get_figheight() < 0.7  # inches; the caption takes 0.3
    assert first.get_position().width * figure.get_figwidth() > 1.2


def test_captions_of_classes_with_long_names_do_not_overlap() -> None:
    name = shorten("a_class_with_a_name_that_is_longer_than_its_image")
    images = random_images(8, (20, 20, 1))
    figure = draw_gallery(images, [f"{name}, taken for\n{name} (99.9%)"] * 8, "Mistakes")
    figure.draw_without_rendering()
    boxes = [axes.title.get_window_extent() for axes in figure.axes]
    assert all(left.x1 < right.x0 for left, right in itertools.pairwise(boxes))
    assert {round(box.y0) for box in boxes} == {round(boxes[0].y0)}


def test_long_names_leave_most_of_the_picture_to_the_curves() -> None:
    names = [f"{number}_is_a_class_with_a_name_of_many_words" for number in range(10)]
    figure = draw_equal_curves(names)
    figure.draw_without_rendering()
    assert sum(axes.get_position().width for axes in figure.axes) > 0.65


def test_equal_curves_are_both_visible(tmp_path: Path) -> None:
    figure = draw_learning_curves(history_of(np.ones((3, 4))), best_epoch=None, note="")
    save_figure(figure, tmp_path / "picture.png", dpi=100)
    with Image.open(tmp_path / "picture.png") as picture:
        pixels = np.asarray(picture.convert("RGB")).astype(int)
    # The curves of accuracy, without the legend of the left chart.
    right = pixels[:, pixels.shape[1] // 2 :]
    for color in (TRAIN_COLOR, VALIDATION_COLOR):
        channels = [int(color[first : first + 2], 16) for first in (1, 3, 5)]
        near = (np.abs(right - channels).max(axis=2) < 20).any(axis=0)
        assert near.mean() > 0.7
