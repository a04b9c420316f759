"""Stage 1, fetch: copy the files of the chosen dataset to data/raw.

Reads   `dataset` and `allow_unpinned` in params.yaml, the dataset's entry in data/catalog.yaml;
        for your own images, the folder data/local/<dataset>
Writes  data/raw/<file>, checked by the size and SHA-256 in the catalog; your own images are
        packed into one archive, because DVC is slow with many files
Costs   a download; for your own folder, at most twice the time to read it from the disk. The memory
        does not grow with the number of files

Set DATASET_MIRROR to a folder or URL laid out as <dataset>/<file>: it is tried first.
"""

from pathlib import Path
from typing import Any

from imgpipe.core.messages import format_bytes, format_count, report
from imgpipe.core.stage import run_stage
from imgpipe.datasets.catalog import LocalEntry, load_entry
from imgpipe.datasets.download import download_dataset
from imgpipe.datasets.packing import pack_local_dataset
from imgpipe.settings.params import Params, load_params

RAW = Path("data/raw")


def main(params: Params) -> None:
    entry = load_entry(params.dataset)
    if isinstance(entry, LocalEntry):
        files = format_count(pack_local_dataset(entry, RAW), "file")
        packed = format_bytes(sum(file.stat().st_size for file in RAW.iterdir()))
        report(f"fetch: {params.dataset}: {files} in {entry.folder.as_posix()}, packed: {packed}")
        return
    unpinned = download_dataset(params.dataset, entry, RAW, allow_unpinned=params.allow_unpinned)
    size = format_bytes(sum(file.bytes for file in entry.files))
    report(f"fetch: {params.dataset}: {format_count(len(entry.files), 'file')}, {size}, checked")
    for name, sha256 in unpinned.items():
        report(f"  {name} is not pinned in the catalog; its SHA-256 is {sha256}")


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
