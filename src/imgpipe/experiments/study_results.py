"""The results of a study: tables, scores and pictures from the outputs of its runs."""

import io
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import pandas as pd

from imgpipe.core.errors import PipelineError
from imgpipe.core.files import write_csv, write_json
from imgpipe.core.paths import HISTORY, PREDICTIONS, TEST_METRICS
from imgpipe.evaluation.metrics import score_predictions
from imgpipe.evaluation.predictions import parse_predictions
from imgpipe.experiments.study import StudyRun
from imgpipe.experiments.study_charts import draw_errors, draw_folds, draw_members
from imgpipe.reporting.charts.style import save_figure

Scores = Mapping[str, float]

Results: TypeAlias = Sequence[tuple[StudyRun, Mapping[Path, bytes]]]
"""Each run with the contents of the outputs that its summary needs."""

# Scores of a run that are not averaged: the number of images and the interval.
_NOT_AVERAGED = {"images", "accuracy_low", "accuracy_high"}


def summarize_scores(runs: Sequence[Scores]) -> dict[str, dict[str, float]]:
    """Return mean and standard deviation (n - 1) of every score over two or more runs."""
    summary = {}
    for name in runs[0]:
        if name not in _NOT_AVERAGED:
            values = np.array([run[name] for run in runs])
            summary[name] = {"mean": float(values.mean()), "sd": float(values.std(ddof=1))}
    return summary


def write_folds(folder: Path, results: Results) -> str:
    """Write mean and standard deviation of every score over the folds of a cross-validation.

    The folder gets metrics.json, folds.csv (a row for each fold) and folds.png.
    """
    runs = _read_scores(results)
    summary = summarize_scores(runs)
    mean, sd = summary["accuracy"]["mean"], summary["accuracy"]["sd"]
    write_json(
        folder / "metrics.json",
        {
            "folds_accuracy": mean,
            "folds_accuracy_sd": sd,
            "scores": [{"score": score, **both} for score, both in summary.items()],
        },
    )
    folds = [int(str(run.values[0]).partition("/")[0]) for run, _ in results]
    table = pd.DataFrame(runs, index=pd.Index(folds, name="fold"))
    write_csv(folder / "folds.csv", ["fold", *table.columns], table.itertuples(name=None))
    save_figure(draw_folds(table, summary), folder / "folds.png", _dpi(results))
    images = sum(run["images"] for run in runs)
    return f"accuracy {mean:.4f}, sd {sd:.4f}, over {len(runs)} folds with {images} test images"


def write_ensemble(folder: Path, results: Results) -> str:
    """Average the probabilities of several networks; score the average and each network.

    The folder gets metrics.json, members.csv (a row for each member and the ensemble) and
    members.png. Source: Breiman (1996), Bagging predictors, doi:10.1007/BF00058655.

    Raises:
        PipelineError: the members were not scored on the same images.
    """
    runs = _read_scores(results)
    names = ["-".join(map(str, [*filter(None, [run.variant]), *run.values])) for run, _ in results]
    predictions = [
        parse_predictions(outputs[PREDICTIONS], f"{run.label}: {PREDICTIONS.as_posix()}")
        for run, outputs in results
    ]
    first = predictions[0]
    for name, other in zip(names, predictions, strict=True):
        if (other.identities, other.classes) != (first.identities, first.classes):
            raise PipelineError(
                f"{folder.as_posix()}: the members were scored on different images or classes:"
                f" {names[0]} and {name}; an ensemble needs the same test split"
            )
    settings = results[0][0].params["evaluate"]
    ensemble = score_predictions(
        first.labels,
        np.mean([each.probabilities for each in predictions], axis=0),
        top_k=settings["top_k"],
        bins=settings["calibration_bins"],
    )
    summary = summarize_scores(runs)
    mean, sd = summary["accuracy"]["mean"], summary["accuracy"]["sd"]
    write_json(
        folder / "metrics.json",
        {
            "ensemble_accuracy": ensemble["accuracy"],
            "members_accuracy": mean,
            "members_accuracy_sd": sd,
        },
    )
    table = pd.DataFrame([*runs, ensemble], index=pd.Index([*names, "ensemble"], name="member"))
    write_csv(folder / "members.csv", ["member", *table.columns], table.itertuples(name=None))
    save_figure(draw_members(table), folder / "members.png", _dpi(results))
    return (
        f"accuracy of the ensemble {ensemble['accuracy']:.4f}; of its {len(runs)} members"
        f" {mean:.4f}, sd {sd:.4f}"
    )


def write_errors(folder: Path, results: Results) -> str:
    """Compare training and validation error of variants, at the epochs of lowest validation loss.

    The folder gets errors.csv (for each variant mean and standard deviation over its runs) and
    errors.png (the errors by epoch).
    """
    variants: dict[str, list[pd.DataFrame]] = {}
    for run, outputs in results:
        variants.setdefault(str(run.variant), []).append(_parse_history(outputs[HISTORY]))
    rows: list[list[Any]] = []
    for name, runs in variants.items():
        best = pd.DataFrame([run.iloc[int(run["validation_loss"].argmin())] for run in runs])
        mean, sd = best.mean(), best.std(ddof=1)
        errors = [of[key] for key in ("training_error", "validation_error") for of in (mean, sd)]
        rows.append([name, len(runs), *errors])
    header = ["variant", "runs", "training_error", "training_error_sd"]
    header += ["validation_error", "validation_error_sd"]
    write_csv(folder / "errors.csv", header, rows)
    table = pd.DataFrame(rows, columns=header).set_index("variant")
    save_figure(draw_errors(variants, table), folder / "errors.png", _dpi(results))
    listing = "; ".join(
        f"{name} {mean:.4f}, sd {sd:.4f}"
        for name, mean, sd in zip(
            table.index, table["validation_error"], table["validation_error_sd"], strict=True
        )
    )
    return f"validation error over {table['runs'].iloc[0]} seeds: {listing}"


WRITERS: Mapping[str, Callable[[Path, Results], str]] = {
    "folds": write_folds,
    "ensemble": write_ensemble,
    "errors": write_errors,
}
"""By kind of summary: writes tables, scores and pictures, and returns the result in one line."""


def _parse_history(content: bytes) -> pd.DataFrame:
    """Parse metrics/history.csv into epoch, training_error, validation_error, validation_loss."""
    history = pd.read_csv(io.BytesIO(content))
    return pd.DataFrame(
        {
            "epoch": history["epoch"],
            "training_error": 1 - history["accuracy"],
            "validation_error": 1 - history["validation_accuracy"],
            "validation_loss": history["validation_loss"],
        }
    )


def _read_scores(results: Results) -> list[Scores]:
    return [json.loads(outputs[TEST_METRICS]) for _, outputs in results]


def _dpi(results: Results) -> int:
    """Return the resolution of the pictures."""
    dpi: int = results[0][0].params["plot"]["dpi"]
    return dpi
