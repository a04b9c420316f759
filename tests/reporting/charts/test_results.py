from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from support import random_images, texts_in

from imgpipe.reporting.charts.results import (
    draw_class_scores,
    draw_confusion,
    draw_gallery,
    draw_learning_curves,
    draw_reliability,
    draw_roc,
)
from imgpipe.reporting.charts.style import save_figure

GENERATOR = np.random.default_rng(0)
CONFUSION = np.array([[5, 1, 0], [0, 7, 2], [0, 0, 0]])


@pytest.mark.parametrize("epochs", [1, 12])
def test_learning_curves_carry_the_history(epochs: int) -> None:
    columns = ["loss", "accuracy", "validation_loss", "validation_accuracy"]
    history = pd.DataFrame(GENERATOR.random((epochs, 4)), columns=columns)
    history.insert(0, "epoch", range(1, epochs + 1))
    figure = draw_learning_curves(history, best_epoch=1)
    loss, accuracy, error = figure.axes
    assert (loss.lines[0].get_ydata() == history["loss"]).all()
    assert (accuracy.lines[1].get_ydata() == history["validation_accuracy"]).all()
    assert (error.lines[1].get_ydata() == 1 - history["validation_accuracy"]).all()
    assert {"training", "validation", "best epoch"} <= set(texts_in(figure))
    without = texts_in(draw_learning_curves(history, best_epoch=None, note="of iterations"))
    assert "Learning curves (of iterations)" in without
    assert "best epoch" not in without


def test_confusion_shows_counts_and_shares() -> None:
    figure = draw_confusion(CONFUSION, ["a", "b", "c"])
    assert sorted(text.get_text() for text in figure.axes[0].texts) == ["1", "2", "5", "7"]
    shares = np.asarray(figure.axes[0].images[0].get_array())
    assert shares[0].tolist() == [5 / 6, 1 / 6, 0]
    assert shares[2].tolist() == [0, 0, 0]  # a class without test images
    assert "Confusion matrix, test split (accuracy 80.0%)" in texts_in(figure)


def test_confusion_of_many_classes_and_long_names_can_be_drawn(tmp_path: Path) -> None:
    names = [f"class with a long name {number}" for number in range(40)]
    save_figure(
        draw_confusion(np.eye(40, dtype=np.int64) * 3, names), tmp_path / "picture.png", dpi=60
    )


@pytest.mark.parametrize(("count", "named"), [(60, True), (61, False)])
def test_the_classes_of_a_large_confusion_matrix_are_numbers(count: int, named: bool) -> None:
    names = [f"name {number}" for number in range(count)]
    found = texts_in(draw_confusion(np.eye(count, dtype=np.int64), names))
    assert ("name 1" in found) == named


def many_scores(count: int) -> pd.DataFrame:
    """Scores of many classes, the last one the worst."""
    scores = np.linspace(1, 0, count)
    return pd.DataFrame(
        {
            "class": [f"class {number}" for number in range(count)],
            "precision": scores,
            "recall": scores,
            "f1": scores,
            "images": 5,
        }
    )


def test_class_scores_of_many_classes_show_the_worst() -> None:
    whole = draw_class_scores(many_scores(60))
    assert len(whole.axes[0].patches) == 3 * 60
    few = draw_class_scores(many_scores(1000))
    assert few.get_figheight() < whole.get_figheight()
    found = texts_in(few)
    assert "Scores of each class, test split\n(the 20 classes of lowest F1 of 1000)" in found
    assert {"class 999  (5)", "class 980  (5)"} <= set(found)
    assert "class 979  (5)" not in found


def test_a_thousand_classes_can_be_drawn(tmp_path: Path) -> None:
    classes = 1000
    names = [f"class {number}" for number in range(classes)]
    points = pd.DataFrame(
        {
            "class": np.repeat(names, 2),
            "false_positive_rate": np.tile([0.0, 1.0], classes),
            "true_positive_rate": np.tile([0.0, 1.0], classes),
        }
    )
    for figure in (
        draw_confusion(np.eye(classes, dtype=np.int64), names),
        draw_class_scores(many_scores(classes)),
        draw_roc(points, dict.fromkeys(names, 0.5)),
    ):
        path = tmp_path / "picture.png"
        save_figure(figure, path, dpi=40)
        with Image.open(path) as picture:
            assert max(picture.size) < 1000


def test_class_scores_are_the_bars() -> None:
    table = pd.DataFrame(
        {
            "class": ["a", "b"],
            "precision": [0.5, 1.0],
            "recall": [0.6, 0.9],
            "f1": [0.55, 0.95],
            "images": [10, 12],
        }
    )
    figure = draw_class_scores(table)
    axes = figure.axes[0]
    assert [bar.get_width() for bar in axes.patches] == [0.5, 1.0, 0.6, 0.9, 0.55, 0.95]
    assert axes.get_xlim() == (0.4, 1)
    assert {"a  (10)", "b  (12)"} <= set(texts_in(figure))


def test_roc_draws_a_curve_for_each_class_with_its_area() -> None:
    points = pd.DataFrame(
        {
            "class": ["a", "a", "a", "b", "b"],
            "false_positive_rate": [0.0, 0.5, 1.0, 0.0, 1.0],
            "true_positive_rate": [0.0, 1.0, 1.0, 0.0, 1.0],
        }
    )
    figure = draw_roc(points, {"a": 0.75, "b": 0.5})
    lines = {line.get_label(): line for line in figure.axes[0].lines}
    assert set(lines) == {"a (0.7500)", "b (0.5000)", "chance (0.5)"}
    assert np.asarray(lines["a (0.7500)"].get_xdata()).tolist() == [0, 0.5, 1]
    assert tuple(lines["a (0.7500)"].get_color()) != tuple(lines["b (0.5000)"].get_color())


def test_reliability_shows_filled_bins_only() -> None:
    table = pd.DataFrame(
        {
            "low": [0.0, 0.5],
            "high": [0.5, 1.0],
            "images": [0, 9],
            "confidence": [0.0, 0.8],
            "accuracy": [0.0, 0.7],
        }
    )
    figure = draw_reliability(table, 0.1)
    assert [bar.get_height() for bar in figure.axes[0].patches] == [0.7]
    assert [bar.get_height() for bar in figure.axes[1].patches] == [9]


@pytest.mark.parametrize("count", [0, 2, 24])
def test_a_gallery_has_captions(count: int, tmp_path: Path) -> None:
    captions = [f"3, taken for\n5 ({number}%)" for number in range(count)]
    figure = draw_gallery(random_images(count, (40, 60, 3)), captions, "Mistakes")
    assert set(captions) | {"Mistakes"} <= set(texts_in(figure))
    assert sum(axes.axison for axes in figure.axes) == count
    save_figure(figure, tmp_path / "picture.png", dpi=60)
