"""Write docs/choices.md from the registries: what can be chosen, and how to add to it.

make docs
"""

from collections.abc import Iterator, Sequence

from support import ROOT

from imgpipe.datasets.formats import FORMATS
from imgpipe.evaluation.metrics import METRICS
from imgpipe.reporting.pictures import PICTURES
from imgpipe.settings.backbones import BACKBONES, Backbone
from imgpipe.settings.networks import Networks

PAGE = ROOT / "docs" / "choices.md"

HEADER = """\
# What can be chosen, and how to add to it

Written by `make docs` from the registries of the code; a test checks that this page is up to date.
Edit values in `recipes/defaults.yaml`; then `make recipe NAME=defaults` writes them into
`params.yaml`. After every addition, run `make docs` and `dvc repro`; if `params.yaml` has a new
key, run `make reruns`, too (a minute). Commit the files that they write (`docs`,
`recipes/effective.json`, `dvc.lock`, `metrics`). An addition that the default values do not use
leaves the weights, scores and pictures as they are, to the byte.

Tests run with every entry of a registry, so a new entry is tested without a new test; add a test
for what only the new entry does. `tests/test_parameters_are_read.py` fails if no stage reads a
value; if a value is only read while another value switches it on, switch it on in `CHANGES` there.
"""

NETWORK_STEPS = """\
To add a network that is trained from scratch, edit three files:

1. `src/imgpipe/settings/networks.py`: a class with its settings, and a field of `Networks`.
2. `src/imgpipe/nn/networks/NAME.py`: `build(x, settings)`, from normalized images to features.
   Every layer needs a name. After a convolution, write the activation as a `ReLU` layer of its own:
   `feature_maps.png` and `activation_maps.png` need such layers.
3. `recipes/defaults.yaml`: its settings, with a comment for each, and its name in the comment of
   `network`.

To add a pretrained network, edit three files:

1. `src/imgpipe/settings/backbones.py`: an entry of `BACKBONES`. The package with the weights is a
   pin of the group `transfer` in `pyproject.toml`.
2. `src/imgpipe/settings/networks.py`: a field of `Networks`.
3. `recipes/defaults.yaml`: a line in `networks`, and its name in the comment of `network`.

If its structure is new, write `src/imgpipe/nn/networks/NAME.py`, too: `build(x, backbone)` and
`name_weights(backbone)`. NAME is the value of `builder`. The stored features depend on this module
and on its imports.

Then `make recipe NAME=defaults`. Add one network of a new builder to `NETWORKS` in
`tests/support.py`.
"""

PARAMETER_STEPS = """\
To add one, edit three files: `src/imgpipe/settings/training.py` or `transfer.py`,
`recipes/defaults.yaml` (value and comment), and the module of `src/imgpipe/nn/training` or
`nn/transfer` that uses the value. Then `make recipe NAME=defaults`. Add a test of the effect.
"""

FORMAT_STEPS = """\
To add a format, edit four files:

1. `src/imgpipe/datasets/formats.py`: a class with the schema of `format`, and a line in `FORMATS`.
2. `src/imgpipe/preprocessing/raw_datasets/NAME.py`: a class that answers as `RawDataset` says.
3. `src/imgpipe/preprocessing/raw_datasets/__init__.py`: a line in `READERS`.
4. `tests/preprocessing/raw_datasets/test_readers.py`: in `EXAMPLES`, a function that writes a
   small dataset; the tests of all readers run with it.
"""

DATASET_STEPS = """\
To add a dataset in one of these formats, add an entry to `data/catalog.yaml`. Your own images must
be in `data/local/NAME`. A download needs a placeholder, an empty file with that name, in git:
`touch data/local/NAME`, then `git add -f data/local/NAME`, because git ignores `data/local`.
"""

TRANSFORMATION_STEPS = """\
To add one, edit four files: a module in `src/imgpipe/augmentation`, its call in `copies.py` there,
its values in `src/imgpipe/settings/augment.py` and in `recipes/defaults.yaml`. Then
`make recipe NAME=defaults`. Draw its random numbers from a generator of its own, so that the bytes
of the other transformations stay the same.
"""

METRIC_STEPS = """\
To add one, edit one file: `src/imgpipe/evaluation/metrics.py`, a function and a line in `METRICS`.
`dvc repro` then writes the new key into `metrics/test.json`.
"""

PICTURE_STEPS = """\
To add one, edit two files: a function that draws the figure in `src/imgpipe/reporting/charts`, and
an entry in `PICTURES` (`src/imgpipe/reporting/pictures.py`). `dvc repro` then draws it.
"""


def first_line(docstring: str | None) -> str:
    """Return the first line of a docstring without its closing period."""
    return (docstring or "").strip().splitlines()[0].rstrip(".")


def describe_backbone(backbone: Backbone) -> str:
    """Return what a pretrained network is made for."""
    size = f"{backbone.image_px} x {backbone.image_px} pixels"
    return f"trained on ImageNet, for images of {size}; license {backbone.license}"


def render_table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> Iterator[str]:
    """Yield the lines of a table."""
    yield f"| {' | '.join(header)} |"
    yield f"|{'---|' * len(header)}"
    for row in rows:
        yield f"| {' | '.join(row)} |"


def render_page() -> str:
    """Return the page."""
    sections: list[tuple[str, tuple[str, ...], list[tuple[str, ...]], str]] = [
        (
            "Networks (`method` and `network`)",
            ("method", "network", "description"),
            [
                *(
                    ("`training`", f"`{name}`", first_line(field.annotation.__doc__))
                    for name, field in Networks.model_fields.items()
                    if field.annotation and name not in BACKBONES
                ),
                *(
                    ("`transfer`", f"`{name}`", describe_backbone(backbone))
                    for name, backbone in BACKBONES.items()
                ),
            ],
            NETWORK_STEPS,
        ),
        (
            "Raw formats (`format.kind` in data/catalog.yaml)",
            ("kind", "files"),
            [(f"`{kind}`", cls.description) for kind, cls in FORMATS.items()],
            f"{DATASET_STEPS}\n{FORMAT_STEPS}",
        ),
        (
            "Metrics (metrics/test.json)",
            ("name", "metric", "better"),
            [
                (
                    f"`{metric.name}`",
                    metric.label,
                    "higher" if metric.higher_is_better else "lower",
                )
                for metric in METRICS
            ],
            METRIC_STEPS,
        ),
        (
            "Pictures (metrics/plots)",
            ("file", "what it shows"),
            [
                (f"`{name}.png`", picture.description.rstrip("."))
                for name, picture in PICTURES.items()
            ],
            PICTURE_STEPS,
        ),
    ]
    lines = [HEADER]
    for title, header, rows, steps in sections:
        lines += [f"## {title}", "", *render_table(header, rows), "", steps]
    lines += ["## Parameters of a method (`training`, `transfer`)", "", PARAMETER_STEPS]
    lines += ["## Image transformations (`augment`)", "", TRANSFORMATION_STEPS]
    return "\n".join(lines).rstrip() + "\n"


def main() -> None:
    """Write the page."""
    PAGE.write_text(render_page(), encoding="utf-8", newline="\n")


if __name__ == "__main__":
    main()
