"""What every reader of a raw dataset must do; `EXAMPLES` has a small dataset of each format."""

import gzip
import pickle
import zipfile
from collections.abc import Callable
from contextlib import closing
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from imgpipe.core.errors import PipelineError
from imgpipe.core.yaml_file import format_yaml
from imgpipe.datasets.catalog import load_entry
from imgpipe.datasets.formats import FORMATS
from imgpipe.preprocessing.raw_datasets import READERS, RawDataset, open_dataset
from imgpipe.preprocessing.splits import SPLITS, UNASSIGNED

WriteIdx = Callable[[Path, np.ndarray], None]


def write_digits(raw: Path, write_idx: WriteIdx) -> dict[str, Any]:
    rows = ["1,2,3,4,0", "5,6,7,8,1", "9,0,1,2,0"]
    (raw / "digits.csv.gz").write_bytes(gzip.compress("\n".join(rows).encode()))
    return {"image_shape": [2, 2, 1], "classes": ["0", "1"]}


def write_idx_files(raw: Path, write_idx: WriteIdx) -> dict[str, Any]:
    splits: dict[str, dict[str, str]] = {}
    for split, count in (("train", 4), ("test", 2)):
        splits[split] = {"images": f"{split}-images.gz", "labels": f"{split}-labels.gz"}
        images = np.random.default_rng(count).integers(0, 256, (count, 3, 2), dtype=np.uint8)
        write_idx(raw / f"{split}-images.gz", images)
        write_idx(raw / f"{split}-labels.gz", np.arange(count, dtype=np.uint8) % 2)
    return {"image_shape": [3, 2, 1], "classes": ["a", "b"], "splits": splits}


def write_image_folder(raw: Path, write_idx: WriteIdx) -> dict[str, Any]:
    with zipfile.ZipFile(raw / "images.zip", "w") as archive:
        for number, name in enumerate(("elm/1.png", "oak/1.png", "oak/2.png")):
            stream = BytesIO()
            Image.new("RGB", (4, 3), (number, 0, 0)).save(stream, "PNG")
            archive.writestr(name, stream.getvalue())
    return {}


EXAMPLES: dict[str, Callable[[Path, WriteIdx], dict[str, Any]]] = {
    "digits": write_digits,
    "idx": write_idx_files,
    "image_folder": write_image_folder,
}


@pytest.fixture(params=READERS)
def dataset(request: pytest.FixtureRequest, tmp_path: Path, write_idx: WriteIdx) -> RawDataset:
    """A small dataset of each format, opened."""
    return open_example(request.param, tmp_path, write_idx)


def write_example(kind: str, raw: Path, write_idx: WriteIdx) -> dict[str, Any]:
    """Write the files of the example of a format; return its entry in the catalog."""
    raw.mkdir()
    described = EXAMPLES[kind](raw, write_idx)
    names = sorted(path.name for path in raw.iterdir())
    files = [{"name": name, "bytes": 1, "sha256": "unpublished"} for name in names]
    return {
        "title": "", "license": "", "citation": "", "urls": [], "files": files,
        "format": {"kind": kind, **described},
    }  # fmt: skip


def open_example(kind: str, tmp_path: Path, write_idx: WriteIdx) -> RawDataset:
    raw, scratch = tmp_path / "raw", tmp_path / "scratch"
    scratch.mkdir()
    entry = write_example(kind, raw, write_idx)
    (tmp_path / "catalog.yaml").write_text(format_yaml({"example": entry}))
    return open_dataset(load_entry("example", tmp_path / "catalog.yaml"), raw, scratch)


def test_every_format_has_a_reader_and_an_example() -> None:
    assert list(READERS) == list(FORMATS)
    assert list(EXAMPLES) == list(FORMATS)


@pytest.mark.parametrize("kind", FORMATS)
def test_an_unknown_key_of_a_format_is_named(
    kind: str, tmp_path: Path, write_idx: WriteIdx
) -> None:
    entry = write_example(kind, tmp_path / "raw", write_idx)
    entry["format"]["clases"] = entry["format"].pop("classes", [])
    path = tmp_path / "catalog.yaml"
    path.write_text(format_yaml({"example": entry}))
    with pytest.raises(PipelineError) as caught:
        load_entry("example", path)
    assert str(caught.value).startswith(
        f"{path.as_posix()}: example.format.clases: unknown key (did you mean 'classes'?);"
        " known here: "
    )


def test_labels_and_splits_are_indices(dataset: RawDataset) -> None:
    count = len(dataset.labels)
    assert dataset.labels.shape == dataset.splits.shape == (count,)
    assert dataset.labels.dtype == np.int64
    assert dataset.splits.dtype == np.int8
    assert set(dataset.labels.tolist()) == set(range(len(dataset.classes)))
    assert set(dataset.splits.tolist()) <= {UNASSIGNED, *range(len(SPLITS))}


def test_every_image_has_its_own_identity_and_path_and_can_be_read(dataset: RawDataset) -> None:
    count = len(dataset.labels)
    for names in (dataset.identities, dataset.paths):
        found = names(np.arange(count))
        assert len(set(found)) == count
        assert names(np.array([1, 0])) == found[1::-1]
    images = [np.asarray(dataset.read(index)) for index in range(count)]
    assert all(image.dtype == np.uint8 for image in images)
    assert len({image.tobytes() for image in images}) == count


@pytest.mark.parametrize("kind", READERS)
def test_the_names_of_dataset_and_files_do_not_change_the_paths(
    kind: str, tmp_path: Path, write_idx: WriteIdx
) -> None:
    with closing(open_example(kind, tmp_path, write_idx)) as dataset:
        indices = np.arange(len(dataset.labels))
        paths, identities = dataset.paths(indices), dataset.identities(indices)
    catalog = (tmp_path / "catalog.yaml").read_text().replace("example:", "renamed:")
    for path in sorted((tmp_path / "raw").iterdir()):
        catalog = catalog.replace(path.name, f"new-{path.name}")
        path.rename(path.with_name(f"new-{path.name}"))
    (tmp_path / "catalog.yaml").write_text(catalog)
    entry = load_entry("renamed", tmp_path / "catalog.yaml")
    with closing(open_dataset(entry, tmp_path / "raw", tmp_path / "scratch")) as renamed:
        assert renamed.paths(indices) == paths
        assert not set(renamed.identities(indices)) & set(identities)


def test_a_dataset_reads_the_same_in_another_process(dataset: RawDataset) -> None:
    indices = np.arange(len(dataset.labels))
    with closing(pickle.loads(pickle.dumps(dataset))) as elsewhere:
        assert elsewhere.classes == dataset.classes
        assert (elsewhere.labels == dataset.labels).all()
        assert elsewhere.identities(indices) == dataset.identities(indices)
        assert elsewhere.paths(indices) == dataset.paths(indices)
        for index in range(len(indices)):
            assert (np.asarray(elsewhere.read(index)) == np.asarray(dataset.read(index))).all()


def test_a_dataset_can_be_closed_twice(dataset: RawDataset) -> None:
    dataset.read(0)
    dataset.close()
    dataset.close()
    assert len(dataset.labels) >= 3


@pytest.mark.parametrize("kind", READERS)
def test_a_missing_file_is_named(kind: str, tmp_path: Path, write_idx: WriteIdx) -> None:
    open_example(kind, tmp_path, write_idx).close()
    missing = sorted((tmp_path / "raw").iterdir())[0]
    missing.unlink()
    entry = load_entry("example", tmp_path / "catalog.yaml")
    with pytest.raises(PipelineError) as caught:
        open_dataset(entry, tmp_path / "raw", tmp_path / "scratch")
    assert str(caught.value) == f"{missing.as_posix()}: not found; run `dvc repro fetch`"
