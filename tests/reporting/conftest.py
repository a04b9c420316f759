"""The outputs of a small run, in a folder that is the working directory."""

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from support import CATALOG, RESCALE, ROOT, draw_predictions, random_images

from imgpipe.core.files import write_csv, write_json
from imgpipe.evaluation import tables
from imgpipe.evaluation.label_issues import LabelIssue
from imgpipe.evaluation.metrics import score_predictions
from imgpipe.evaluation.predictions import Predictions, write_predictions
from imgpipe.evaluation.views import Views, write_views
from imgpipe.records.info import (
    FIELDS,
    AugmentedInfo,
    RecordsInfo,
    SplitInfo,
    copy_folder,
    name_shard,
    write_info,
)
from imgpipe.records.npz_file import write_npz
from imgpipe.records.shards import write_shard
from imgpipe.reporting.stage_outputs import StageOutputs, read_outputs
from imgpipe.settings.params import Params, load_params

SHAPE = (12, 10, 1)
MakeOutputs = Callable[..., StageOutputs]


@pytest.fixture
def params() -> Params:
    """The project's parameters."""
    return load_params(ROOT / "params.yaml")


@pytest.fixture
def make_outputs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, params: Params) -> MakeOutputs:
    """Write the outputs of a run with some copies, layers with maps, and test predictions."""

    def make(
        *,
        copies: int = 2,
        draws: int = 3,
        map_layers: int = 1,
        predictions: Predictions | None = None,
        run_params: Params = params,
    ) -> StageOutputs:
        monkeypatch.chdir(tmp_path)
        for name in ("pyproject.toml", "dvc.yaml"):
            shutil.copy(ROOT / name, tmp_path)
        Path("data").mkdir(exist_ok=True)
        shutil.copy(CATALOG, "data")
        predicted = predictions or draw_predictions(4, rounded=False, examples=20)
        info = write_records(predicted, params)
        write_copies(info, copies)
        examples = np.stack(random_images(6 * (1 + draws), SHAPE)).reshape(6, -1, *SHAPE)
        write_npz(
            Path("data/training/examples.npz"), {"images": examples[:, 0], "draws": examples[:, 1:]}
        )
        write_results(predicted, params)
        viewed = np.stack(random_images(5, SHAPE))
        maps = np.random.default_rng(0).random((5, 4, 4, 3), dtype=np.float32)
        layers = [(f"relu_{number}", maps[0]) for number in range(map_layers)]
        numbers = np.arange(5)
        seen = Views(numbers, viewed, maps, maps[..., 0], layers, layers_with_maps=map_layers)
        write_views(Path("data/evaluation/views.npz"), seen)
        augment = run_params.augment.model_copy(update={"copies": copies})
        return read_outputs(run_params.model_copy(update={"augment": augment}))

    return make


def write_records(predictions: Predictions, params: Params) -> RecordsInfo:
    """Write records that have the test images of the predictions."""
    folder = Path("data/records")
    labels, classes = predictions.labels.tolist(), predictions.classes
    counts = dict(zip(classes, np.bincount(labels, minlength=len(classes)).tolist(), strict=True))
    splits = {}
    for split in ("train", "validation", "test"):
        prefix = "" if split == "test" else f"{split} "
        identities = [f"{prefix}{identity}" for identity in predictions.identities]
        triples = zip(random_images(len(labels), SHAPE), labels, identities, strict=True)
        shard = write_shard(folder / name_shard(split, 0, 1), triples)
        splits[split] = SplitInfo(examples=len(labels), per_class=counts, shards=[shard])
    size = {"height_px": SHAPE[0], "width_px": SHAPE[1]}
    info = RecordsInfo(
        format_version=1,
        dataset="digits",
        classes=classes,
        image_spec=params.preprocess.image_spec.model_copy(update=size),
        normalization=RESCALE,
        record_fields=FIELDS,
        splits=splits,
    )
    write_info(folder, info)
    return info


def write_copies(info: RecordsInfo, copies: int) -> None:
    """Write augmented copies: here, the original shards."""
    folder = Path("data/augmented")
    shards = info.splits["train"].shards
    for copy in range(1, copies + 1):
        (folder / copy_folder(copy)).mkdir(parents=True)
        shutil.copy(Path("data/records") / shards[0].file, folder / copy_folder(copy))
    write_info(
        folder,
        AugmentedInfo(
            format_version=1, record_fields=FIELDS, shards_of_copies=[shards for _ in range(copies)]
        ),
    )


def write_results(predictions: Predictions, params: Params) -> None:
    """Write what `train` and `evaluate` measure."""
    metrics = Path("metrics")
    top_k, bins = params.evaluate.top_k, params.evaluate.calibration_bins
    bad_files = [{"file": "x.jpg", "reason": "empty & cut"}]
    data = {"duplicate_images": 2, "bad_images": 1, "unused_files": 3, "bad_files": bad_files}
    data |= {"two_label_pictures": 1, "near_pairs_across_splits": 0}
    write_json(metrics / "data.json", data)
    write_csv(
        metrics / "history.csv",
        ["epoch", "loss", "accuracy", "validation_loss", "validation_accuracy"],
        [[1, 1.0, 0.5, 1.1, 0.4], [2, 0.5, 0.75, 0.6, 0.7]],
    )
    trained = {"validation_accuracy": 0.75, "validation_loss": 0.5}
    trained |= {"best_epoch": 2, "epochs": 5, "parameters": 12345, "temperature": 1.0}
    write_json(metrics / "train.json", trained)
    Path("models").mkdir()
    Path("models/layers.txt").write_text("layer  kind\nlogits  Dense & co\n")
    scores = score_predictions(
        predictions.labels, predictions.probabilities, top_k=top_k, bins=bins
    )
    write_json(metrics / "test.json", scores)
    tables.write_class_scores(metrics / "per_class.csv", predictions)
    tables.write_reliability(metrics / "reliability.csv", predictions, bins)
    write_csv(metrics / "label_issues.csv", LabelIssue._fields, [])
    tables.write_roc(Path("data/evaluation/roc.csv"), predictions)
    write_predictions(Path("data/evaluation/predictions.csv"), predictions)
