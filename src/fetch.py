"""Stage 1, fetch: bring the files of the chosen dataset to data/raw.

Reads   `dataset` and `allow_unpinned` in params.yaml, the entry of that name in
        data/catalog.yaml; for your own images, the folder data/local/<dataset>
Writes  data/raw/<file>, each of the size and SHA-256 that the entry names; of your own images
        one archive, because DVC is slow with many files
Costs   a download; about 2 KiB of memory for each file of your own folder

DATASET_MIRROR, a folder or URL laid out as <dataset>/<file>, is tried before the entry's addresses.
"""

from pathlib import Path
from typing import Any

from imgpipe.core.stage import run_stage
from imgpipe.datasets.catalog import LocalEntry, load_entry
from imgpipe.datasets.download import download_dataset
from imgpipe.datasets.packing import pack_local_dataset
from imgpipe.settings.params import Params, load_params

RAW = Path("data/raw")


def main(params: Params) -> None:
    entry = load_entry(params.dataset)
    if isinstance(entry, LocalEntry):
        files = pack_local_dataset(entry, RAW)
        print(f"fetch: {params.dataset}, {files} files of {entry.folder.as_posix()}")
        return
    unpinned = download_dataset(params.dataset, entry, RAW, allow_unpinned=params.allow_unpinned)
    size_mb = sum(file.bytes for file in entry.files) / 1e6
    notes = [
        f"; {name} is not pinned, its SHA-256 is {sha256}" for name, sha256 in unpinned.items()
    ]
    print(
        f"fetch: {params.dataset}, {len(entry.files)} files, {size_mb:.1f} MB,"
        f" checked{''.join(notes)}"
    )


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
