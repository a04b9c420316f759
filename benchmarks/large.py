"""Run `preprocess` on many small images; print its memory and the time of each million.

    python benchmarks/large.py FOLDER [--images N]

Writes into FOLDER, which must be on a disk with room for 3 KB an image, and deletes it at the end:
PNG files of 18 x 18 pixels of noise, 1 KB each, in zip archives of 100,000, which `preprocess`
reads in place. The memory is the anonymous memory of all processes together, read every 0.2 s from
/proc (Linux). It does not contain the index of the images, which is in files: the system can give
its memory back at any time. The memory of an image is the growth from a run with fewer images: a
hundredth, but at least one archive.
"""

import argparse
import hashlib
import os
import shutil
import struct
import subprocess
import sys
import time
import zipfile
import zlib
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path

import numpy as np

from imgpipe.core.files import read_json
from imgpipe.core.yaml_file import format_yaml
from imgpipe.datasets.catalog import RawFile, write_manifest
from measuring import ROOT, make_project, session_of

SIDE_PX = 18
CLASSES = 10
IMAGES_IN_ARCHIVE = 100_000
SHARD_SIZE_MIB = 64
PAUSE_S = 0.2
GOAL_BYTES = 32


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path, metavar="FOLDER", help="it must not exist yet")
    parser.add_argument("--images", type=int, default=10_000_000, metavar="N")
    options = parser.parse_args()
    if options.folder.exists():
        parser.error("expected the path of a folder that does not exist yet")
    base_images = max(options.images // 100, IMAGES_IN_ARCHIVE)
    if base_images >= options.images:
        parser.error(f"--images: expected more than {base_images}")
    options.folder.mkdir(parents=True)
    try:
        base_bytes, _ = run(options.folder, base_images)
        peak_bytes, seconds = run(options.folder, options.images)
    finally:
        shutil.rmtree(options.folder)
    of_an_image = (peak_bytes - base_bytes) / (options.images - base_images)
    print(
        f"{options.images:,} images: {seconds:,.0f} s,"
        f" {1e6 * seconds / options.images:.0f} us an image;"
        f" peak of anonymous memory {peak_bytes / 2**20:.0f} MiB, of {base_images:,} images"
        f" {base_bytes / 2**20:.0f} MiB: {of_an_image:.1f} bytes an image, goal: {GOAL_BYTES}"
    )
    if of_an_image > GOAL_BYTES:
        sys.exit("missed")


def run(folder: Path, images: int) -> tuple[int, float]:
    """Write a dataset and preprocess it; return the peak of the memory in bytes, and the time."""
    project, archives = folder / "project", folder / "archives"
    archives.mkdir()
    starts = range(0, images, IMAGES_IN_ARCHIVE)
    with ProcessPoolExecutor() as pool:
        files = list(pool.map(partial(write_archive, archives, images), starts))
    make_project(
        project,
        changes={
            "dataset": "large",
            "preprocess.height_px": SIDE_PX,
            "preprocess.width_px": SIDE_PX,
            "preprocess.channels": 3,
            "preprocess.shard_size_mib": SHARD_SIZE_MIB,
        },
    )
    (project / ".dvc").mkdir()  # so that finished shards are kept, as in a repository
    manifest = "data/local/large/manifest.csv"
    write_manifest(project / manifest, files)
    entry = {
        "title": "Noise", "license": "", "citation": "", "urls": [archives.resolve().as_posix()],
        "files": {"in_place": manifest}, "format": {"kind": "image_folder"},
    }  # fmt: skip
    (project / "data" / "catalog.yaml").write_text(format_yaml({"large": entry}))
    subprocess.run([sys.executable, ROOT / "src" / "fetch.py"], cwd=project, check=True)
    peak_bytes, seconds = measure(project)
    info = read_json(project / "data" / "records" / "info.json")
    written = sum(split["examples"] for split in info["splits"].values())
    if written != images:
        sys.exit(f"expected {images} records; found {written}")
    shutil.rmtree(project)
    shutil.rmtree(archives)
    return peak_bytes, seconds


def measure(project: Path) -> tuple[int, float]:
    """Run `preprocess`; return the peak of its memory in bytes, and the seconds."""
    start_s = time.monotonic()
    process = subprocess.Popen(
        [sys.executable, ROOT / "src" / "preprocess.py"], cwd=project, start_new_session=True
    )
    peak_bytes, shown = 0, 0
    per_shard = (SHARD_SIZE_MIB << 20) / (3 * SIDE_PX**2 + 128)
    while process.poll() is None:
        peak_bytes = max(peak_bytes, sum(map(anonymous_bytes, session_of(process.pid))))
        shards = sum(1 for _ in project.glob(".dvc/tmp/imgpipe/shards/*/*.tfrecord.npz"))
        if (millions := int(shards * per_shard / 1e6)) > shown:
            shown = millions
            passed_s = time.monotonic() - start_s
            print(
                f"about {millions} million images: {passed_s:,.0f} s, {peak_bytes / 2**20:.0f} MiB",
                flush=True,
            )
        time.sleep(PAUSE_S)
    if process.returncode:
        sys.exit("error: `preprocess` failed")
    return peak_bytes, time.monotonic() - start_s


def anonymous_bytes(pid: int) -> int:
    """Return the anonymous memory of a process; a share of the memory that processes share."""
    try:
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    except OSError:  # it has ended
        return 0
    return sum(int(line.split()[1]) << 10 for line in lines if line.startswith("Pss_Anon:"))


def write_archive(folder: Path, images: int, start: int) -> RawFile:
    """Write the archive of the images from `start` on; return its name, size and hash."""
    path = folder / f"noise-{start // IMAGES_IN_ARCHIVE:05d}.zip"
    generator = np.random.default_rng(start)
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as archive:
        for number in range(start, min(start + IMAGES_IN_ARCHIVE, images)):
            name = f"class_{number % CLASSES}/image_{number:08d}.png"
            archive.writestr(zipfile.ZipInfo(name), make_png(generator))
    with path.open("rb") as stream:
        digest = hashlib.file_digest(stream, "sha256").hexdigest()
    return RawFile(name=path.name, bytes=os.path.getsize(path), sha256=digest)


def make_png(generator: np.random.Generator) -> bytes:
    """Return a PNG file of noise, without compression.

    Format: https://www.w3.org/TR/png-3
    """
    rows = generator.integers(0, 256, (SIDE_PX, 1 + 3 * SIDE_PX), dtype=np.uint8)
    rows[:, 0] = 0  # no filter
    header = struct.pack(">IIBBBBB", SIDE_PX, SIDE_PX, 8, 2, 0, 0, 0)
    content = b"\x89PNG\r\n\x1a\n"
    for kind, chunk in (
        (b"IHDR", header),
        (b"IDAT", zlib.compress(rows.tobytes(), 0)),
        (b"IEND", b""),
    ):
        content += struct.pack(">I", len(chunk)) + kind + chunk
        content += struct.pack(">I", zlib.crc32(kind + chunk))
    return content


if __name__ == "__main__":
    main()
