"""The model card: what a network was trained on, how good it is, where it fails, as one page.

After Mitchell et al. (2019), Model Cards for Model Reporting, arXiv:1810.03993.
"""

import hashlib
from collections.abc import Iterator, Mapping
from pathlib import Path

from imgpipe.console.messages import format_count, join_some
from imgpipe.core.files import write_text
from imgpipe.core.libraries import find_installed, read_pins
from imgpipe.core.paths import RECORDS
from imgpipe.evaluation.metrics import find_metric, metrics_among
from imgpipe.evaluation.significance import compare_calibration, score_intervals
from imgpipe.reporting.confusions import list_confusions
from imgpipe.reporting.html_pages import TEMPLATES, render_page
from imgpipe.reporting.pictures import PICTURES
from imgpipe.reporting.stage_outputs import StageOutputs
from imgpipe.reporting.suspects import list_suspects
from imgpipe.settings.backbones import BACKBONES
from imgpipe.settings.params import Params, format_value

GROUPS = ("config", "arrays", "images", "remote", "charts", "nn", "transfer")
"""The groups of pyproject.toml with the libraries that the stages import."""
_MOST_BAD_FILES = 20
_MOST_LISTED_CLASSES = 20


def write_model_card(path: Path, outputs: StageOutputs, pictures: Mapping[str, bytes]) -> None:
    """Write the card; equal outputs and libraries give equal bytes.

    The pictures are the PNG files that were drawn, by their names in `PICTURES`.
    """
    info, scores = outputs.info, outputs.scores
    splits = info.splits
    metrics = metrics_among(scores)
    intervals = score_intervals(
        outputs.predictions,
        top_k=outputs.params.evaluate.top_k,
        bins=outputs.params.evaluate.calibration_bins,
    )
    page = render_page(
        TEMPLATES / "model_card.html",
        title=f"Model card: {info.dataset}, {outputs.params.network}",
        outputs=outputs,
        info=info,
        summary_rows=list(_summary_rows(outputs)),
        class_names=join_some(info.classes, _MOST_LISTED_CLASSES),
        class_rows=[
            *(
                [name, *(split.per_class[name] for split in splits.values())]
                for name in info.classes
            ),
            ["all", *(split.examples for split in splits.values())],
        ],
        bad_files=[
            (bad["file"], bad["reason"]) for bad in outputs.data["bad_files"][:_MOST_BAD_FILES]
        ],
        score_rows=[
            (
                metric.label,
                f"{scores[metric.name]:.4f}",
                "{:.4f} to {:.4f}".format(*intervals[metric.name]),
            )
            for metric in metrics
        ],
        calibration_rows=list(_calibration_rows(outputs)),
        proportions=[metric.label for metric in metrics if metric.is_proportion],
        suspects=list(list_suspects(outputs)),
        confusions=list(list_confusions(outputs)),
        class_score_rows=[
            [name, *(f"{value:.4f}" for value in values), images]
            for name, *values, images in outputs.per_class.itertuples(index=False)
        ],
        parameter_rows=list(_parameter_rows(outputs.params)),
        library_rows=sorted(find_installed(read_pins(GROUPS)).items()),
        backbone_rows=list(_backbone_rows(outputs.params)),
        described=PICTURES,
        drawn=pictures,
    )
    write_text(path, page)


def _summary_rows(outputs: StageOutputs) -> Iterator[tuple[str, str]]:
    """Yield what a reader wants to know first."""
    if issues := len(outputs.label_issues):
        yield "suspected labels", f"{format_count(issues, 'image')}: metrics/label_issues.csv"
    for key, name, counted in (
        ("two_label_pictures", "pictures with two labels", "picture"),
        ("duplicate_images", "images in more than one split", "image"),
        ("near_pairs_across_splits", "near duplicates in two splits", "pair"),
    ):
        if count := outputs.data[key]:
            yield name, f"{format_count(count, counted)}: metrics/data.html"
    worst = outputs.per_class.sort_values("recall", kind="stable").iloc[0]
    yield "worst class", f"{worst['class']}: recall {worst['recall']:.4f}, {worst['images']} images"
    images = [f"{split.examples:,} {name}" for name, split in outputs.info.splits.items()]
    yield "images", ", ".join(images)
    network = f"{outputs.params.network}, {outputs.trained['parameters']:,} parameters"
    if outputs.params.method == "transfer":
        network += "; all layers but the last are frozen"
    yield "network", network
    # This file contains the hash of each shard.
    digest = hashlib.sha256((RECORDS / "info.json").read_bytes()).hexdigest()
    yield "records", f"info.json has the SHA-256 {digest}"


def _calibration_rows(outputs: StageOutputs) -> Iterator[tuple[str, ...]]:
    """Yield the scores that temperature scaling changes; nothing if the network has no such."""
    if outputs.uncalibrated:
        for difference in compare_calibration(
            outputs.uncalibrated,
            outputs.predictions,
            bins=outputs.params.evaluate.calibration_bins,
        ):
            yield (
                find_metric(difference.score).label,
                f"{difference.first:.4f}",
                f"{difference.second:.4f}",
                f"{difference.low:+.4f} to {difference.high:+.4f}",
            )


def _backbone_rows(params: Params) -> Iterator[tuple[str, str]]:
    """Yield where the weights of a pretrained network come from; of another network nothing."""
    if params.method != "transfer":
        return
    backbone = BACKBONES[params.network]
    package = backbone.package.replace("_", "-")
    yield "pretrained network", params.network
    yield "package", f"{package} {find_installed([package])[package]}"
    yield "file", f"{backbone.file}, {backbone.bytes:,} bytes"
    yield "SHA-256", backbone.sha256
    yield "license", backbone.license
    yield "citation", backbone.citation


def _parameter_rows(params: Params) -> Iterator[tuple[str, str]]:
    """Yield the values that made the result, by their dotted keys in params.yaml."""
    sections = {
        name: getattr(params, name) for name in ("preprocess", "augment", params.method, "evaluate")
    }
    sections[f"networks.{params.network}"] = params.network_settings
    sections[f"arithmetics.{params.arithmetic}"] = getattr(params.arithmetics, params.arithmetic)
    for name in ("dataset", "method", "network", "arithmetic"):
        yield name, format_value(getattr(params, name))
    for name, section in sections.items():
        for key, value in section.model_dump().items():
            yield f"{name}.{key}", format_value(value)
