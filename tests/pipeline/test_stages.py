"""The stages that need no TensorFlow, run as a person runs them, on small data."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from numpy.typing import NDArray
from PIL import Image
from support import ROOT, hash_file

from imgpipe.preprocessing.splits import SPLITS
from imgpipe.records.info import read_augmented_info, read_info
from imgpipe.records.shards import read_shard, read_split


@pytest.fixture
def project(tmp_path: Path, params_value: dict[str, Any]) -> Path:
    """A folder with the project's parameters and catalog, small enough to run stages in."""
    folder = tmp_path / "project"
    (folder / "data").mkdir(parents=True)
    shutil.copy(ROOT / "data" / "catalog.yaml", folder / "data")
    params_value["preprocess"]["max_per_class"] = 30
    params_value["augment"]["copies"] = 2
    set_params(folder, params_value)
    return folder


def set_params(folder: Path, value: dict[str, Any]) -> None:
    (folder / "params.yaml").write_text(yaml.safe_dump(value))


def run(folder: Path, stage: str, *options: str, **environment: str) -> str:
    """Run a stage that must succeed; return what it prints."""
    result = attempt(folder, stage, *options, **environment)
    assert result.returncode == 0, result.stderr
    assert result.stderr == ""
    return result.stdout


def attempt(
    folder: Path, stage: str, *options: str, **environment: str
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, ROOT / "src" / f"{stage}.py", *options],
        cwd=folder,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        check=False,
    )


def hashes(folder: Path) -> dict[str, str]:
    return {
        path.relative_to(folder).as_posix(): hash_file(path)
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def test_digits_from_fetch_to_augment(project: Path) -> None:
    assert run(project, "fetch") == "fetch: digits, 1 files, 0.1 MB, checked\n"
    assert run(project, "preprocess").startswith(
        "preprocess: digits, 300 images of 28 x 28 x 1 in 10 classes: 220 train, 20 validation,"
        " 60 test"
    )
    assert run(project, "augment") == "augment: 2 copies of 220 training images\n"
    assert sorted(path.name for path in (project / "data").iterdir()) == [
        "augmented", "catalog.yaml", "raw", "records"
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
        batches = list(read_split(records, info, split))
        labels = np.concatenate([batch.labels for batch in batches])
        assert info.splits[split].examples == len(labels)
        assert list(info.splits[split].per_class.values()) == np.bincount(labels).tolist()
        assert len(set(np.bincount(labels))) == 1  # stratified
        seen += [identity for batch in batches for identity in batch.identities]
    assert len(seen) == len(set(seen)) == 300

    augmented = read_augmented_info(project / "data" / "augmented")
    assert augmented.copies == 2
    for shard in augmented.shards:
        original = list(read_shard(records / shard.file, info))
        for copy in ("copy-01", "copy-02"):
            path = project / "data" / "augmented" / copy / shard.file
            variants = list(read_shard(path, info))
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
    for batch in read_split(records, read_info(records), "test"):
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
    """Several shards a split, so that two workers have something to share."""
    params_value["dataset"] = "mnist"
    params_value["preprocess"] |= {
        "max_per_class": 0, "shard_size_mib": 1, "normalization": "standardize"
    }  # fmt: skip
    set_params(project, params_value)
    write_small_mnist(project / "data" / "raw", write_idx, train=2500, test=1300)
    twin = tmp_path / "elsewhere" / "twin"
    shutil.copytree(project, twin)
    for folder, workers in ((project, "1"), (twin, "2")):
        run(folder, "preprocess", IMGPIPE_WORKERS=workers)
        run(folder, "augment", IMGPIPE_WORKERS=workers)
    first = hashes(project)
    assert len([name for name in first if name.startswith("data/records/train")]) > 1
    assert len([name for name in first if name.startswith("data/augmented/copy-02")]) > 1
    assert first == hashes(twin)
    info = read_info(project / "data" / "records")
    for shard in (project / "data" / "records").glob("train-*"):
        batch = next(read_shard(shard, info))
        assert len(set(batch.labels.tolist())) == 10  # every shard mixes classes
        assert shard.stat().st_size <= 1 << 20


def test_normalisation_comes_from_the_training_split_alone(
    project: Path, params_value: dict[str, Any], write_idx: Callable[..., None]
) -> None:
    params_value["dataset"] = "mnist"
    params_value["preprocess"] |= {"max_per_class": 0, "normalization": "standardize"}
    set_params(project, params_value)
    raw = project / "data" / "raw"
    write_small_mnist(raw, write_idx, train=200, test=100)
    run(project, "preprocess")
    records = project / "data" / "records"
    before = read_info(records).normalization
    images = np.concatenate([b.images for b in read_split(records, read_info(records), "train")])
    assert 1 / before.scale[0] == pytest.approx(images.std())
    assert -before.offset[0] / before.scale[0] == pytest.approx(images.mean())
    write_idx(raw / "t10k-images-idx3-ubyte.gz", np.full((100, 28, 28), 255, dtype=np.uint8))
    run(project, "preprocess")
    assert read_info(records).normalization == before


def test_duplicates_across_splits_are_counted(
    project: Path, params_value: dict[str, Any], write_idx: Callable[..., None]
) -> None:
    params_value["dataset"] = "mnist"
    params_value["preprocess"]["max_per_class"] = 0
    set_params(project, params_value)
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


def test_no_copies_leave_an_empty_description(project: Path, params_value: dict[str, Any]) -> None:
    params_value["augment"]["copies"] = 0
    set_params(project, params_value)
    run(project, "fetch")
    run(project, "preprocess")
    assert run(project, "augment") == "augment: 0 copies of 220 training images\n"
    assert list(hashes(project / "data" / "augmented")) == ["info.json"]


@pytest.mark.parametrize("stage", ["fetch", "preprocess", "augment", "train", "evaluate", "plot"])
def test_a_typo_stops_every_stage_with_one_line(
    project: Path, params_value: dict[str, Any], stage: str
) -> None:
    params_value["train"]["epoch"] = params_value["train"].pop("epochs")
    set_params(project, params_value)
    result = attempt(project, stage)
    assert result.returncode == 1
    assert result.stdout == ""
    assert result.stderr.startswith("error: params.yaml: train.epoch: unknown key (did you mean")
    assert result.stderr.count("\n") == 1
    assert [path.name for path in (project / "data").iterdir()] == ["catalog.yaml"]


def test_a_stage_with_other_places_and_values(project: Path) -> None:
    run(project, "fetch", "--raw", "elsewhere/raw")
    output = run(
        project, "preprocess", "--raw", "elsewhere/raw", "--records", "elsewhere/records",
        "--metrics", "elsewhere", "--set", "preprocess.test_fold=2", "--set", "preprocess.folds=10",
    )  # fmt: skip
    assert "300 images" in output
    assert ": 240 train, 30 validation, 30 test;" in output
    run(
        project, "augment", "--records", "elsewhere/records", "--augmented", "elsewhere/augmented",
        "--set", "augment.copies=1",
    )  # fmt: skip
    assert sorted(path.name for path in (project / "elsewhere").iterdir()) == [
        "augmented", "data.json", "raw", "records"
    ]  # fmt: skip
    assert [path.name for path in (project / "data").iterdir()] == ["catalog.yaml"]
    assert not (project / "metrics").exists()
    assert read_augmented_info(project / "elsewhere" / "augmented").copies == 1


def test_what_is_wrong_on_the_command_line_stops_a_stage(project: Path) -> None:
    result = attempt(project, "train", "--set", "train.epocs=3")
    assert result.returncode == 1
    assert result.stderr.startswith("error: params.yaml with --set: train.epocs: unknown key")
    assert result.stderr.count("\n") == 1
    result = attempt(project, "train", "--recrods", "x")
    assert result.returncode == 2
    assert "unrecognized arguments: --recrods x" in result.stderr


def test_help_says_what_a_stage_does_and_where_it_writes(project: Path) -> None:
    text = run(project, "augment", "--help")
    assert "Stage 3, augment" in text
    assert "instead of data/augmented" in text


EDITING_STAGE = """
import sys
from pathlib import Path
import imgpipe.splits
from imgpipe.stage import run_stage

def main(params):
    path = Path(sys.path[0]) / CHANGED if CHANGED.endswith(".py") else Path(CHANGED)
    path.write_text(path.read_text().replace(OLD, NEW))
    return lambda: print("finished")

run_stage(main, lambda params: {"train": params.train, "threads": params.threads}, None)
"""


@pytest.mark.parametrize(
    ("changed", "old", "new", "error"),
    [
        ("imgpipe/splits.py", "_shuffled(", "_mixed(", "imgpipe/splits.py"),
        ("editing.py", "import sys", "import sys, os", "editing.py"),
        ("imgpipe/tfrecord.py", "import", "import ", None),  # which is not loaded
        ("params.yaml", "learning_rate: 0.002", "learning_rate: 0.1", "train.learning_rate"),
        ("params.yaml", "threads: 2", "threads: 1", "threads"),
        ("params.yaml", "dpi: 100", "dpi: 99", None),  # which the stage does not read
    ],
)
def test_what_a_stage_uses_may_not_change_while_it_runs(
    project: Path, tmp_path: Path, changed: str, old: str, new: str, error: str | None
) -> None:
    shutil.copytree(ROOT / "src", tmp_path / "src")
    script = tmp_path / "src" / "editing.py"
    text = EDITING_STAGE.replace("CHANGED", repr(changed))
    script.write_text(text.replace("OLD", repr(old)).replace("NEW", repr(new)))
    (project / "params.yaml").write_text((ROOT / "params.yaml").read_text())
    result = subprocess.run(
        [sys.executable, script], cwd=project, capture_output=True, text=True, check=False
    )
    if error is None:
        assert result.returncode == 0, result.stderr
        assert result.stdout == "finished\n"
    else:
        assert result.returncode == 1
        assert result.stdout == ""
        assert result.stderr == (
            f"error: {error} changed while the stage was running: what it has written is of"
            " before; run it again\n"
        )


def test_the_traceback_comes_on_request(project: Path) -> None:
    result = attempt(project, "preprocess", IMGPIPE_TRACEBACK="1")
    assert result.returncode == 1
    assert "Traceback (most recent call last)" in result.stderr


def test_a_damaged_download_leaves_what_was_there(project: Path, tmp_path: Path) -> None:
    run(project, "fetch")
    before = hashes(project / "data" / "raw")
    catalog = (project / "data" / "catalog.yaml").read_text()
    wrong = catalog.replace("09f66e6d", "00000000")
    (project / "data" / "catalog.yaml").write_text(wrong)
    result = attempt(project, "fetch")
    assert result.returncode == 1
    assert "expected SHA-256 00000000" in result.stderr
    assert hashes(project / "data" / "raw") == before
    assert sorted(path.name for path in (project / "data").iterdir()) == ["catalog.yaml", "raw"]


def test_a_damaged_record_stops_augment(project: Path) -> None:
    run(project, "fetch")
    run(project, "preprocess")
    (shard,) = (project / "data" / "records").glob("train-*")
    content = bytearray(shard.read_bytes())
    content[5000] ^= 1
    shard.write_bytes(content)
    result = attempt(project, "augment")
    assert result.returncode == 1
    assert result.stderr.startswith(f"error: data/records/{shard.name}: record ")
    assert not (project / "data" / "augmented").exists()
