"""A worker of a cluster stores the features that one machine would compute, or refuses."""

from pathlib import Path
from typing import Any

import pytest
from support import TRANSFER_PARAMS, write_random_records

from imgpipe.core.errors import PipelineError
from imgpipe.core.sources import hash_sources
from imgpipe.records.folders import Records

pytestmark = pytest.mark.tf


@pytest.fixture
def worker(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """A worker for records of 32 x 32 x 3, in this process; it has no extractor yet."""
    from imgpipe.nn.transfer import cluster_features

    monkeypatch.setattr(cluster_features, "_extractors", [])
    monkeypatch.setattr(cluster_features, "configure_runtime", lambda **_: None)
    info = write_random_records(tmp_path / "records", {"train": [6]}, image_shape=(32, 32, 3))
    sources = hash_sources()
    extractor = cluster_features._Worker(info, TRANSFER_PARAMS, sources, {})._make_extractor()
    return cluster_features._Worker(info, TRANSFER_PARAMS, sources, extractor.determined_by)


def test_a_worker_makes_its_extractor_once(worker: Any, tmp_path: Path) -> None:
    from imgpipe.nn.transfer import cluster_features

    (shard,) = Records(tmp_path / "records", worker.info).shards("train")
    paths = [tmp_path / "first", tmp_path / "second"]
    for path in paths:
        worker((shard, path))
    assert paths[0].read_bytes() == paths[1].read_bytes()
    ((_, first),) = cluster_features._extractors
    worker((shard, tmp_path / "third"))
    ((_, second),) = cluster_features._extractors
    assert second is first


@pytest.mark.parametrize("name", ["processor", "libraries", "weights"])
def test_a_worker_with_other_features_is_refused(worker: Any, tmp_path: Path, name: str) -> None:
    (shard,) = Records(tmp_path / "records", worker.info).shards("train")
    worker.determined_by[name] = "another one"
    with pytest.raises(PipelineError, match=f": expected {name} another one; found ") as caught:
        worker((shard, tmp_path / "features"))
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "features").exists()
