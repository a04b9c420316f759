"""Features of images, computed once."""

import dataclasses
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support import TRANSFER_PARAMS, build_network, change_params, write_random_records

from imgpipe.core.sources import hash_sources
from imgpipe.records.folders import Records
from imgpipe.settings.backbones import BACKBONES

pytestmark = pytest.mark.tf


@pytest.fixture
def extractor(tmp_path: Path) -> Callable[..., Any]:
    """Return a function that makes an extractor with a small network and a count of batches."""
    import keras

    from imgpipe.nn.transfer import features

    keras.utils.set_random_seed(1)
    images = keras.Input((12, 17, 3), dtype="uint8")
    x = keras.layers.Rescaling(1 / 255)(images)
    pooled = keras.layers.GlobalAveragePooling2D()(keras.layers.Conv2D(5, 3)(x))
    model = keras.Model(images, keras.layers.Dense(2, name="logits")(pooled))
    records = tmp_path / "records"
    info = write_random_records(records, {"train": [11, 7]})

    def make(**changes: Any) -> Any:
        options = {"batch_size": 4, "determined_by": {"weights": "w"}}
        options |= {"arithmetic": "native", "native_threads": 2}
        made = features.FeatureExtractor(model, info, **{**options, **changes})
        compute, made.batches = made._extract, 0

        def counted(batch: Any) -> Any:
            made.batches += 1
            return compute(batch)

        made._extract = counted
        made.network = keras.Model(images, pooled)
        made.shards = Records(records, info).shards("train")
        return made

    return make


def list_files(repository: Path) -> list[Path]:
    return sorted((repository / ".dvc/tmp/imgpipe/features").glob("*"))


@pytest.mark.parametrize("arithmetic", ["exact", "native"])
def test_each_image_has_its_features(
    extractor: Callable[..., Any], repository: Path, arithmetic: str
) -> None:
    from imgpipe.records.stored_images import StoredImages

    made = extractor(arithmetic=arithmetic)
    features, labels = made.read(made.shards)
    indices = [shard.index() for shard in made.shards]
    images = StoredImages(indices, made._info)[np.arange(18)]
    assert features.shape == (18, 5)
    assert features.dtype == np.float32
    # Sums in another order: of 3 x 3 x 3 products, and of the pixels of each map. A rounding error
    # is at most eps / 2 of a partial sum, and no pixel is larger than 1; exact
    # factors have 25 bits.
    kernel = made.network.layers[2].get_weights()[0]
    roundings = 2 * (3 * 3 * 3 + 10 * 15)
    bound = roundings * np.finfo(np.float32).eps / 2 * np.abs(kernel).sum(axis=(0, 1, 2)).max()
    assert features == pytest.approx(np.asarray(made.network(images)), abs=float(bound))
    assert (labels == np.concatenate([index.labels for index in indices])).all()


def test_stored_features_are_not_computed_again(
    extractor: Callable[..., Any], repository: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    first, second = extractor(), extractor()
    expected = first.read(first.shards).inputs
    assert "features of 18 images: 18 computed now" in capsys.readouterr().out
    assert first.batches == 5  # 3 for the shard of 11 images, 2 for the shard of 7
    assert len(list_files(repository)) == 2
    found = second.read(second.shards).inputs
    assert "features of 18 images: 0 computed now" in capsys.readouterr().out
    assert second.batches == 0
    assert found.tobytes() == expected.tobytes()
    assert list(Path.cwd().iterdir()) == []  # the temporary copy of the repository


@pytest.mark.parametrize(
    "change",
    [
        {"batch_size": 8},
        {"native_threads": 1},
        {"arithmetic": "exact"},
        {"determined_by": {"weights": "other"}},
    ],
)
def test_file_names_depend_on_everything_that_determines_the_features(
    extractor: Callable[..., Any], repository: Path, change: dict[str, Any]
) -> None:
    first, second = extractor(), extractor(**change)
    first.read(first.shards)
    second.read(second.shards)
    assert second.batches > 0
    assert len(list_files(repository)) == 4


@pytest.mark.parametrize(("arithmetic", "files"), [("exact", 2), ("native", 4)])
def test_file_names_depend_on_the_processor_if_the_features_do(
    extractor: Callable[..., Any],
    repository: Path,
    monkeypatch: pytest.MonkeyPatch,
    arithmetic: str,
    files: int,
) -> None:
    from imgpipe.nn.transfer import features

    extractor(arithmetic=arithmetic).read(extractor().shards)
    monkeypatch.setattr(features, "_describe_processor", lambda: ["another"])
    extractor(arithmetic=arithmetic).read(extractor().shards)
    assert len(list_files(repository)) == files


def test_exact_features_do_not_depend_on_the_size_of_a_batch(
    extractor: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("DVC_ROOT", raising=False)  # nothing is stored
    monkeypatch.chdir(tmp_path)
    changes: list[dict[str, Any]] = [{}, {"batch_size": 1}, {"batch_size": 16, "native_threads": 1}]
    made = [extractor(arithmetic="exact", **change) for change in changes]
    found = [one.read(one.shards).inputs.tobytes() for one in made]
    assert [one.batches for one in made] == [5, 18, 2]
    assert found[1:] == found[:1] * 2
    assert made[1].determined_by == made[2].determined_by == made[0].determined_by


@pytest.mark.parametrize("name", BACKBONES)
@pytest.mark.parametrize("channels", [1, 3])
def test_exact_features_of_each_pretrained_network_are_close_to_native_ones(
    name: str, channels: int
) -> None:
    import keras

    from imgpipe.nn.common.arithmetic import find_forward
    from imgpipe.nn.transfer.weights import build_pretrained

    shape = (64, 64, channels)
    model = build_pretrained(name, image_shape=shape, classes=2)
    network = keras.Model(model.input, model.get_layer("logits").input)
    images = np.random.default_rng(1).integers(0, 256, (3, *shape), dtype=np.uint8)
    exact, native = (
        find_forward(arithmetic)(network, keras.ops.array(images), training=False)
        for arithmetic in ("exact", "native")
    )
    # Rounding errors of about 50 layers of float32: about ten times what was seen.
    assert np.abs(exact - native).max() < 1e-4 * np.abs(native).max()


def test_a_stopped_run_resumes_with_the_next_shard(
    extractor: Callable[..., Any], repository: Path
) -> None:
    made, compute = extractor(), None
    compute = made._extract

    def stop_in_the_second_shard(batch: Any) -> Any:
        if made.batches == 4:
            raise KeyboardInterrupt
        return compute(batch)

    made._extract = stop_in_the_second_shard
    with pytest.raises(KeyboardInterrupt):
        made.read(made.shards)
    assert len(list_files(repository)) == 1
    resumed = extractor()
    resumed.read(resumed.shards)
    assert resumed.batches == 2


@pytest.mark.parametrize(
    "damage",
    [
        lambda content: b"",
        lambda content: content[:40],
        lambda content: content[:-1],
        lambda content: content + b"\0",
        lambda content: content[:-1] + bytes([content[-1] ^ 1]),  # of a value
        lambda content: bytes([content[0] ^ 1]) + content[1:],
        lambda content: bytes(len(content)),
    ],
)
def test_a_damaged_file_is_computed_again(
    extractor: Callable[..., Any], repository: Path, damage: Callable[[bytes], bytes]
) -> None:
    first, second = extractor(), extractor()
    expected = first.read(first.shards).inputs
    damaged = list_files(repository)[0]
    content = damaged.read_bytes()
    damaged.write_bytes(damage(content))
    assert second.read(second.shards).inputs.tobytes() == expected.tobytes()
    assert second.batches > 0
    assert damaged.read_bytes() == content


def test_features_are_deleted_30_days_after_their_last_use(
    extractor: Callable[..., Any], repository: Path
) -> None:
    made = extractor()
    made.read(made.shards)
    old_s = time.time() - 31 * 24 * 3600
    for path in list_files(repository):
        os.utime(path, (old_s, old_s))
    unused = list_files(repository)[0].with_name("unused.bin")
    unused.touch()
    os.utime(unused, (old_s, old_s))
    made.read(made.shards)  # uses them
    assert len(list_files(repository)) == 2
    assert not unused.exists()


def test_nothing_is_stored_outside_a_repository(
    extractor: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("DVC_ROOT", raising=False)
    monkeypatch.chdir(tmp_path)
    made = extractor()
    assert made.read(made.shards).inputs.shape == (18, 5)
    assert [path.name for path in tmp_path.iterdir()] == ["records"]


@pytest.mark.parametrize(
    ("changed", "are_other_features"),
    [
        ("imgpipe/nn/transfer/torch_file.py", True),
        ("imgpipe/nn/networks/efficientnet_lite.py", True),
        ("imgpipe/nn/networks/__init__.py", True),
        ("imgpipe/nn/common/runtime.py", True),
        ("imgpipe/nn/common/arithmetic.py", True),
        ("imgpipe/nn/common/exact.py", True),
        ("imgpipe/parallel/processes.py", False),
        ("imgpipe/records/shards.py", True),
        ("imgpipe/nn/networks/cnn.py", False),
        ("imgpipe/nn/transfer/output_layer.py", False),
        ("imgpipe/nn/fitting/training_set.py", False),
        ("imgpipe/console/progress.py", False),
        ("imgpipe/settings/backbones.py", False),
    ],
)
def test_only_the_code_that_computes_features_determines_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, changed: str, are_other_features: bool
) -> None:
    from imgpipe.nn.transfer import features

    info = write_random_records(tmp_path, {"train": [2]}, image_shape=(32, 32, 3))
    model = build_network("efficientnet_lite0", shape=(32, 32, 3), classes=2)
    monkeypatch.setattr(features, "build_pretrained", lambda *_, **__: model)
    sources = hash_sources()
    assert changed in sources
    first = features.make_extractor(TRANSFER_PARAMS, info, sources)
    second = features.make_extractor(TRANSFER_PARAMS, info, {**sources, changed: "another"})
    assert (first.determined_by != second.determined_by) == are_other_features


@pytest.mark.parametrize("arithmetic", ["exact", "native"])
def test_only_native_features_depend_on_the_number_of_threads(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arithmetic: str
) -> None:
    from imgpipe.nn.transfer import features

    info = write_random_records(tmp_path, {"train": [2]}, image_shape=(32, 32, 3))
    model = build_network("efficientnet_lite0", shape=(32, 32, 3), classes=2)
    monkeypatch.setattr(features, "build_pretrained", lambda *_, **__: model)
    first, second = (
        features.make_extractor(
            change_params(
                TRANSFER_PARAMS, arithmetic=arithmetic, arithmetics__native__threads=threads
            ),
            info,
            hash_sources(),
        )
        for threads in (1, 2)
    )
    assert (first.determined_by == second.determined_by) == (arithmetic == "exact")


@pytest.mark.parametrize(
    "change",
    [
        {"mean": 128.0},
        {"scale": 127.0},
        {"norm_epsilon": 1e-5},
        {"sha256": "another"},
        {"structure": {"repeats": (1,), "channels": (16,)}},
    ],
)
def test_the_description_of_the_network_determines_the_features(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, change: dict[str, Any]
) -> None:
    from imgpipe.nn.transfer import features

    info = write_random_records(tmp_path, {"train": [2]}, image_shape=(32, 32, 3))
    name = TRANSFER_PARAMS.network
    model = build_network(name, shape=(32, 32, 3), classes=2)
    monkeypatch.setattr(features, "build_pretrained", lambda *_, **__: model)
    found = features.make_extractor(TRANSFER_PARAMS, info, hash_sources()).determined_by
    monkeypatch.setitem(BACKBONES, name, dataclasses.replace(BACKBONES[name], **change))
    changed = features.make_extractor(TRANSFER_PARAMS, info, hash_sources()).determined_by
    assert found != changed
