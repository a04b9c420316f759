"""Pictures are looked at by people; these tests hold that they carry the numbers, at any shape."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure
from PIL import Image

from imgpipe.reporting import charts

GENERATOR = np.random.default_rng(0)
SHAPES = [(28, 28, 1), (40, 60, 3)]
CONFUSION = np.array([[5, 1, 0], [0, 7, 2], [0, 0, 0]])


def images(count: int, shape: tuple[int, int, int]) -> list[np.ndarray]:
    return list(GENERATOR.integers(0, 256, (count, *shape), dtype=np.uint8))


def texts(figure: Figure) -> list[str]:
    figure.draw_without_rendering()
    return [text.get_text() for text in figure.findobj(lambda artist: hasattr(artist, "get_text"))]


def save(figure: Figure, folder: Path, name: str = "picture.png") -> Path:
    charts.save_figure(figure, folder / name, dpi=60)
    return folder / name


def test_a_picture_is_a_png_with_stable_bytes_and_no_trace_of_its_writer(tmp_path: Path) -> None:
    first, second = (
        save(charts.draw_confusion(CONFUSION, ["a", "b", "c"]), tmp_path, name)
        for name in ("1.png", "2.png")
    )
    assert first.read_bytes() == second.read_bytes()
    with Image.open(first) as picture:
        assert picture.format == "PNG"
        assert "Software" not in picture.info


@pytest.mark.parametrize("shape", SHAPES)
def test_samples_show_true_pixels_in_a_row_for_each_class(shape: tuple[int, int, int]) -> None:
    samples = {"cat": images(4, shape), "dog": images(2, shape)}
    figure = charts.draw_samples(samples)
    assert {"cat", "dog"} <= set(texts(figure))
    shown = np.asarray(figure.axes[0].images[0].get_array())
    expected = samples["cat"][0] if shape[2] == 3 else samples["cat"][0][..., 0]
    assert (shown[: shape[0], : shape[1]] == expected).all()


def test_more_classes_than_can_be_shown_are_announced() -> None:
    samples = {f"class {number}": images(1, (8, 8, 1)) for number in range(30)}
    assert "(the first 20 of 30 classes)" in " ".join(texts(charts.draw_samples(samples)))


@pytest.mark.parametrize("shape", [(8, 9, 1), *SHAPES])
def test_pixel_numbers_are_the_pixels(shape: tuple[int, int, int]) -> None:
    (image,) = images(1, shape)
    figure = charts.draw_pixel_numbers(image, "cat")
    numbers = [int(text) for text in texts(figure) if text.isdigit()]
    top, left = max(0, (shape[0] - 28) // 2), max(0, (shape[1] - 28) // 2)
    expected = image[top : top + 28, left : left + 28, 0]
    assert numbers == expected.ravel().tolist()


@pytest.mark.parametrize("copies", [0, 1, 4, 30])
def test_variants_stand_beside_their_originals(copies: int) -> None:
    originals = images(3, (28, 28, 1))
    figure = charts.draw_variants(originals, [images(copies, (28, 28, 1)) for _ in originals])
    labels = texts(figure)
    assert "original" in labels
    assert ("copy 1" in labels) == (copies > 0)
    assert ("no augmented copies: augment.copies is 0" in labels) == (copies == 0)


@pytest.mark.parametrize("epochs", [1, 12])
def test_learning_curves_carry_the_history(epochs: int) -> None:
    columns = ["loss", "accuracy", "validation_loss", "validation_accuracy"]
    history = pd.DataFrame(GENERATOR.random((epochs, 4)), columns=columns)
    history.insert(0, "epoch", range(1, epochs + 1))
    figure = charts.draw_learning_curves(history, best_epoch=1)
    loss, accuracy, error = figure.axes
    assert (loss.lines[0].get_ydata() == history["loss"]).all()
    assert (accuracy.lines[1].get_ydata() == history["validation_accuracy"]).all()
    assert (error.lines[1].get_ydata() == 1 - history["validation_accuracy"]).all()
    assert {"training", "validation", "best epoch"} <= set(texts(figure))


def test_confusion_shows_counts_and_shares() -> None:
    figure = charts.draw_confusion(CONFUSION, ["a", "b", "c"])
    assert sorted(text.get_text() for text in figure.axes[0].texts) == ["1", "2", "5", "7"]
    shares = np.asarray(figure.axes[0].images[0].get_array())
    assert shares[0].tolist() == [5 / 6, 1 / 6, 0]
    assert shares[2].tolist() == [0, 0, 0]  # a class without test images
    assert "Confusion matrix, test split (accuracy 80.0%)" in texts(figure)


def test_confusion_of_many_classes_and_long_names_can_be_drawn(tmp_path: Path) -> None:
    names = [f"class with a long name {number}" for number in range(40)]
    save(charts.draw_confusion(np.eye(40, dtype=np.int64) * 3, names), tmp_path)


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
    figure = charts.draw_class_scores(table)
    axes = figure.axes[0]
    assert [bar.get_width() for bar in axes.patches] == [0.5, 1.0, 0.6, 0.9, 0.55, 0.95]
    assert axes.get_xlim() == (0.4, 1)
    assert {"a  (10)", "b  (12)"} <= set(texts(figure))


@pytest.mark.parametrize("count", [0, 2, 24])
def test_a_gallery_has_captions(count: int, tmp_path: Path) -> None:
    captions = [f"3, taken for\n5 ({number}%)" for number in range(count)]
    figure = charts.draw_gallery(images(count, (40, 60, 3)), captions, "Mistakes")
    assert set(captions) | {"Mistakes"} <= set(texts(figure))
    assert sum(axes.axison for axes in figure.axes) == count
    save(figure, tmp_path)


def test_roc_draws_a_curve_for_each_class_with_its_area() -> None:
    points = pd.DataFrame(
        {
            "class": ["a", "a", "a", "b", "b"],
            "false_positive_rate": [0.0, 0.5, 1.0, 0.0, 1.0],
            "true_positive_rate": [0.0, 1.0, 1.0, 0.0, 1.0],
        }
    )
    figure = charts.draw_roc(points, {"a": 0.75, "b": 0.5})
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
    figure = charts.draw_reliability(table, 0.1)
    assert [bar.get_height() for bar in figure.axes[0].patches] == [0.7]
    assert [bar.get_height() for bar in figure.axes[1].patches] == [9]


@pytest.mark.parametrize("shape", [(32, 3, 3, 1), (5, 3, 3, 3), (512, 28, 28, 1)])
def test_kernels_of_any_number_can_be_drawn(
    shape: tuple[int, int, int, int], tmp_path: Path
) -> None:
    kernels = GENERATOR.normal(size=shape).astype(np.float32)
    path = save(charts.draw_kernels(kernels), tmp_path)
    with Image.open(path) as picture:
        colours = np.asarray(picture.convert("RGB")).reshape(-1, 3).astype(int)
    assert ((colours[:, 0] - colours[:, 2]) > 80).any()  # red for positive weights
    assert ((colours[:, 2] - colours[:, 0]) > 80).any()  # blue for negative ones


def test_weights_for_a_row_of_pixels_are_drawn_a_unit_a_line() -> None:
    kernels = GENERATOR.normal(size=(100, 1, 28, 1)).astype(np.float32)
    axes = charts.draw_kernels(kernels).axes[0]
    assert axes.get_ylabel() == "unit"
    drawn = np.asarray(axes.images[0].get_array())
    assert (drawn == kernels[:64, 0, :, 0]).all()


def test_feature_maps_name_their_layers(tmp_path: Path) -> None:
    layers = [
        ("first", GENERATOR.random((28, 28, 32)).astype(np.float32)),
        ("second", np.zeros((4, 4, 3), dtype=np.float32)),
    ]
    figure = charts.draw_feature_maps(images(1, (28, 28, 1))[0], layers)
    assert {"first\n28 x 28 x 32", "second\n4 x 4 x 3"} <= set(texts(figure))
    save(figure, tmp_path)


@pytest.mark.parametrize("shape", SHAPES)
def test_activation_maps_lie_over_their_images(shape: tuple[int, int, int], tmp_path: Path) -> None:
    shown = np.stack(images(3, shape))
    maps = GENERATOR.random((3, 7, 7)).astype(np.float32)
    figure = charts.draw_activation_maps(shown, maps, ["a", "b", "c"])
    assert {"a", "b", "c"} <= set(texts(figure))
    overlay = figure.axes[3].images[1]
    assert (np.asarray(overlay.get_array()) == maps[0]).all()
    assert tuple(overlay.get_extent()) == (-0.5, shape[1] - 0.5, shape[0] - 0.5, -0.5)
    save(figure, tmp_path)


def points_of(collection: Any) -> np.ndarray:
    return np.asarray(collection.get_offsets())


def test_members_stand_above_their_ensemble() -> None:
    accuracy = np.array([0.8, 0.7, 0.9])
    table = pd.DataFrame(
        {
            "accuracy": accuracy,
            "accuracy_low": accuracy - 0.1,
            "accuracy_high": accuracy + 0.05,
            "loss": 1 - accuracy,
        },
        index=["4", "9", "ensemble"],
    )
    figure = charts.draw_members(table)
    assert {"member 4", "member 9", "ensemble"} <= set(texts(figure))
    left, right = figure.axes
    for axes, column in ((left, "accuracy"), (right, "loss")):
        points = max((points_of(drawn) for drawn in axes.collections), key=len)
        assert points[:, 0] == pytest.approx(table[column].to_numpy())
        assert points[:, 1].tolist() == [2, 1, 0]  # the ensemble at the bottom
        mean = np.asarray(axes.lines[-1].get_xdata())[0]
        assert mean == pytest.approx(table[column][:2].mean())


def test_folds_show_every_score_with_its_mean() -> None:
    table = pd.DataFrame({"accuracy": [0.8, 0.9], "loss": [0.3, 0.1], "images": [5, 5]}, [1, 2])
    summary = {"accuracy": {"mean": 0.85, "sd": 0.07}, "loss": {"mean": 0.2, "sd": 0.14}}
    figure = charts.draw_folds(table, summary)
    assert {"accuracy\n0.8500\nsd 0.0700", "loss\n0.2000\nsd 0.1400"} <= set(texts(figure))
    for axes, name in zip(figure.axes, ("accuracy", "loss"), strict=True):
        points = points_of(axes.collections[0])
        assert points[:, 1].tolist() == table[name].tolist()


def test_errors_have_a_panel_for_each_variant() -> None:
    def run(error: float) -> pd.DataFrame:
        return pd.DataFrame(
            {
                "epoch": [1, 2, 3],
                "training_error": [0.5, 0.2, 0.1],
                "validation_error": [0.5, error, 0.4],
            }
        )

    table = pd.DataFrame(
        {"validation_error": [0.32, 0.1], "validation_error_sd": [0.02828, 0.0]}, ["none", "all"]
    )
    runs = {"none": [run(0.3), run(0.34)], "all": [run(0.1), run(0.1)]}
    figure = charts.draw_errors(runs, table)
    assert [axes.get_title().split("\n") for axes in figure.axes] == [
        ["none", "validation error 32.0%, sd 2.8%"],
        ["all", "validation error 10.0%, sd 0.0%"],
    ]
    lines = {line.get_label(): np.asarray(line.get_ydata()) for line in figure.axes[0].lines}
    assert lines["validation"] == pytest.approx([0.5, 0.32, 0.4])
    assert lines["training"] == pytest.approx([0.5, 0.2, 0.1])
