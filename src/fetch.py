"""Stage 1, fetch: copy the files of the chosen dataset to data/raw.

Reads   `dataset` and `allow_unpinned` in params.yaml, the dataset's entry in data/catalog.yaml;
        for your own images, the folder data/local/<dataset>
Writes  data/raw/<file>, checked by the size and SHA-256 in the catalog; your own images are
        packed into one archive, because DVC is slow with many files. Of a dataset that is read in
        place, only data/raw/manifest.csv, the list of its files
Costs   a download; for your own folder, at most twice the time to read it from the disk. The memory
        does not grow with the number of files

Set DATASET_MIRROR to a folder or URL laid out as <dataset>/<file>: it is tried first.
"""

from imgpipe.archives.addresses import find_remote_files
from imgpipe.archives.folders import pack_local_dataset
from imgpipe.console.messages import format_bytes, format_count, report
from imgpipe.core.files import replace_directory
from imgpipe.core.paths import RAW
from imgpipe.datasets.catalog import MANIFEST_NAME, LocalEntry, load_entry, write_manifest
from imgpipe.datasets.download import download_dataset
from imgpipe.running.stage import StageRun, run_stage


def main(run: StageRun) -> None:
    params = run.params
    entry = load_entry(params.dataset)
    if isinstance(entry, LocalEntry):
        files = pack_local_dataset(entry, RAW)
        count = format_count(files.packed, "file")
        packed = format_bytes(sum(file.stat().st_size for file in RAW.iterdir()))
        report(f"fetch: {params.dataset}: {count} in {entry.folder.as_posix()}, packed: {packed}")
        if files.ignored:
            report(f"  ignored: {files.ignored:,} hidden, or left by a system or a program")
        return
    size = format_bytes(sum(file.bytes for file in entry.files))
    count = format_count(len(entry.files), "file")
    if entry.in_place:
        find_remote_files(entry)
        with replace_directory(RAW) as folder:
            write_manifest(folder / MANIFEST_NAME, entry.files)
        report(f"fetch: {params.dataset}: {count}, {size}, found and not copied")
        return
    unpinned = download_dataset(params.dataset, entry, RAW, allow_unpinned=params.allow_unpinned)
    report(f"fetch: {params.dataset}: {count}, {size}, checked")
    for name, sha256 in unpinned.items():
        report(f"  {name} is not pinned in the catalog; its SHA-256 is {sha256}")


if __name__ == "__main__":
    run_stage(main, __doc__)
