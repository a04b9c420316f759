"""Compare two runs on the same test images: what differs, which is better, and is it chance.

    python src/compare.py [A [B]] [--json] [--html FILE]

A and B are commits, branches, tags, experiments of `dvc exp run`, or "workspace", the last run
here; HEAD and workspace if they are not said. Predictions come from DVC's cache or remote; nothing
is run or checked out.

Costs   a few seconds; no TensorFlow
"""

import argparse
import json
import tempfile
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from imgpipe.core.errors import PipelineError, run_script
from imgpipe.evaluation.predictions import Predictions, parse_predictions
from imgpipe.evaluation.significance import Comparison, Difference, align, compare_predictions
from imgpipe.experiments.provenance import (
    Provenance,
    ProvenanceDifferences,
    Revision,
    compare_provenance,
    find_edits,
    find_revision,
    open_output,
    read_provenance,
)
from imgpipe.records.info import read_info
from imgpipe.records.shards import read_split
from imgpipe.reporting.text_table import format_columns, format_value
from imgpipe.settings.image_spec import ImageSpec

PREDICTIONS = "data/evaluation/predictions.csv"
RECORDS = "data/records"
SHOWN_IMAGES = 24
SHOWN_NAMES = 5
DPI = 100


@dataclass(frozen=True)
class Run:
    """One side of the comparison."""

    revision: Revision
    record: Provenance
    predictions: Predictions

    @property
    def name(self) -> str:
        """What the person calls it."""
        return self.revision.name


@dataclass(frozen=True)
class Report:
    """All that is told."""

    first: Run
    second: Run
    comparison: Comparison
    made_by: ProvenanceDifferences
    notes: list[str]


def load_run(name: str) -> Run:
    """Bring together what is known of a run."""
    revision = find_revision(name)
    record = read_provenance(revision, to_evaluate=True)
    content = open_output(revision, record, PREDICTIONS)
    return Run(revision, record, parse_predictions(content, f"{name}: {PREDICTIONS}"))


def compare_runs(first: Run, second: Run) -> Report:
    """Compare two runs; refuse where their test images are not the same."""
    predictions = align(first.predictions, second.predictions, (first.name, second.name))
    notes = [
        f"{run.name}: params.yaml has been edited since the run: {', '.join(edits)}"
        for run in (first, second)
        if (edits := find_edits(run.revision, run.record))
    ]
    if first.record.outputs["data/raw"] != second.record.outputs["data/raw"]:
        notes += check_pixels(first, second)
    settings = second.record.parameters
    comparison = compare_predictions(
        *predictions,
        top_k=settings["evaluate.top_k"],
        bins=settings["evaluate.calibration_bins"],
    )
    made_by = compare_provenance(first.record, second.record)
    aligned = Run(second.revision, second.record, predictions[1])
    return Report(first, aligned, comparison, made_by, notes)


def check_pixels(first: Run, second: Run) -> list[str]:
    """Check that the test images of two runs are the same, where their raw data are not.

    Returns:
        a note where that cannot be known.

    Raises:
        PipelineError: they are not.
    """
    framings = [
        {key: run.record.parameters[f"preprocess.{key}"] for key in ImageSpec.model_fields}
        for run in (first, second)
    ]
    if framings[0] != framings[1]:
        return [
            "data/raw differs, and so does what preprocess makes of an image: the test images are"
            " taken for the same because their names are"
        ]
    images = [load_test_images(run) for run in (first, second)]
    other = [name for name, image in images[0].items() if (image != images[1][name]).any()]
    if other:
        raise PipelineError(
            f"{first.name} and {second.name} cannot be compared: {len(other)} test images have"
            f" other pixels under the same name, such as {other[0]}"
        )
    return []


def load_test_images(run: Run) -> dict[str, NDArray[np.uint8]]:
    """Return the test images of a run, (H, W, C) each, by identity."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)

        def bring(file: str) -> None:
            content = open_output(run.revision, run.record, f"{RECORDS}/{file}")
            (folder / file).write_bytes(content)

        bring("info.json")
        info = read_info(folder)
        for shard in info.splits["test"].shards:
            bring(shard.file)
        return {
            identity: image
            for batch in read_split(folder, info, "test")
            for identity, image in zip(batch.identities, batch.images, strict=True)
        }


def value_rows(report: Report) -> list[list[str]]:
    """Return a row for each parameter and library that differs: its name, and its two values."""
    made_by = report.made_by
    return [
        [f"{kind}{key}", *("absent" if value is None else format_value(value) for value in values)]
        for kind, pairs in (("", made_by.parameters), ("library ", made_by.libraries))
        for key, values in pairs.items()
    ]


def describe_making(report: Report) -> list[str]:
    """Say in sentences in which data and code the two differ."""
    data, sources = report.made_by.data, report.made_by.sources
    told = []
    if data:
        told.append(f"Data that differ: {', '.join(data)}.")
    if sources:
        told.append(f"Code that differs: {', '.join(sources)}.")
    if not told and not value_rows(report):
        told.append("Parameters, data, code and libraries are the same.")
    return told


def score_row(each: Difference) -> list[str]:
    """Return a row of the table of scores."""
    return [
        each.score,
        f"{each.first:.4f}",
        f"{each.second:.4f}",
        f"{each.change:+.4f}",
        f"{each.low:+.4f} to {each.high:+.4f}",
        "" if each.verdict == "no evidence either way" else each.verdict,
    ]


def score_header(report: Report) -> list[str]:
    """Return the names of the columns of the table of scores."""
    return ["score", report.first.name, report.second.name, "change", "95 % interval", ""]


def describe(report: Report) -> list[str]:
    """Say in sentences how the two compare; the last one is the verdict."""
    first, second, found = report.first.name, report.second.name, report.comparison
    images = len(report.first.predictions.labels)
    accuracy = found.differences[0]
    return [
        f"Of {images} test images, {len(found.won)} only {second} gets right, {len(found.lost)}"
        f" only {first} (McNemar's exact test: p = {found.p_value:.3g}).",
        "The intervals are of a paired bootstrap; they and the test are about these two networks"
        " on these images. Other seeds would have given other networks.",
        f"{second} against {first}, by accuracy: {found.verdict}."
        f" It changes by {accuracy.change:+.4f} ({accuracy.low:+.4f} to {accuracy.high:+.4f}).",
    ]


def render_text(report: Report) -> str:
    """Return the report as lines of text."""
    *sentences, verdict = describe(report)
    lines = [f"note: {note}" for note in report.notes]
    lines += [
        *format_columns([score_header(report), *map(score_row, report.comparison.differences)])
    ]
    lines += ["", *sentences, ""]
    if rows := value_rows(report):
        names = ["what differs", report.first.name, report.second.name]
        lines += [*format_columns([names, *rows]), ""]
    lines += describe_making(report)
    for indices, who in ((report.comparison.won, "Won"), (report.comparison.lost, "Lost")):
        images = [report.first.predictions.identities[index] for index in indices]
        if images:
            more = f" and {len(images) - SHOWN_NAMES} more" if len(images) > SHOWN_NAMES else ""
            lines.append(f"{who}: {', '.join(images[:SHOWN_NAMES])}{more}.")
    return "\n".join([*lines, "", verdict])


def render_json(report: Report) -> str:
    """Return the report as JSON."""
    first, second, found = report.first, report.second, report.comparison
    value: dict[str, Any] = {
        name: {"name": run.name, "commit": run.revision.commit}
        for name, run in (("first", first), ("second", second))
    }
    value |= {
        "images": len(first.predictions.labels),
        "verdict": found.verdict,
        "mcnemar_p_value": found.p_value,
        "scores": {
            each.score: asdict(each) | {"change": each.change, "verdict": each.verdict}
            for each in found.differences
        },
        "made_by": asdict(report.made_by),
        "won": [first.predictions.identities[index] for index in found.won],
        "lost": [first.predictions.identities[index] for index in found.lost],
        "notes": report.notes,
    }
    return json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False)


def write_html(report: Report, path: Path) -> None:
    """Write the report as a page, with pictures of the images that were won and lost."""
    from imgpipe.reporting import pages  # with the charts below, what text alone does not need

    *sentences, verdict = describe(report)
    blocks = [pages.paragraph(verdict, verdict=True)]
    blocks += [pages.paragraph(f"Note: {note}") for note in report.notes]
    blocks += [
        pages.heading("Scores on the test split"),
        pages.table(score_header(report), map(score_row, report.comparison.differences)),
        *map(pages.paragraph, sentences),
        pages.heading("What differs"),
    ]
    if rows := value_rows(report):
        blocks.append(pages.table(["", report.first.name, report.second.name], rows))
    blocks += map(pages.paragraph, describe_making(report))
    blocks += [pages.heading("Images that make the difference"), *draw_galleries(report)]
    title = f"{report.second.name} against {report.first.name}"
    pages.write_page(path, title, blocks)


def draw_galleries(report: Report) -> Iterator[str]:
    """Yield pictures of the images won and lost, as blocks of a page."""
    from imgpipe.reporting import charts, pages

    runs = report.first, report.second
    try:
        images = load_test_images(report.second)
    except PipelineError as error:
        yield pages.paragraph(f"Without pictures: {error}")
        return
    identities, classes = report.first.predictions.identities, report.first.predictions.classes
    for indices, which in ((report.comparison.won, 1), (report.comparison.lost, 0)):
        title = f"{len(indices)} images that only {runs[which].name} gets right"
        shown = indices[:SHOWN_IMAGES]
        if not len(shown):
            yield pages.paragraph(f"No image that only {runs[which].name} gets right.")
            continue
        captions = []
        for index in shown:
            wrong = runs[1 - which].predictions.probabilities[index]
            actual = classes[runs[which].predictions.labels[index]]
            captions.append(f"{actual}, not\n{classes[wrong.argmax()]} ({wrong.max():.1%})")
        figure = charts.draw_gallery([images[identities[i]] for i in shown], captions, title)
        more = f" The {SHOWN_IMAGES} it is surest of." if len(indices) > SHOWN_IMAGES else ""
        yield pages.picture(
            charts.encode_figure(figure, DPI),
            f"{title}.{more} Below the true class stands what {runs[1 - which].name} says.",
        )


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("first", nargs="?", default="HEAD", metavar="A")
    parser.add_argument("second", nargs="?", default="workspace", metavar="B")
    parser.add_argument("--json", action="store_true", help="print JSON instead of text")
    parser.add_argument("--html", type=Path, metavar="FILE", help="write a page, too")
    options = parser.parse_args()
    report = compare_runs(load_run(options.first), load_run(options.second))
    print(render_json(report) if options.json else render_text(report))
    if options.html:
        write_html(report, options.html)


if __name__ == "__main__":
    run_script(main)
