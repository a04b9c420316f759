"""The mistakes by pairs of classes, as the model card shows them."""

import io
from collections.abc import Callable
from dataclasses import replace

import numpy as np
from PIL import Image
from support import Page, find_error

from imgpipe.datasets.catalog import LocalEntry
from imgpipe.datasets.formats import ImageFolderFormat
from imgpipe.evaluation.predictions import Predictions
from imgpipe.reporting.confusions import MOST_PAIRS, list_confusions
from imgpipe.reporting.model_card import write_model_card
from imgpipe.reporting.stage_outputs import StageOutputs

MakeOutputs = Callable[..., StageOutputs]
OWN = LocalEntry[ImageFolderFormat](
    title="", files="data/local/own", format=ImageFolderFormat(kind="image_folder")
)


def predict(labels: list[int], predicted: list[int], classes: int) -> Predictions:
    """Return predictions; the later an image, the more confident."""
    count = len(labels)
    probabilities = np.full((count, classes), 0.01, dtype=np.float32)
    probabilities[np.arange(count), predicted] = np.linspace(0.5, 0.9, count)
    names = [f"data/local/own/a b/{number}.jpg" for number in range(count)]
    return Predictions(list("abcdefgh"[:classes]), names, np.array(labels), probabilities)


PREDICTIONS = predict([0, 0, 0, 1, 1, 2, 2, 2], [1, 1, 0, 1, 0, 2, 0, 1], 3)


def test_the_pairs_with_most_mistakes_come_first(make_outputs: MakeOutputs) -> None:
    found = list(list_confusions(make_outputs(predictions=PREDICTIONS)))
    assert [(pair.actual, pair.predicted, pair.mistakes, pair.images) for pair in found] == [
        ("a", "b", 2, 3), ("b", "a", 1, 2), ("c", "a", 1, 3), ("c", "b", 1, 3),
    ]  # fmt: skip
    assert [image.name for image in found[0].shown] == ["1.jpg", "0.jpg"]  # most confident first
    assert found[0].shown[0].note == f"{PREDICTIONS.probabilities[1].max():.1%}"


def test_a_picture_is_the_test_image(make_outputs: MakeOutputs) -> None:
    outputs = make_outputs(predictions=PREDICTIONS)
    shown = next(list_confusions(outputs)).shown[0]
    image = outputs.test_images[np.array([1])][0]
    with Image.open(io.BytesIO(shown.png)) as picture:
        assert (np.asarray(picture) == image.squeeze()).all()


def test_the_number_of_pairs_is_bounded(make_outputs: MakeOutputs) -> None:
    labels, predicted = np.divmod(np.arange(64), 8)
    found = predict(labels.tolist(), predicted.tolist(), 8)
    assert len(list(list_confusions(make_outputs(predictions=found)))) == MOST_PAIRS


def test_the_card_leads_to_the_files_of_the_users_own_folder_only(
    make_outputs: MakeOutputs,
) -> None:
    outputs = make_outputs(predictions=PREDICTIONS)
    links = {image.link for pair in list_confusions(outputs) for image in pair.shown}
    assert links == {None}
    own = replace(outputs, entry=OWN)
    first = next(list_confusions(own)).shown[0]
    assert first.link == "../data/local/own/a%20b/1.jpg"
    write_model_card(path := outputs.records.folder.parent.parent / "card.html", own, {})
    page = Page(path.read_text())
    assert page.open == []
    assert first.link in page.sources


def test_predictions_of_other_images_are_refused(make_outputs: MakeOutputs) -> None:
    outputs = make_outputs(predictions=PREDICTIONS)
    other = replace(PREDICTIONS, identities=PREDICTIONS.identities[::-1])
    error = find_error(lambda: list(list_confusions(replace(outputs, predictions=other))))
    assert "predictions.csv: not about the test images" in error
