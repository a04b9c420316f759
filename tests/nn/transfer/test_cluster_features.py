"""A worker of a cluster stores the features that one machine would compute, or refuses."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from support import TRANSFER_PARAMS, change_params, write_random_records

from imgpipe.core.errors import PipelineError
from imgpipe.core.sources import hash_sources
from imgpipe.records.folders import Records

pytestmark = pytest.mark.tf


@pytest.fixture
def make_worker(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], Any]:
    """Return a function that makes a worker for an arithmetic; it has no extractor yet."""
    from imgpipe.nn.transfer import cluster_features

    monkeypatch.setattr(cluster_features, "_extractors", [])
    monkeypatch.setattr(cluster_features, "configure_runtime", lambda *_, **__: None)
    info = write_random_records(tmp_path / "records", {"train": [6]}, image_shape=(32, 32, 3))
    sources = hash_sources()

    def make(arithmetic: str) -> Any:
        params = change_params(TRANSFER_PARAMS, arithmetic=arithmetic)
        extractor = cluster_features._Worker(info, params, sources, {})._make_extractor()
        return cluster_features._Worker(info, params, sources, extractor.determined_by)

    return make


def test_a_worker_makes_its_extractor_once(
    make_worker: Callable[[str], Any], tmp_path: Path
) -> None:
    from imgpipe.nn.transfer import cluster_features

    worker = make_worker("native")
    (shard,) = Records(tmp_path / "records", worker.info).shards("train")
    paths = [tmp_path / "first", tmp_path / "second"]
    for path in paths:
        worker((shard, path))
    assert paths[0].read_bytes() == paths[1].read_bytes()
    ((_, first),) = cluster_features._extractors
    worker((shard, tmp_path / "third"))
    ((_, second),) = cluster_features._extractors
    assert second is first


@pytest.mark.parametrize(
    ("arithmetic", "name"),
    [
        ("native", "processor"),
        ("native", "threads"),
        ("exact", "arithmetic"),
        ("exact", "libraries"),
        ("exact", "weights"),
    ],
)
def test_a_worker_with_other_features_is_refused(
    make_worker: Callable[[str], Any], tmp_path: Path, arithmetic: str, name: str
) -> None:
    worker = make_worker(arithmetic)
    (shard,) = Records(tmp_path / "records", worker.info).shards("train")
    worker.determined_by[name] = "another one"
    with pytest.raises(PipelineError, match=f": expected {name} another one; found ") as caught:
        worker((shard, tmp_path / "features"))
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "features").exists()


def test_a_worker_with_another_processor_computes_exact_features(
    make_worker: Callable[[str], Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from imgpipe.nn.transfer import features

    worker = make_worker("exact")
    (shard,) = Records(tmp_path / "records", worker.info).shards("train")
    monkeypatch.setattr(features, "_describe_processor", lambda: ["another"])
    worker((shard, tmp_path / "features"))
    assert (tmp_path / "features").stat().st_size == 32 + 6 * 1280 * 4
