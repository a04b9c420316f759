from collections.abc import Callable

import numpy as np
import pytest
from matplotlib.figure import Figure
from numpy.typing import NDArray
from support import TRANSFER_PARAMS, texts_in

from imgpipe.evaluation.predictions import Predictions
from imgpipe.reporting.charts.style import encode_figure
from imgpipe.reporting.pictures import PICTURES
from imgpipe.reporting.stage_outputs import StageOutputs

MakeOutputs = Callable[..., StageOutputs]


def draw(name: str, outputs: StageOutputs) -> Figure:
    figure = PICTURES[name].draw(outputs)
    assert figure is not None
    return figure


def certain(names: list[str], labels: NDArray[np.int64]) -> Predictions:
    """Return correct predictions of images of these labels."""
    identities = [str(number) for number in range(len(labels))]
    return Predictions(names, identities, labels, np.eye(len(names), dtype=np.float32)[labels])


@pytest.mark.parametrize("name", PICTURES)
def test_every_picture_is_drawn_from_the_files_of_a_run(
    name: str, make_outputs: MakeOutputs
) -> None:
    assert encode_figure(draw(name, make_outputs()), dpi=40).startswith(b"\x89PNG")


def test_a_picture_that_does_not_apply_is_not_drawn(make_outputs: MakeOutputs) -> None:
    outputs = make_outputs(copies=0, draws=0, map_layers=0)
    missing = {name for name, picture in PICTURES.items() if picture.draw(outputs) is None}
    assert missing == {"augmentation", "feature_maps"}


def test_no_best_epoch_is_marked_if_the_last_iteration_is_used(
    make_outputs: MakeOutputs,
) -> None:
    found = texts_in(draw("learning_curves", make_outputs(run_params=TRANSFER_PARAMS)))
    assert "best epoch" not in found
    assert any("An epoch is an iteration of L-BFGS" in text for text in found)


@pytest.mark.parametrize(("copies", "draws"), [(2, 0), (0, 3), (2, 3)])
def test_the_augmentation_is_that_of_the_run(
    copies: int, draws: int, make_outputs: MakeOutputs
) -> None:
    figure = draw("augmentation", make_outputs(copies=copies, draws=draws))
    found = texts_in(figure)
    assert (f"copy {copies}" in found) == bool(copies)
    assert (f"random {draws}" in found) == bool(draws)
    assert len(figure.axes) == bool(copies) + bool(draws)


def test_the_confusion_matrix_counts_the_predictions(make_outputs: MakeOutputs) -> None:
    outputs = make_outputs()
    shares = np.asarray(draw("confusion", outputs).axes[0].images[0].get_array())
    predictions = outputs.predictions
    predicted = predictions.probabilities.argmax(axis=1)
    for label in range(4):
        expected = [(predicted[predictions.labels == label] == other).mean() for other in range(4)]
        assert shares[label] == pytest.approx(expected)


def test_the_most_confident_mistakes_come_first(make_outputs: MakeOutputs) -> None:
    right = np.array([0.9, 0.1, 0.6, 0.4, 0.25, 0.75, 0.2], dtype=np.float32)
    probabilities = np.stack([right, 1 - right], axis=1)
    labels = np.array([0, 0, 1, 1, 0, 1, 0])
    names = [f"own.zip#photos/{number}.jpg" for number in range(7)]
    predictions = Predictions(["yes", "no"], names, labels, probabilities)
    figure = draw("mistakes", make_outputs(predictions=predictions))
    captions = [axes.get_title() for axes in figure.axes if axes.axison]
    assert captions == [
        f"{actual}, taken\N{NO-BREAK SPACE}for\n{predicted} ({confidence}%)\n{name}"
        for actual, predicted, confidence, name in (
            ("yes", "no", 90.0, "1.jpg"), ("yes", "no", 80.0, "6.jpg"),
            # Of equal ones, the first image comes first.
            ("yes", "no", 75.0, "4.jpg"), ("no", "yes", 75.0, "5.jpg"),
            ("no", "yes", 60.0, "2.jpg"),
        )
    ]  # fmt: skip
    assert "The most confident of 5 mistakes on 7 test images" in texts_in(figure)


def test_without_mistakes_the_picture_says_so(make_outputs: MakeOutputs) -> None:
    predictions = certain(["a", "b", "c", "d"], np.arange(20) % 4)
    figure = draw("mistakes", make_outputs(predictions=predictions))
    assert "No mistake on 20 test images" in texts_in(figure)


def test_samples_are_read_only_for_the_classes_that_are_shown(make_outputs: MakeOutputs) -> None:
    predictions = certain([f"class {label}" for label in range(30)], np.arange(60) % 30)
    found = texts_in(draw("samples", make_outputs(predictions=predictions)))
    assert "Training images, class by class (the first 20 of 30 classes)" in found
    assert "class 19" in found
    assert "class 20" not in found


def test_the_captions_of_activation_maps_name_mistakes(make_outputs: MakeOutputs) -> None:
    outputs = make_outputs()
    predictions = outputs.predictions
    found = texts_in(draw("activation_maps", outputs))
    for number in range(5):
        probabilities = predictions.probabilities[number]
        actual = predictions.classes[predictions.labels[number]]
        predicted = predictions.classes[probabilities.argmax()]
        confidence = f"({probabilities.max():.1%})"
        right = f"{actual}, correct\n{confidence}"
        wrong = f"{actual}, taken\N{NO-BREAK SPACE}for\n{predicted} {confidence}"
        assert (right if actual == predicted else wrong) in found
