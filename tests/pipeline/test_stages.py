"""The stages that need no TensorFlow, run as commands on small data."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image
from support import CATALOG, ROOT, attempt, hash_files, run, set_leaf, set_params

from imgpipe.datasets.formats import FORMATS
from imgpipe.preprocessing.splits import SPLITS
from imgpipe.records.folders import Records
from imgpipe.records.info import read_augmented_info, read_info
from imgpipe.records.shards import StoredShard


@pytest.fixture
def project(tmp_path: Path, params_value: dict[str, Any]) -> Path:
    """A folder with the project's catalog, and with parameters that make the stages fast."""
    folder = tmp_path / "project"
    (folder / "data").mkdir(parents=True)
    shutil.copy(CATALOG, folder / "data")
    for name in ("pyproject.toml", "dvc.yaml"):
        shutil.copy(ROOT / name, folder)
    params_value["preprocess"] |= {"max_per_class": 24, "test_frac": 0.0335}
    params_value["augment"]["copies"] = 2
    set_params(folder, params_value)
    return folder


def test_the_digits_run_from_fetch_to_augment(project: Path) -> None:
    assert run(project, "fetch") == "fetch: digits: 1 file, 57.5 kB, checked\n"
    assert run(project, "preprocess").startswith(
        "preprocess: digits: 300 images of 28 x 28 pixels, 1 channel, 10 classes\n"
        "  220 train, 20 validation, 60 test; "
    )
    assert (
        run(project, "augment") == "augment: 2 copies of each of 220 training images: 440 images\n"
    )
    assert sorted(path.name for path in (project / "data").iterdir()) == [
        "augmented", "catalog.yaml", "raw", "records", "thumbnails.npz"
    ]  # fmt: skip

    records = project / "data" / "records"
    info = read_info(records)
    assert info.dataset == "digits"
    assert info.image_shape == (28, 28, 1)
    assert info.image_spec.model_dump() == {
        "height_px": 28, "width_px": 28, "channels": 1,
        "fit": "stretch", "interpolation": "bilinear",
    }  # fmt: skip
    assert set(info.record_fields) == {"image", "label", "identity"}
    seen: list[str] = []
    for split in SPLITS:
        batches = list(Records(records, info).read(split))
        labels = np.concatenate([batch.labels for batch in batches])
        assert info.splits[split].examples == len(labels)
        assert list(info.splits[split].per_class.values()) == np.bincount(labels).tolist()
        assert len(set(np.bincount(labels))) == 1  # stratified
        seen += [identity for batch in batches for identity in batch.identities]
    assert len(seen) == len(set(seen)) == 300

    augmented = read_augmented_info(project / "data" / "augmented")
    assert augmented.copies == 2
    for number, shards in enumerate(augmented.shards_of_copies, start=1):
        folder = project / "data" / "augmented" / f"copy-{number:02d}"
        for shard, variant in zip(info.splits["train"].shards, shards, strict=True):
            original = list(StoredShard(records / shard.file, shard, info).read())
            variants = list(StoredShard(folder / variant.file, variant, info).read())
            for before, after in zip(original, variants, strict=True):
                assert (before.labels == after.labels).all()
                assert before.identities == after.identities
                differs = (before.images != after.images).any(axis=(1, 2, 3))
                assert differs.mean() > 0.99


def test_a_record_leads_back_to_its_image(project: Path) -> None:
    run(project, "fetch")
    run(project, "preprocess")
    records = project / "data" / "records"
    raw = np.loadtxt(project / "data" / "raw" / "digits.csv.gz", delimiter=",")
    for batch in Records.open(records).read("test"):
        for image, label, identity in zip(
            batch.images, batch.labels, batch.identities, strict=True
        ):
            row = raw[int(identity.removeprefix("digits.csv.gz#"))]
            assert row[-1] == label
            small = np.rint(row[:-1] * 255 / 16).astype(np.uint8).reshape(8, 8)
            resized = Image.fromarray(small).resize((28, 28), Image.Resampling.BILINEAR)
            assert (image[..., 0] == np.asarray(resized)).all()


def test_bytes_do_not_depend_on_workers_or_folder(
    project: Path, params_value: dict[str, Any], write_idx: Callable[..., None], tmp_path: Path
) -> None:
    """Each split has several shards, so that both workers have work."""
    choose_mnist(project, params_value, shard_size_mib=1, normalization="standardize")
    write_small_mnist(project / "data" / "raw", write_idx, train=2500, test=1300)
    twin = tmp_path / "elsewhere" / "twin"
    shutil.copytree(project, twin)
    for folder, workers in ((project, "1"), (twin, "2")):
        run(folder, "preprocess", IMGPIPE_WORKERS=workers)
        run(folder, "augment", IMGPIPE_WORKERS=workers)
    first = hash_files(project)
    assert len([name for name in first if name.startswith("data/records/train")]) > 1
    assert len([name for name in first if name.startswith("data/augmented/copy-02")]) > 1
    assert first == hash_files(twin)
    info = read_info(project / "data" / "records")
    records = project / "data" / "records"
    for shard in info.splits["train"].shards:
        batch = next(StoredShard(records / shard.file, shard, info).read())
        assert len(set(batch.labels.tolist())) == 10  # every shard mixes classes
        assert (records / shard.file).stat().st_size <= 1 << 20


def test_normalization_comes_from_the_training_split_only(
    project: Path, params_value: dict[str, Any], write_idx: Callable[..., None]
) -> None:
    choose_mnist(project, params_value, normalization="standardize")
    raw = project / "data" / "raw"
    write_small_mnist(raw, write_idx, train=200, test=100)
    run(project, "preprocess")
    records = project / "data" / "records"
    before = read_info(records).normalization
    images = np.concatenate([b.images for b in Records.open(records).read("train")])
    assert 1 / before.scale[0] == pytest.approx(images.std())
    assert -before.offset[0] / before.scale[0] == pytest.approx(images.mean())
    write_idx(raw / "t10k-images-idx3-ubyte.gz", np.full((100, 28, 28), 255, dtype=np.uint8))
    run(project, "preprocess")
    assert read_info(records).normalization == before


def test_duplicates_across_splits_are_counted(
    project: Path, params_value: dict[str, Any], write_idx: Callable[..., None]
) -> None:
    choose_mnist(project, params_value)
    raw = project / "data" / "raw"
    images = write_small_mnist(raw, write_idx, train=200, test=100)
    copies = np.concatenate([images[:7], images[200:293]])
    write_idx(raw / "t10k-images-idx3-ubyte.gz", copies)
    assert "; 7 duplicates across splits" in run(project, "preprocess")
    data = json.loads((project / "metrics" / "data.json").read_text())
    assert data["duplicate_images"] == 7
    between = {tuple(pair["splits"]): pair["images"] for pair in data["duplicates"]}
    assert between["train", "test"] + between["validation", "test"] == 7
    assert between["train", "validation"] == 0
    assert [split["images"] for split in data["splits"]] == [180, 20, 100]


def choose_mnist(project: Path, params_value: dict[str, Any], **preprocess: Any) -> None:
    """Choose the dataset, with all of its images by default."""
    params_value["dataset"] = "mnist"
    params_value["preprocess"] |= {"max_per_class": 0, **preprocess}
    set_params(project, params_value)


def write_small_mnist(
    raw: Path, write_idx: Callable[..., None], *, train: int, test: int
) -> NDArray[np.uint8]:
    raw.mkdir(exist_ok=True)
    images = np.random.default_rng(0).integers(0, 256, (train + test, 28, 28), dtype=np.uint8)
    for prefix, part in (("train", slice(0, train)), ("t10k", slice(train, None))):
        write_idx(raw / f"{prefix}-images-idx3-ubyte.gz", images[part])
        labels = np.arange(len(images[part]), dtype=np.uint8) % 10
        write_idx(raw / f"{prefix}-labels-idx1-ubyte.gz", labels)
    return images


def test_without_copies_augment_writes_an_empty_description(
    project: Path, params_value: dict[str, Any]
) -> None:
    params_value["augment"]["copies"] = 0
    set_params(project, params_value)
    run(project, "fetch")
    run(project, "preprocess")
    assert run(project, "augment") == (
        "augment: no copies, because augment.copies is 0 in params.yaml\n"
    )
    assert list(hash_files(project / "data" / "augmented")) == ["info.json"]


def test_an_unknown_format_stops_fetch_before_any_download(project: Path) -> None:
    set_leaf(project, "digits.format.kind", "digit", "data/catalog.yaml")
    set_leaf(project, "digits.urls", ["https://host.invalid"], "data/catalog.yaml")
    result = attempt(project, "fetch")
    assert result.returncode == 1
    assert result.stderr == (
        f"error: data/catalog.yaml: digits.format.kind: expected one of {', '.join(FORMATS)};"
        " found 'digit' (did you mean 'digits'?)\n"
    )


def test_max_per_class_does_not_limit_an_official_test_split(
    project: Path, params_value: dict[str, Any], write_idx: Callable[..., None]
) -> None:
    choose_mnist(project, params_value, max_per_class=10)
    write_small_mnist(project / "data" / "raw", write_idx, train=200, test=150)
    assert "250 images" in run(project, "preprocess")
    data = json.loads((project / "metrics" / "data.json").read_text())
    assert [split["images"] for split in data["splits"]] == [90, 10, 150]


def test_max_per_class_changes_no_byte_of_a_drawn_test_split(
    project: Path, params_value: dict[str, Any]
) -> None:
    run(project, "fetch")
    records = project / "data" / "records"
    shards = []
    for max_per_class in (0, 24, 5):
        params_value["preprocess"]["max_per_class"] = max_per_class
        set_params(project, params_value)
        run(project, "preprocess")
        shards.append(hash_files(records))
    for name in shards[0]:
        assert (shards[0][name] == shards[1][name] == shards[2][name]) == name.startswith("test-")
    assert any(name.startswith("test-") for name in shards[0])


def test_a_damaged_download_leaves_the_old_files(project: Path, tmp_path: Path) -> None:
    run(project, "fetch")
    before = hash_files(project / "data" / "raw")
    catalog = (project / "data" / "catalog.yaml").read_text()
    wrong = catalog.replace("09f66e6d", "00000000")
    (project / "data" / "catalog.yaml").write_text(wrong)
    result = attempt(project, "fetch")
    assert result.returncode == 1
    assert "expected SHA-256 00000000" in result.stderr
    assert hash_files(project / "data" / "raw") == before
    assert sorted(path.name for path in (project / "data").iterdir()) == ["catalog.yaml", "raw"]
