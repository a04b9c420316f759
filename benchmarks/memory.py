"""Measure the memory of preprocess and augment for 10,000 and for 100,000 images.

The images are small JPEG files in a zip archive: 200 different images, repeated.
"""

import io
import tempfile
import zipfile
from pathlib import Path

import numpy as np
from PIL import Image

from imgpipe.core.yaml_file import format_yaml
from measuring import ROOT, Section, at_most, make_project, peak_mib_of, table

COUNTS = (10_000, 100_000)
CLASSES = 10
DIFFERENT = 200


def compare_sizes() -> Section:
    """Measure the peak memory of the two stages by number of images."""
    peaks: dict[str, list[tuple[float, float]]] = {"preprocess": [], "augment": []}
    for count in COUNTS:
        with tempfile.TemporaryDirectory() as scratch:
            project = make_project(
                Path(scratch) / "project",
                changes={
                    "dataset": "synthetic",
                    "preprocess.height_px": 32,
                    "preprocess.width_px": 32,
                    "preprocess.channels": 3,
                    "augment.copies": 1,
                },
            )
            write_archive(project, count)
            for stage in peaks:
                peaks[stage].append(peak_mib_of(ROOT / "src" / f"{stage}.py", cwd=project))
    rows, growth = [], 0.0
    for stage, (small, large) in peaks.items():
        for part, name in enumerate(("largest process", "all processes together")):
            growth = max(growth, large[part] / small[part])
            rows.append(
                [
                    f"`{stage}`, {name}",
                    f"{small[part]:.0f}",
                    f"{large[part]:.0f}",
                    f"{large[part] / small[part]:.2f}",
                ]
            )
    header = ["peak resident memory, MiB", *(f"{count:,} images" for count in COUNTS), "ratio"]
    what = "memory of `preprocess` and `augment`, ten times the images"
    return Section([table(header, rows)], [at_most(what, 1.2, growth)])


def write_archive(project: Path, count: int) -> None:
    """Write the archive to the place where `fetch` writes it, and its entry in the catalog."""
    generator = np.random.default_rng(0)
    contents = []
    for _ in range(DIFFERENT):
        pixels = generator.integers(0, 256, (8, 8, 3), dtype=np.uint8)
        stream = io.BytesIO()
        Image.fromarray(pixels).resize((64, 64)).save(stream, "JPEG")
        contents.append(stream.getvalue())
    (project / "data" / "raw").mkdir()
    with zipfile.ZipFile(project / "data" / "raw" / "synthetic.zip", "w") as archive:
        for number in range(count):
            name = f"synthetic/class_{number % CLASSES}/image_{number:06d}.jpg"
            archive.writestr(name, contents[number % DIFFERENT])
    entry = {
        "title": "Synthetic",
        "files": "data/local/synthetic",
        "format": {"kind": "image_folder", "root": "synthetic"},
    }
    (project / "data" / "catalog.yaml").write_text(format_yaml({"synthetic": entry}))
