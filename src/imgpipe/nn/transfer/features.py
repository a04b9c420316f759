"""Features of images from a pretrained network, computed once and stored under `.dvc/tmp`.

The features of a shard are one file, named by a hash of everything that determines its bytes. So a
second training with another head, seed or learning rate reads the stored features, and a stopped
run resumes with the next shard.
"""

import hashlib
import math
import os
import platform
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from imgpipe.console.messages import format_count, report
from imgpipe.console.progress import ProgressBar
from imgpipe.core.dvc_tmp import delete_unused, entry_path
from imgpipe.core.files import replace_file
from imgpipe.core.sources import find_imports, name_file
from imgpipe.nn.common import runtime
from imgpipe.nn.common.arithmetic import find_forward
from imgpipe.nn.common.batches import count_steps
from imgpipe.nn.transfer.weights import build_pretrained
from imgpipe.records.info import RecordsInfo
from imgpipe.records.shards import ShardIndex, StoredShard
from imgpipe.records.stored_images import LabeledInputs, StoredImages
from imgpipe.settings.backbones import BACKBONES
from imgpipe.settings.params import Params

_KIND = "features"
_DIGEST_BYTES = hashlib.sha256().digest_size
# Modules that cannot change a feature. Of `settings`, the values count, not the schemas.
_WITHOUT_EFFECT = (
    "imgpipe.console",
    "imgpipe.core",
    "imgpipe.parallel",
    "imgpipe.running",
    "imgpipe.settings",
)


class FeatureExtractor:
    """Computes the features of shards, or reads the stored ones.

    Attributes:
        model: the pretrained network; the features are the input of its output layer.
        determined_by: everything that determines the features, except the images.
    """

    def __init__(
        self,
        model: keras.Model,
        info: RecordsInfo,
        *,
        arithmetic: str,
        native_threads: int,
        batch_size: int,
        determined_by: Mapping[str, Any],
    ) -> None:
        """Prepare the extraction.

        Args:
            model: from images (N, H, W, C) uint8, with a layer "logits" that takes the features.
            info: describes the records.
            arithmetic: exact or native. Exact features depend neither on the processor nor on the
                other images of a batch.
            native_threads: number of threads of one operation with native arithmetic.
            batch_size: images in a batch. The feature maps of a large batch do not fit in a
                processor's cache: for 224 x 224 pixels and one core, 8 is faster than 32.
            determined_by: what determines the features, except the libraries, the arithmetic and
                the shape of an image.

        Raises:
            PipelineError: a layer has no exact operations.
        """
        self.model = model
        network = keras.Model(model.input, model.get_layer("logits").input)
        self._batch_size = batch_size
        self._features = int(network.output_shape[-1])
        self._info = info
        forward = find_forward(arithmetic)
        self._extract = tf.function(
            lambda images: forward(network, images, training=False),
            autograph=False,
            input_signature=[tf.TensorSpec((batch_size, *info.image_shape), tf.uint8)],
        )
        self.determined_by: dict[str, Any] = {
            **determined_by,
            "arithmetic": arithmetic,
            "image_shape": info.image_shape,
            "libraries": [tf.__version__, keras.__version__, np.__version__],
        }
        if arithmetic == "native":
            self.determined_by |= {
                "batch_size": batch_size,
                "processor": _describe_processor(),
                "threads": native_threads,
            }

    def find_missing(self, shards: Sequence[StoredShard]) -> list[tuple[StoredShard, Path]]:
        """Return the shards without stored features, and the paths of their features.

        Outside a repository of DVC nothing is stored, so the list is empty.
        """
        placed = [(shard, self._find_file(shard)) for shard in shards]
        return [(shard, path) for shard, path in placed if path is not None and not path.exists()]

    def store(self, shard: StoredShard, path: Path) -> None:
        """Compute the features of a shard, and store them.

        Raises:
            PipelineError: the shard is damaged, or differs from its description in `info.json`.
        """
        images = StoredImages([shard.index()], self._info)
        _save(path, self._collect(images, on_computed=int))

    def read(self, shards: Sequence[StoredShard], *, computed_elsewhere: int = 0) -> LabeledInputs:
        """Return the features (N, F) float32 and labels of shards, in the order of the shards.

        Args:
            shards: of one split or more.
            computed_elsewhere: the number of images whose features were stored now, for the report.

        Raises:
            PipelineError: a shard is damaged, or differs from its description in `info.json`.
        """
        self._computed = computed_elsewhere
        rows: list[NDArray[np.float32]] = []
        labels: list[NDArray[np.int64]] = []
        with ProgressBar("features", sum(shard.examples for shard in shards), "image") as bar:
            for shard in shards:
                index = shard.index()
                labels.append(index.labels)
                rows.append(self._read_shard(index, shard, bar))
        delete_unused(_KIND)
        features = np.concatenate(rows)
        report(
            f"train: features of {format_count(len(features), 'image')}: {self._computed:,}"
            f" computed now, {len(features) - self._computed:,} from an earlier run"
        )
        return LabeledInputs(features, np.concatenate(labels))

    def _read_shard(
        self, index: ShardIndex, shard: StoredShard, bar: ProgressBar
    ) -> NDArray[np.float32]:
        path = self._find_file(shard)
        features = None if path is None else _load(path, (shard.examples, self._features))
        if features is not None:
            bar.update(shard.examples)
            return features
        features = self._collect(StoredImages([index], self._info), on_computed=bar.update)
        self._computed += shard.examples
        if path is not None:
            _save(path, features)
        return features

    def _find_file(self, shard: StoredShard) -> Path | None:
        """Return the path of the features of a shard; None outside a repository of DVC."""
        return entry_path(_KIND, [shard.description.sha256, self.determined_by])

    def _collect(
        self, images: StoredImages, on_computed: Callable[[int], object]
    ) -> NDArray[np.float32]:
        batches = list(self._compute(images, on_computed))
        return np.concatenate(batches) if batches else np.empty((0, self._features), np.float32)

    def _compute(
        self, images: StoredImages, on_computed: Callable[[int], object]
    ) -> Iterator[NDArray[np.float32]]:
        """Yield the features of each batch; batches have one size, so TensorFlow compiles once."""
        count, batch_size = images.shape[0], self._batch_size
        for step in range(count_steps(count, batch_size)):
            numbers = np.arange(step * batch_size, (step + 1) * batch_size)
            batch = self._extract(images[np.minimum(numbers, count - 1)]).numpy()
            present = int((numbers < count).sum())
            on_computed(present)
            yield batch[:present]


def make_extractor(
    params: Params, info: RecordsInfo, sources: Mapping[str, str]
) -> FeatureExtractor:
    """Build the network that params.yaml names, with its weights, and return its extractor.

    Args:
        params: the whole of params.yaml; its method is `transfer`.
        info: describes the records.
        sources: the SHA-256 of the project's source files, by their names under `src`.

    Raises:
        PipelineError: as `build_pretrained`.
    """
    backbone = BACKBONES[params.network]
    builder = f"imgpipe.nn.networks.{backbone.builder}"
    code = find_imports(__name__, runtime.__name__, builder, without=_WITHOUT_EFFECT)
    return FeatureExtractor(
        build_pretrained(params.network, image_shape=info.image_shape, classes=len(info.classes)),
        info,
        arithmetic=params.arithmetic,
        native_threads=params.arithmetics.native.threads,
        batch_size=params.transfer.batch_size,
        determined_by={
            "weights": backbone.sha256,
            "network": [
                backbone.structure,
                backbone.mean,
                backbone.scale,
                backbone.norm_epsilon,
            ],
            "code": {module: sources[name_file(module)] for module in sorted(code)},
        },
    )


def _load(path: Path, shape: tuple[int, int]) -> NDArray[np.float32] | None:
    """Return stored features, and mark them as used; None if the file is missing or damaged."""
    with suppress(OSError):
        content = path.read_bytes()
        digest, values = content[:_DIGEST_BYTES], content[_DIGEST_BYTES:]
        size_bytes = math.prod(shape) * np.dtype(np.float32).itemsize
        if len(values) == size_bytes and hashlib.sha256(values).digest() == digest:
            os.utime(path)
            return np.frombuffer(values, dtype=np.float32).reshape(shape)
    return None


def _save(path: Path, features: NDArray[np.float32]) -> None:
    """Write the SHA-256 of the values, then the values: NumPy's format has no checksum."""
    values = features.tobytes()
    with replace_file(path, shared=True) as partial:
        partial.write_bytes(hashlib.sha256(values).digest() + values)


def _describe_processor() -> list[str]:
    """Return the properties of a machine that decide how, and in which order, it adds numbers."""
    found = np.show_config(mode="dicts")["SIMD Extensions"]
    model = platform.processor()
    with suppress(OSError, StopIteration):  # only Linux has this file
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
        model = next(line for line in lines if line.startswith("model name"))
    one_dnn = f"TF_ENABLE_ONEDNN_OPTS={os.environ.get('TF_ENABLE_ONEDNN_OPTS', '')}"
    return [platform.machine(), model, *found.get("found", []), one_dnn]
