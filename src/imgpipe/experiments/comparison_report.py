"""Show the comparison of two runs: as text, as JSON, and as a page with pictures."""

import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from imgpipe.console.messages import join_some
from imgpipe.console.tables import format_columns
from imgpipe.core.errors import PipelineError
from imgpipe.core.files import write_text
from imgpipe.experiments.comparison import RunComparison
from imgpipe.settings.params import format_value

_SHOWN_IMAGES = 24
_SHOWN_NAMES = 5
_DPI = 100
_TEMPLATE = Path(__file__).parent / "templates" / "comparison.html"


def render_text(compared: RunComparison) -> str:
    """Return the comparison as lines of text; the last line is the verdict."""
    lines = [f"note: {note}" for note in compared.notes]
    lines += format_columns([_metrics_header(compared), *_metrics_rows(compared)])
    lines += ["", *_explain(compared), ""]
    if rows := _difference_rows(compared):
        header = ["what differs", compared.first.name, compared.second.name]
        lines += [*format_columns([header, *rows]), ""]
    lines += _describe_data_and_code(compared)
    identities = compared.predictions[0].identities
    found = compared.comparison
    for run, indices in ((compared.second, found.won), (compared.first, found.lost)):
        if len(indices):
            names = [identities[index] for index in indices]
            lines.append(f"Right only in {run.name}: {join_some(names, _SHOWN_NAMES)}.")
    return "\n".join([*lines, "", _state_verdict(compared)])


def render_json(compared: RunComparison) -> str:
    """Return the comparison as JSON."""
    found, identities = compared.comparison, compared.predictions[0].identities
    value: dict[str, Any] = {
        name: {
            "name": run.name,
            "commit": run.revision.commit,
            "test_images": len(run.predictions.identities),
        }
        for name, run in (("first", compared.first), ("second", compared.second))
    }
    value |= {
        "images": len(identities),
        "verdict": found.verdict,
        "mcnemar_p_value": found.p_value,
        "scores": {
            each.score: asdict(each) | {"change": each.change, "verdict": each.verdict}
            for each in found.differences
        },
        "made_by": asdict(compared.made_by),
        "won": [identities[index] for index in found.won],
        "lost": [identities[index] for index in found.lost],
        "notes": compared.notes,
    }
    return json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False)


@dataclass(frozen=True)
class Gallery:
    """Images that only one of the runs gets right, as a picture."""

    png: bytes
    description: str


def write_html(compared: RunComparison, path: Path) -> None:
    """Write the comparison as a page, with pictures of the images that one run gets right."""
    from imgpipe.reporting.html_pages import render_page  # Jinja2, which text does not need

    page = render_page(
        _TEMPLATE,
        title=f"{compared.second.name} against {compared.first.name}",
        verdict=_state_verdict(compared),
        notes=compared.notes,
        metrics_header=_metrics_header(compared),
        metrics_rows=_metrics_rows(compared),
        explanations=_explain(compared),
        differences_header=["", compared.first.name, compared.second.name],
        differences_rows=_difference_rows(compared),
        data_and_code=_describe_data_and_code(compared),
        galleries=list(draw_galleries(compared)),
    )
    write_text(path, page)


def _metrics_header(compared: RunComparison) -> list[str]:
    return ["score", compared.first.name, compared.second.name, "change", "95 % interval", ""]


def _metrics_rows(compared: RunComparison) -> list[list[str]]:
    return [
        [
            each.score,
            f"{each.first:.4f}",
            f"{each.second:.4f}",
            f"{each.change:+.4f}",
            f"{each.low:+.4f} to {each.high:+.4f}",
            "" if each.verdict == "no evidence either way" else each.verdict,
        ]
        for each in compared.comparison.differences
    ]


def _explain(compared: RunComparison) -> list[str]:
    """Return sentences on the table of metrics, and on the test of accuracy."""
    found = compared.comparison
    images = len(compared.predictions[0].labels)
    return [
        "A single score is marked better or worse only if its difference is significant after"
        " correction for the number of scores.",
        f"Of {images:,} test images, {len(found.won):,} are right only in {compared.second.name},"
        f" {len(found.lost):,} only in {compared.first.name} (McNemar's exact test:"
        f" p = {found.p_value:.3g}).",
        "The intervals come from a paired bootstrap. The intervals and the test apply to these two"
        " networks on these images; other seeds would give other networks.",
    ]


def _state_verdict(compared: RunComparison) -> str:
    accuracy = compared.comparison.differences[0]
    return (
        f"{compared.second.name} against {compared.first.name}, by accuracy:"
        f" {compared.comparison.verdict}. Accuracy changes by {accuracy.change:+.4f}"
        f" ({accuracy.low:+.4f} to {accuracy.high:+.4f})."
    )


def _difference_rows(compared: RunComparison) -> list[list[str]]:
    """Return a row for each parameter and library that differs: its name and its two values."""
    made_by = compared.made_by
    return [
        [f"{kind}{key}", *("absent" if value is None else format_value(value) for value in values)]
        for kind, pairs in (("", made_by.parameters), ("library ", made_by.libraries))
        for key, values in pairs.items()
    ]


def _describe_data_and_code(compared: RunComparison) -> list[str]:
    """Return sentences that name the data and the source files that differ."""
    data, sources = compared.made_by.data, compared.made_by.sources
    sentences = []
    if data:
        sentences.append(f"Data that differ: {', '.join(data)}.")
    if sources:
        sentences.append(f"Code that differs: {', '.join(sources)}.")
    if not sentences and not _difference_rows(compared):
        sentences.append("Parameters, data, code and libraries are the same.")
    return sentences


def draw_galleries(compared: RunComparison) -> Iterator[Gallery | str]:
    """Yield a gallery of the images that only the second run gets right, then only the first.

    A sentence is in place of a gallery that has no images.
    """
    # Importing matplotlib takes 2 s, which text does not need.
    from imgpipe.reporting.charts.results import draw_gallery
    from imgpipe.reporting.charts.style import encode_figure

    runs, found = (compared.first, compared.second), compared.comparison
    identities, classes = compared.predictions[0].identities, compared.predictions[0].classes
    shown = {1: found.won[:_SHOWN_IMAGES], 0: found.lost[:_SHOWN_IMAGES]}
    wanted = {identities[index] for indices in shown.values() for index in indices}
    images: dict[str, NDArray[np.uint8]] = {}
    if wanted:
        try:
            for identity, image in compared.second.read_test_images():
                if identity in wanted:
                    images[identity] = image.copy()  # a view would hold its batch in memory
        except PipelineError as error:
            yield f"No pictures: {error}"
            return
    for right, count in ((1, len(found.won)), (0, len(found.lost))):
        title = f"{count} images that only {runs[right].name} gets right"
        if not count:
            yield f"There are no images that only {runs[right].name} gets right."
            continue
        captions = []
        for index in shown[right]:
            wrong = compared.predictions[1 - right].probabilities[index]
            actual = classes[compared.predictions[right].labels[index]]
            captions.append(f"{actual}, not\n{classes[wrong.argmax()]} ({wrong.max():.1%})")
        gallery = [images[identities[index]] for index in shown[right]]
        limit = f" The {_SHOWN_IMAGES} of highest confidence are shown."
        yield Gallery(
            encode_figure(draw_gallery(gallery, captions, title), _DPI),
            f"{title}.{limit if count > _SHOWN_IMAGES else ''} Below the true class is the class"
            f" that {runs[1 - right].name} predicts.",
        )
