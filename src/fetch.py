"""Stage 1, fetch: bring the files of the chosen dataset to data/raw.

Reads   `dataset` in params.yaml, the entry of that name in data/catalog.yaml
Writes  data/raw/<file>, each of the size and SHA-256 that the entry names
Costs   a download; no memory to speak of

DATASET_MIRROR, a folder or URL laid out as <dataset>/<file>, is tried before the entry's addresses.
"""

from pathlib import Path

from imgpipe.catalog import load_entry
from imgpipe.download import fetch_file, find_addresses
from imgpipe.errors import run_script
from imgpipe.files import replace_directory
from imgpipe.params import load_params

RAW = Path("data/raw")


def main() -> None:
    params = load_params()
    entry = load_entry(params.dataset)
    addresses = find_addresses(params.dataset, entry.urls)
    with replace_directory(RAW) as folder:
        for file in entry.files:
            fetch_file(file, addresses, folder)
    size_mb = sum(file.bytes for file in entry.files) / 1e6
    print(f"fetch: {params.dataset}, {len(entry.files)} files, {size_mb:.1f} MB, checked")


if __name__ == "__main__":
    run_script(main)
