"""Features that the workers of a Dask cluster compute and store, one task for each shard."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from socket import gethostname
from typing import Any

from imgpipe.nn.common.runtime import configure_runtime  # first: a worker has no Keras yet

# isort: split
from imgpipe.core.errors import PipelineError
from imgpipe.nn.transfer.features import FeatureExtractor, make_extractor
from imgpipe.parallel.shards import map_shards
from imgpipe.parallel.task import Task
from imgpipe.records.info import RecordsInfo
from imgpipe.records.shards import StoredShard
from imgpipe.settings.params import Params


def store_on_cluster(
    extractor: FeatureExtractor,
    info: RecordsInfo,
    params: Params,
    sources: Mapping[str, str],
    shards: Sequence[StoredShard],
) -> int:
    """Let the workers store the features of shards that are not stored yet.

    Returns:
        the number of images whose features were computed.

    Raises:
        PipelineError: a shard is damaged, the cluster cannot be used, or a worker would compute
            other features: it has another processor, or other libraries.
    """
    missing = extractor.find_missing(shards)
    map_shards(
        _Worker(info, params, dict(sources), extractor.determined_by),
        [Task((shard, path), shard.path.name, shard.examples) for shard, path in missing],
        label="features",
    )
    return sum(shard.examples for shard, _ in missing)


@dataclass(frozen=True)
class _Worker:
    """What a worker needs to compute the features of any shard."""

    info: RecordsInfo
    params: Params
    sources: dict[str, str]
    determined_by: dict[str, Any]

    def __call__(self, task: tuple[StoredShard, Path]) -> None:
        """Store the features of a shard in a file."""
        shard, path = task
        self._find_extractor().store(shard, path)

    def _find_extractor(self) -> FeatureExtractor:
        if not _extractors or _extractors[0][0] != self:
            _extractors[:] = [(self, self._make_extractor())]
        return _extractors[0][1]

    def _make_extractor(self) -> FeatureExtractor:
        here, settings = f"Dask worker on {gethostname()}", self.params.transfer
        try:
            configure_runtime(
                self.params.arithmetic,
                native_threads=self.params.arithmetics.native.threads,
                seed=settings.seed,
                precision=settings.precision,
            )
        except RuntimeError:  # TensorFlow has started
            raise PipelineError(
                f"{here}: it has computed features with another number of threads; start the"
                " workers again"
            ) from None
        extractor = make_extractor(self.params, self.info, self.sources)
        for name, expected in self.determined_by.items():
            if (found := extractor.determined_by[name]) != expected:
                raise PipelineError(
                    f"{here}: expected {name} {expected}; found {found}; the last digits of"
                    " features would differ; start workers on machines like this one"
                )
        return extractor


_extractors: list[tuple[_Worker, FeatureExtractor]] = []
"""In a worker: the extractor that it used last, with its description."""
