"""The model card: what a network was trained on, how good it is, where it fails, as one page.

After Mitchell et al. (2019), Model Cards for Model Reporting, arXiv:1810.03993.
"""

import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from imgpipe.datasets.catalog import Entry
from imgpipe.records.info import RecordsInfo
from imgpipe.reporting import pages
from imgpipe.reporting.text_table import format_value
from imgpipe.settings.params import Params

_PINS = Path("pyproject.toml")
GROUPS = ("config", "arrays", "images", "charts", "nn")
"""Of pyproject.toml, those of the libraries that make a result."""
_SHOWN_BAD_FILES = 20
_SECTIONS_OF_PARAMS = ("preprocess", "augment", "train", "evaluate")
_SCORES = {
    "accuracy": "accuracy",
    "loss": "loss (cross-entropy, nats)",
    "macro_precision": "precision, mean over the classes",
    "macro_recall": "recall, mean over the classes",
    "macro_f1": "F1, mean over the classes",
    "roc_auc": "area under the ROC curve, mean over the classes",
    "calibration_error": "expected calibration error",
}


@dataclass(frozen=True)
class Findings:
    """What the card tells of."""

    params: Params
    entry: Entry
    info: RecordsInfo
    layers: str
    """The table of layers."""
    data: Mapping[str, Any]
    """metrics/data.json"""
    trained: Mapping[str, Any]
    """metrics/train.json"""
    scores: Mapping[str, Any]
    """metrics/test.json"""
    intervals: Mapping[str, tuple[float, float]]
    """95 % intervals of the scores, by their names; that of accuracy is Wilson's."""
    per_class: pd.DataFrame
    """metrics/per_class.csv"""
    pictures: Mapping[str, bytes]
    """PNG files by their names without ending."""


def write_model_card(path: Path, findings: Findings) -> None:
    """Write the card; equal findings and pins give equal bytes."""
    title = f"Model card: {findings.info.dataset}, {findings.params.train.architecture}"
    parts = (_summary, _data, _training, _results, _making)
    pages.write_page(path, title, (block for part in parts for block in part(findings)))


def _summary(findings: Findings) -> Iterator[str]:
    scores, trained = findings.scores, findings.trained
    yield pages.paragraph(
        f"Test accuracy {scores['accuracy']:.4f} (95 % interval {scores['accuracy_low']:.4f} to"
        f" {scores['accuracy_high']:.4f}, {scores['images']} images)",
        verdict=True,
    )
    yield pages.paragraph(
        f"A network of {trained['parameters']:,} parameters that sorts images into"
        f" {len(findings.info.classes)} classes: {', '.join(findings.info.classes)}."
    )
    yield pages.paragraph(
        "Whatever an image shows, the answer is one of these classes. The scores hold for images"
        " that come about as the test images did; of others nothing is known."
    )


def _data(findings: Findings) -> Iterator[str]:
    entry, info, data = findings.entry, findings.info, findings.data
    yield pages.heading("Data")
    rows = [("name", info.dataset), ("title", entry.title)]
    rows += [("licence", entry.licence or "not said"), ("citation", entry.citation or "not said")]
    yield pages.table(("", ""), rows)
    splits = info.splits
    yield pages.table(
        ("class", *splits),
        [
            *(
                [name, *(split.per_class[name] for split in splits.values())]
                for name in info.classes
            ),
            ["all", *(split.examples for split in splits.values())],
        ],
    )
    image_spec, normalization = info.image_spec, info.normalization
    yield pages.paragraph(
        f"Images are brought to {image_spec.width_px} x {image_spec.height_px} pixels,"
        f" {'grey' if image_spec.channels == 1 else 'red-green-blue'} (fit: {image_spec.fit},"
        f" {image_spec.interpolation}); normalisation: {normalization.method}, fitted on the"
        " training split and part of the model file."
    )
    yield pages.paragraph(
        f"{data['duplicate_images']} images stand in two splits, pixel for pixel;"
        f" {data['bad_images']} files"
        " could not be read and were left out."
    )
    if bad_files := data["bad_files"]:
        yield pages.table(
            ("file", "reason"),
            [(bad["file"], bad["reason"]) for bad in bad_files[:_SHOWN_BAD_FILES]],
        )
    yield _picture(findings, "samples", "Training images of each class.")


def _training(findings: Findings) -> Iterator[str]:
    trained = findings.trained
    yield pages.heading("Training")
    yield pages.paragraph(
        f"{trained['epochs']} epochs; the weights are those of epoch {trained['best_epoch']}, of"
        f" lowest validation loss ({trained['validation_loss']:.4f}; validation accuracy"
        f" {trained['validation_accuracy']:.4f}). Test images took no part in any choice."
    )
    yield _picture(findings, "learning_curves", "Loss, accuracy and error by epoch.")
    if findings.params.augment.copies:
        yield _picture(findings, "augmentation", "Training images and their augmented copies.")
    yield pages.preformatted(findings.layers)


def _results(findings: Findings) -> Iterator[str]:
    scores = findings.scores
    yield pages.heading("Results on the test split")
    top_k = f"top_{findings.params.evaluate.top_k}_accuracy"
    named = dict(_SCORES)
    if top_k in scores:  # with few classes there is none
        likeliest = f"the {findings.params.evaluate.top_k} likeliest"
        named[top_k] = f"share of images with the true class among {likeliest}"
    yield pages.table(
        ("score", "value", "95 % interval"),
        [
            (text, f"{scores[name]:.4f}", "{:.4f} to {:.4f}".format(*findings.intervals[name]))
            for name, text in named.items()
        ],
    )
    yield pages.paragraph(
        "The interval of accuracy is Wilson's, the others are of a bootstrap of the test images."
    )
    yield _picture(findings, "confusion", "Confusion matrix: rows are true classes.")
    yield pages.table(
        ("class", "precision", "recall", "F1", "ROC area", "images"),
        [
            [name, *(f"{value:.4f}" for value in rates), images]
            for name, *rates, images in findings.per_class.itertuples(index=False)
        ],
    )
    yield _picture(findings, "roc", "Receiver operating characteristic of each class.")
    yield _picture(findings, "reliability", "Accuracy against confidence.")
    yield _picture(findings, "mistakes", "The mistakes that the network was surest of.")
    yield _picture(findings, "activation_maps", "Where the evidence for the answer lies.")


def _making(findings: Findings) -> Iterator[str]:
    yield pages.heading("What made it")
    yield pages.paragraph(
        "`make run` at the commit of this card makes the same model again, to the byte on the same"
        " type of processor. requirements.txt there locks the libraries below and all others."
    )
    yield pages.table(("parameter", "value"), _parameter_rows(findings.params))
    groups = tomllib.loads(_PINS.read_text(encoding="utf-8"))["project"]["optional-dependencies"]
    pins = (pin.split("==") for group in GROUPS for pin in groups[group])
    yield pages.table(("library", "version"), sorted(pins))


def _parameter_rows(params: Params) -> Iterator[tuple[str, str]]:
    """Yield the values that have made the result, as params.yaml names them."""
    sections = {name: getattr(params, name) for name in _SECTIONS_OF_PARAMS}
    sections[f"architectures.{params.train.architecture}"] = params.chosen_architecture
    yield "dataset", params.dataset
    yield "threads", format_value(params.threads)
    for name, section in sections.items():
        for key, value in section.model_dump().items():
            yield f"{name}.{key}", format_value(value)


def _picture(findings: Findings, name: str, description: str) -> str:
    return pages.picture(findings.pictures[name], description)
