"""Print a hash of each kind of result that the stages compute without TensorFlow.

Two of the lines are about functions that the stages avoid, to show whether the variables of a run
choose other instructions of the processor.
"""

import hashlib
import json
import math
import sys
from collections.abc import Callable
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from PIL import Image

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "src"))

from imgpipe.augmentation.affine import apply_randomly, draw_transforms
from imgpipe.core.elementary import cos, exp, log, sin
from imgpipe.evaluation import tables
from imgpipe.evaluation.metrics import score_predictions, wilson_interval
from imgpipe.evaluation.predictions import Predictions
from imgpipe.evaluation.resamples import ScoredExamples
from imgpipe.evaluation.significance import compare_predictions, score_intervals
from imgpipe.preprocessing.colors import profile_of_gamma, to_srgb
from imgpipe.preprocessing.decoding import decode_and_resize, open_image
from imgpipe.records.normalization import count_pixels, fit_normalization
from imgpipe.reporting.charts import results, views
from imgpipe.reporting.charts.style import encode_figure
from imgpipe.settings.augment import Augment
from imgpipe.settings.image_spec import ImageSpec

COUNT, CLASSES = 300, 5
RANDOM = np.random.default_rng(0)
NUMBERS = RANDOM.uniform(-20, 20, 20_000)
IMAGES = RANDOM.integers(0, 256, (40, 25, 31, 3), dtype=np.uint8)
LABELS = RANDOM.integers(0, CLASSES, COUNT)
NAMES = [f"class {label}" for label in range(CLASSES)]
# Shares of whole numbers: equal probabilities occur.
FIRST, SECOND = (
    Predictions(
        NAMES, [str(number) for number in range(COUNT)], LABELS,
        (raw / raw.sum(axis=1, keepdims=True)).astype(np.float32),
    )
    for raw in (RANDOM.integers(1, 30, (COUNT, CLASSES)) + 20 * np.eye(CLASSES)[LABELS]
                for _ in range(2))
)  # fmt: skip
PAIRS = RANDOM.random((20_000, 2), dtype=np.float32)
CHOICES = {"top_k": 3, "bins": 10}


def compute_scores() -> Any:
    return [
        score_predictions(LABELS, FIRST.probabilities, **CHOICES),
        tables.score_classes(FIRST),
        list(tables.measure_roc(FIRST)),
        tables.measure_reliability(FIRST, 10),
        # Many, because few results differ between variants of a function.
        [wilson_interval(whole // 3, whole) for whole in range(1, 20_000)],
        ScoredExamples(np.arange(20_000) % 2, PAIRS, top_k=1, bins=1).cross_entropy.tobytes(),
    ]


def compute_intervals() -> Any:
    comparison = compare_predictions(FIRST, SECOND, **CHOICES)
    return [score_intervals(FIRST, **CHOICES), comparison.differences, comparison.p_value]


def augment_images() -> Any:
    settings = Augment(
        copies=1, rotation_range=180, width_shift_range=0.3, height_shift_range=0.2, zoom_range=0.3,
        horizontal_flip=True, vertical_flip=True, brightness_range=[0.5, 1.5],
        fill_mode="nearest", cval=0, seed=1,
    )  # fmt: skip
    modes = ("constant", "nearest", "reflect", "wrap")
    transforms = draw_transforms(settings, 20_000, 25, 31, np.random.default_rng(1))
    return [transforms.matrix.tobytes(), transforms.shift_px.tobytes()] + [
        apply_randomly(
            IMAGES, settings.model_copy(update={"fill_mode": mode}), np.random.default_rng(1)
        ).tobytes()
        for mode in modes
    ]


def decode_images() -> Any:
    """Decode and resize a photograph, and one with a profile of colors."""
    noise = Image.fromarray(IMAGES[0]).resize((310, 250), Image.Resampling.BICUBIC)
    content = BytesIO()
    noise.save(content, "JPEG", quality=90)
    specs = [
        ImageSpec(height_px=64, width_px=96, channels=3, fit="crop", interpolation=interpolation)
        for interpolation in ("nearest", "bilinear", "bicubic", "lanczos")
    ]
    resized = [decode_and_resize(open_image(content.getvalue()), spec).tobytes() for spec in specs]
    primaries = (0.3127, 0.329, 0.7, 0.3, 0.2, 0.7, 0.14, 0.05)
    profile = profile_of_gamma(1 / 1.8, primaries, gray=False)
    assert profile
    return [content.getvalue(), *resized, to_srgb(noise, profile).tobytes()]


def draw_pictures() -> Any:
    columns = ["loss", "accuracy", "validation_loss", "validation_accuracy"]
    history = pd.DataFrame(np.random.default_rng(2).random((12, 4)), columns=columns)
    history.insert(0, "epoch", range(1, 13))
    per_class = pd.DataFrame(tables.score_classes(FIRST)).rename(columns={"name": "class"})
    points = pd.DataFrame(tables.measure_roc(FIRST)).rename(columns={"name": "class"})
    reliability = pd.DataFrame(tables.measure_reliability(FIRST, 10))
    maps = np.random.default_rng(3).random((3, 5, 7), dtype=np.float32)
    figures = [
        results.draw_learning_curves(history, 3, "a note"),
        results.draw_confusion(IMAGES[0, :5, :5, 0].astype(np.int64), NAMES),
        results.draw_roc(points, per_class),
        results.draw_reliability(reliability, 0.0123),
        views.draw_activation_maps(IMAGES[:3], maps, NAMES[:3]),
    ]
    return [encode_figure(figure, 100) for figure in figures]


KINDS: dict[str, Callable[[], Any]] = {
    "C library": lambda: [math.exp(number) for number in NUMBERS.tolist()],
    "NumPy": lambda: [np.exp(NUMBERS).tobytes(), float(np.dot(NUMBERS, np.cos(NUMBERS)))],
    "elementary": lambda: [
        *(function(NUMBERS).tobytes() for function in (exp, cos, sin)),
        log(np.abs(NUMBERS)).tobytes(),
    ],
    "normalization": lambda: fit_normalization("standardize", count_pixels(IMAGES[0])).model_dump(),
    "augmentation": augment_images,
    "decoding": decode_images,
    "scores": compute_scores,
    "intervals": compute_intervals,
    "pictures": draw_pictures,
}


if __name__ == "__main__":
    print(
        json.dumps(
            {
                kind: hashlib.sha256(repr(compute()).encode()).hexdigest()
                for kind, compute in KINDS.items()
            }
        )
    )
