"""Read the weights in a file of PyTorch's older format, without PyTorch.

Own code, because only this file would need PyTorch, whose wheel for CPUs has 192 MB.

Source: `torch.serialization._legacy_save`: pickles of a magic number, a protocol version, a
description of the system, the state dictionary, and the keys of the storages; then, for each key,
an int64 count and the raw values, little-endian.
"""

import io
import math
import pickle
from collections import OrderedDict
from collections.abc import Sequence
from pathlib import Path
from typing import IO, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from imgpipe.core.errors import PipelineError

_MAGIC_NUMBER = 0x1950A86A20F9469CFC6C
_PROTOCOL_VERSION = 1001
_DTYPES: dict[str, np.dtype[Any]] = {
    "FloatStorage": np.dtype("<f4"),
    "LongStorage": np.dtype("<i8"),
}


class _Storage(NamedTuple):
    """A one-dimensional array in the file; a tensor is a view of a storage."""

    dtype: np.dtype[Any]
    key: str
    values: int


class _Tensor(NamedTuple):
    storage: _Storage
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]


def read_weights(path: Path) -> dict[str, NDArray[Any]]:
    """Return the arrays of a state dictionary by their names; nothing in the file is executed.

    Raises:
        PipelineError: the file is missing, is truncated, is of another format, or its pickles name
            anything other than tensors of float32 or int64 on a CPU.
    """
    try:
        # Read the whole file first: a wrong size in the file then cannot make Python reserve more
        # memory than the file has.
        return _read(io.BytesIO(path.read_bytes()))
    except OSError as error:
        raise PipelineError(f"{path.as_posix()}: cannot be read: {error.strerror}") from None
    except Exception as error:  # a damaged pickle raises almost anything
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise PipelineError(
            f"{path.as_posix()}: expected a state dictionary in PyTorch's older format; {reason};"
            " run `make setup`"
        ) from None


def _read(stream: IO[bytes]) -> dict[str, NDArray[Any]]:
    if _unpickle(stream) != _MAGIC_NUMBER or _unpickle(stream) != _PROTOCOL_VERSION:
        raise ValueError("found another format")
    if not _unpickle(stream)["little_endian"]:
        raise ValueError("found big-endian values")
    tensors, keys = _unpickle(stream), _unpickle(stream)
    if not isinstance(tensors, dict) or not isinstance(keys, list):
        raise ValueError("found no dictionary of tensors")
    storages: dict[str, _Storage] = {}
    for name, tensor in tensors.items():
        if not isinstance(name, str) or not isinstance(tensor, _Tensor):
            raise ValueError(f"{name}: found no tensor")
        storage = tensor.storage
        if storages.setdefault(storage.key, storage) != storage:
            raise ValueError(f"storage {storage.key}: found two descriptions")
    if sorted(keys) != sorted(storages):
        raise ValueError(f"found the storages {keys}; the tensors are in {list(storages)}"[:200])
    values = {}
    for key in keys:
        storage = storages[key]
        count = int.from_bytes(_read_exactly(stream, 8), "little", signed=True)
        if count != storage.values:
            raise ValueError(f"storage {key}: found {count} values instead of {storage.values}")
        content = _read_exactly(stream, count * storage.dtype.itemsize)
        values[key] = np.frombuffer(content, storage.dtype)
    if stream.read(1):
        raise ValueError("found bytes after the last storage")
    return {name: _view(name, tensor, values) for name, tensor in tensors.items()}


def _view(name: str, tensor: _Tensor, values: dict[str, NDArray[Any]]) -> NDArray[Any]:
    """Return a copy of the part of a storage that a tensor shows."""
    storage = values[tensor.storage.key]
    last = tensor.offset + sum(
        (size - 1) * stride for size, stride in zip(tensor.shape, tensor.strides, strict=True)
    )
    numbers = (tensor.offset, *tensor.shape, *tensor.strides)
    if (
        min(numbers) < 0
        or min(tensor.shape, default=1) < 1
        or last >= len(storage)
        or math.prod(tensor.shape) > len(storage)  # strides of 0 repeat values
    ):
        raise ValueError(f"{name}: found a tensor outside its storage")
    item_bytes = storage.dtype.itemsize
    return np.lib.stride_tricks.as_strided(
        storage[tensor.offset :],
        tensor.shape,
        [stride * item_bytes for stride in tensor.strides],
        writeable=False,
    ).copy()


def _read_exactly(stream: IO[bytes], count: int) -> bytes:
    content = stream.read(count) if count >= 0 else b""
    if len(content) != count:
        raise ValueError("the file is truncated")
    return content


def _rebuild_tensor(
    storage: _Storage, offset: int, shape: Sequence[int], strides: Sequence[int], *_: object
) -> _Tensor:
    return _Tensor(storage, int(offset), tuple(map(int, shape)), tuple(map(int, strides)))


# The names that a pickle in the file may load.
_ALLOWED: dict[tuple[str, str], Any] = {
    ("collections", "OrderedDict"): OrderedDict,
    ("torch._utils", "_rebuild_tensor_v2"): _rebuild_tensor,
    **{("torch", name): name for name in _DTYPES},
}


class _Unpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in _ALLOWED:
            raise pickle.UnpicklingError(f"found the name {module}.{name}, which is not allowed")
        return _ALLOWED[module, name]

    def persistent_load(self, identity: Any) -> _Storage:
        kind, storage, key, place, values, view = identity
        dtype = _DTYPES.get(storage)
        if kind != "storage" or dtype is None or place != "cpu" or view is not None:
            raise pickle.UnpicklingError(f"found an unknown storage {identity!r:.60}")
        return _Storage(dtype, str(key), int(values))


def _unpickle(stream: IO[bytes]) -> Any:
    return _Unpickler(stream).load()
