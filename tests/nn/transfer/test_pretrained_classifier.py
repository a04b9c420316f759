"""A classifier on a pretrained network, from records to its weights."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.special import softmax
from support import TRANSFER_PARAMS, change_params, predict_probabilities, write_random_records

from imgpipe.core.sources import hash_sources
from imgpipe.records.folders import AugmentedRecords, Records
from imgpipe.records.info import AugmentedInfo, read_info
from imgpipe.settings.params import Params

pytestmark = pytest.mark.tf


def fit(
    folder: Path, params: Params = TRANSFER_PARAMS, *, classes: tuple[str, ...] = ("a", "b")
) -> Any:
    """Fit a classifier to random images; metrics go into the current folder."""
    from imgpipe.nn.transfer.pretrained_classifier import fit_classifier

    info = write_random_records(
        folder / "records", {"train": [24], "validation": [8]}, image_shape=(32, 32, 3),
        classes=classes,
    )  # fmt: skip
    records = Records(folder / "records", info)
    no_copies = AugmentedInfo(format_version=1, record_fields={}, shards_of_copies=[])
    augmented = AugmentedRecords(folder / "augmented", no_copies, records)
    return fit_classifier(params, records, augmented, sources=hash_sources())


@pytest.mark.parametrize("classes", [("a", "b"), ("a", "b", "c")])
def test_the_network_gives_the_metrics_of_the_regression(
    tmp_path: Path, repository: Path, classes: tuple[str, ...]
) -> None:
    from imgpipe.records.stored_images import StoredImages

    fitted = fit(tmp_path, classes=classes)
    epochs, best, _ = fitted.history
    info = read_info(tmp_path / "records")
    index = Records(tmp_path / "records", info).shards("validation")[0].index()
    probabilities = predict_probabilities(fitted.model, StoredImages([index], info))
    right = probabilities[np.arange(8), index.labels]
    assert -np.log(right).mean() == pytest.approx(best.validation_loss, abs=1e-3)
    assert (probabilities.argmax(axis=1) == index.labels).mean() == best.validation_accuracy
    assert best.loss < epochs[0].loss
    np.testing.assert_allclose(softmax(fitted.validation_logits, axis=1), probabilities, rtol=1e-3)


@pytest.mark.parametrize(
    ("changes", "files"),
    [
        ({"transfer__seed": 5, "transfer__bootstrap": True, "transfer__label_smoothing": 0.2}, 2),
        ({"transfer__class_weights": "balanced", "transfer__iterations": 3}, 2),
        ({"transfer__l2_penalties": [0.5], "preprocess__normalization": "standardize"}, 2),
        ({"training__batch_size": 4}, 2),
        ({"transfer__batch_size": 4}, 2),
        ({"arithmetic": "native"}, 4),
        ({"network": "efficientnet_lite1"}, 4),
    ],
)
def test_another_head_reuses_the_features_and_another_network_computes_new_ones(
    tmp_path: Path, repository: Path, changes: dict[str, Any], files: int
) -> None:
    fit(tmp_path)
    fit(tmp_path, change_params(TRANSFER_PARAMS, **changes))
    assert len(list((repository / ".dvc/tmp/imgpipe/features").iterdir())) == files


def test_equal_values_give_equal_bytes(tmp_path: Path, repository: Path) -> None:
    first, second = (fit(tmp_path / name).model.get_weights() for name in ("1", "2"))
    assert [value.tobytes() for value in first] == [value.tobytes() for value in second]


def test_a_bootstrap_sample_changes_the_weights(tmp_path: Path, repository: Path) -> None:
    bootstrap = change_params(TRANSFER_PARAMS, transfer__bootstrap=True)
    plain, changed = (
        fit(tmp_path / name, params).model.get_layer("logits").get_weights()[0]
        for name, params in (("plain", TRANSFER_PARAMS), ("changed", bootstrap))
    )
    assert not np.allclose(plain, changed, rtol=1e-3)
