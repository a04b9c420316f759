"""Stage 1, fetch: bring the files of the chosen dataset to data/raw.

Reads   `dataset` and `allow_unpinned` in params.yaml, the entry of that name in
        data/catalog.yaml; for a person's own images, their folder in data/local
Writes  data/raw/<file>, each of the size and SHA-256 that the entry names; of a person's own
        images one archive, because DVC is slow with many files
Costs   a download; no memory to speak of

DATASET_MIRROR, a folder or URL laid out as <dataset>/<file>, is tried before the entry's addresses.
"""

import os
from pathlib import Path
from typing import Any

from imgpipe.core.errors import PipelineError
from imgpipe.core.files import replace_directory
from imgpipe.core.stage import run_stage
from imgpipe.datasets.catalog import DownloadEntry, LocalImagesEntry, load_entry
from imgpipe.datasets.download import fetch_file, find_addresses
from imgpipe.datasets.packing import pack_folder
from imgpipe.settings.params import Params, load_params

RAW = Path("data/raw")
LOCAL = Path("data/local")


def fetch_files(params: Params, entry: DownloadEntry, raw: Path) -> None:
    """Bring the files of a published dataset."""
    addresses = find_addresses(params.dataset, entry.urls)
    unpinned = []
    with replace_directory(raw) as folder:
        for file in entry.files:
            sha256 = fetch_file(file, addresses, folder, allow_unpinned=params.allow_unpinned)
            if sha256 != file.sha256:
                unpinned.append(f"; {file.name} is not pinned, its SHA-256 is {sha256}")
    size_mb = sum(file.bytes for file in entry.files) / 1e6
    print(
        f"fetch: {params.dataset}, {len(entry.files)} files, {size_mb:.1f} MB,"
        f" checked{''.join(unpinned)}"
    )


def pack_images(params: Params, entry: LocalImagesEntry, raw: Path) -> None:
    """Make one archive of a person's own folder of images."""
    images = LOCAL / Path(entry.files).name
    in_copy = Path(os.environ.get("DVC_ROOT", ".")).resolve() != Path.cwd()
    if in_copy and not images.exists():
        raise PipelineError(
            f"{images.as_posix()}: not in this copy of the project, which holds only what git or"
            f" DVC track; run `dvc add {images.as_posix()}` first"
        )
    with replace_directory(raw) as folder:
        count = pack_folder(images, folder / entry.archive_name)
    print(f"fetch: {params.dataset}, {count} files of {images.as_posix()}")


def main(params: Params) -> None:
    entry = load_entry(params.dataset)
    if isinstance(entry, LocalImagesEntry):
        pack_images(params, entry, RAW)
    else:
        fetch_files(params, entry, RAW)


def uses(params: Params) -> dict[str, Any]:
    entry = load_entry(params.dataset)
    return {
        "dataset": params.dataset,
        "allow_unpinned": params.allow_unpinned,
        f"{params.dataset}.files": entry.files,
    }


if __name__ == "__main__":
    run_stage(
        main,
        load_params=load_params,
        uses=uses,
        libraries=("config",),
        description=__doc__,
    )
