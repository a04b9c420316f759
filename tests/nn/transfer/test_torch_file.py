"""Weight files of PyTorch, read without PyTorch."""

import io
import pickle
import zipfile
from collections import OrderedDict
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support import find_error

from imgpipe.core.errors import PipelineError
from imgpipe.nn.transfer.torch_file import read_weights

MAGIC_NUMBER = 0x1950A86A20F9469CFC6C
WEIGHTS: dict[str, Any] = {
    "kernel": np.arange(24, dtype=np.float32).reshape(2, 3, 4),
    "steps": np.array([7], dtype=np.int64),
}


class Name:
    """An object that is pickled as a name in a module, which need not exist here."""

    def __init__(self, module: str, name: str) -> None:
        self.module, self.name = module, name


class Call:
    """An object that is pickled as a call of a named function."""

    def __init__(self, function: Name, *arguments: Any) -> None:
        self.function, self.arguments = function, arguments


class Storage(tuple[Any, ...]):
    """An object that is pickled as a persistent id."""


_PythonPickler: Any = vars(pickle)[
    "_Pickler"
]  # the C version does not let a subclass replace its method `save`


class Pickler(_PythonPickler):  # type: ignore[misc]
    def persistent_id(self, value: Any) -> Any:
        if not isinstance(value, Storage):
            return None
        kind, storage, *rest = value
        return (kind, Name("torch", storage), *rest)

    def save(self, value: Any, save_persistent_id: bool = True) -> None:
        if isinstance(value, Name):
            self.write(f"c{value.module}\n{value.name}\n".encode())
        elif isinstance(value, Call):
            self.save(value.function)
            self.save(value.arguments)
            self.write(pickle.REDUCE)
        else:
            super().save(value, save_persistent_id)


def dump(value: Any) -> bytes:
    stream = io.BytesIO()
    Pickler(stream, protocol=2).dump(value)
    return stream.getvalue()


def make_tensor(
    name: str,
    values: int,
    shape: Sequence[int],
    strides: Sequence[int],
    *,
    offset: int = 0,
    storage: str = "FloatStorage",
    function: Name | None = None,
) -> Call:
    identity = Storage(("storage", storage, name, "cpu", values, None))
    rebuild = function or Name("torch._utils", "_rebuild_tensor_v2")
    return Call(rebuild, identity, offset, tuple(shape), tuple(strides), False, OrderedDict())


def make_file(
    *,
    kernel: Any = None,
    magic_number: int = MAGIC_NUMBER,
    protocol: int = 1001,
    little_endian: bool = True,
    steps: Any = None,
    keys: Sequence[str] = ("10", "20"),
    values: int = 24,
    content: bytes | None = None,
    end: bytes = b"",
) -> bytes:
    """Return a weight file with `WEIGHTS`, or a variation of one."""
    tensors = OrderedDict(
        kernel=make_tensor("10", 24, (2, 3, 4), (12, 4, 1)) if kernel is None else kernel,
        steps=make_tensor("20", 1, (1,), (1,), storage="LongStorage") if steps is None else steps,
    )
    parts = [magic_number, protocol, {"little_endian": little_endian}, tensors, list(keys)]
    content = WEIGHTS["kernel"].tobytes() if content is None else content
    return b"".join(
        [
            *map(dump, parts),
            values.to_bytes(8, "little", signed=True) + content,
            (1).to_bytes(8, "little") + WEIGHTS["steps"].tobytes(),
            end,
        ]
    )


def test_the_arrays_of_a_file_are_read(tmp_path: Path) -> None:
    (tmp_path / "weights.pth").write_bytes(make_file())
    found = read_weights(tmp_path / "weights.pth")
    assert list(found) == list(WEIGHTS)
    for name, expected in WEIGHTS.items():
        assert found[name].dtype == expected.dtype
        assert (found[name] == expected).all()


def test_a_tensor_may_be_a_view_of_its_storage(tmp_path: Path) -> None:
    transposed = make_tensor("10", 24, (4, 3), (1, 4), offset=12)
    (tmp_path / "weights.pth").write_bytes(make_file(kernel=transposed))
    kernel = read_weights(tmp_path / "weights.pth")["kernel"]
    assert (kernel == WEIGHTS["kernel"][1].T).all()


@pytest.mark.parametrize(
    ("module", "name"), [("os", "system"), ("builtins", "eval"), ("posix", "system")]
)
def test_nothing_in_a_file_is_executed(tmp_path: Path, module: str, name: str) -> None:
    path, trace = tmp_path / "weights.pth", tmp_path / "trace"
    argument = f"open({str(trace)!r}, 'w')" if name == "eval" else f"touch '{trace}'"
    path.write_bytes(make_file(kernel=Call(Name(module, name), argument)))
    with pytest.raises(
        PipelineError, match=f"found the name {module}.{name}, which is not allowed"
    ):
        read_weights(path)
    assert not trace.exists()


def zipped() -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        archive.writestr("archive/data.pkl", dump({}))
    return stream.getvalue()


@pytest.mark.parametrize(
    "make",
    [
        lambda: b"",
        lambda: b"not a pickle",
        zipped,
        lambda: dump([1, 2]),
        lambda: make_file(magic_number=1),
        lambda: make_file(protocol=1002),
        lambda: make_file(little_endian=False),
        lambda: make_file(end=b"\0"),
        lambda: make_file(content=b"\0" * 8),
        lambda: make_file(kernel=3),
        lambda: make_file(kernel=make_tensor("10", 24, (2, 3, 4), (12, 4, 2))),
        lambda: make_file(kernel=make_tensor("10", 24, (2, 3, 4), (12, -4, 1))),
        lambda: make_file(kernel=make_tensor("10", 24, (2, 3, 4), (12, 4, 1), offset=1)),
        lambda: make_file(kernel=make_tensor("10", 24, (2, 3, 4), (12, 4, 1), offset=-1)),
        lambda: make_file(kernel=make_tensor("10", 24, (2, 3, 4), (12, 4))),
        lambda: make_file(kernel=make_tensor("10", 1 << 60, (2,), (1,))),
        lambda: make_file(kernel=make_tensor("10", 1 << 60, (2,), (1,)), values=1 << 60),
        lambda: make_file(kernel=make_tensor("10", -1, (2,), (1,)), values=-1),
        lambda: make_file(kernel=make_tensor("10", 24, (1 << 40,), (0,))),
        lambda: make_file(kernel=make_tensor("10", 24, (0,), (1,))),
        lambda: make_file(steps=make_tensor("10", 12, (1,), (1,), storage="LongStorage")),
        lambda: make_file(keys=["10"]),
        lambda: make_file(keys=["10", "20", "30"]),
        lambda: make_file(keys=["10", "10"]),
        lambda: make_file(kernel=make_tensor("10", 24, (1,), (1,), storage="OrderedDict")),
        lambda: make_file(kernel=make_tensor("10", 24, (1,), (1,), storage="HalfStorage")),
        *(lambda at=at: make_file()[:at] for at in (1, 20, 40, 90, 200, 300, 380, -100, -9, -1)),
    ],
)
def test_a_file_in_another_format_is_reported_in_one_line(
    tmp_path: Path, make: Callable[[], bytes]
) -> None:
    path = tmp_path / "weights.pth"
    path.write_bytes(make())
    message = find_error(read_weights, path)
    assert message.startswith(f"{path.as_posix()}: expected a state dictionary")


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (lambda: make_file(kernel=make_tensor("10", 24, (25,), (0,))), "outside its storage"),
        (
            lambda: make_file(steps=make_tensor("10", 24, (1,), (1,), storage="LongStorage")),
            "storage 10: found two descriptions",
        ),
        (lambda: make_file(keys=["10"]), r"found the storages \['10'\]; the tensors are in"),
        (lambda: make_file(keys=["10", "20", "30"]), r"found the storages \['10', '20', '30'\]"),
        (lambda: make_file(values=25), "storage 10: found 25 values instead of 24"),
        (lambda: make_file(end=b"\0"), "found bytes after the last storage"),
        (lambda: make_file()[:-1], "the file is truncated"),
    ],
)
def test_the_error_gives_the_reason(tmp_path: Path, make: Callable[[], bytes], reason: str) -> None:
    path = tmp_path / "weights.pth"
    path.write_bytes(make())
    with pytest.raises(PipelineError, match=reason):
        read_weights(path)


def test_a_missing_file_is_reported_in_one_line(tmp_path: Path) -> None:
    with pytest.raises(PipelineError, match=r"weights\.pth: cannot be read: No such file"):
        read_weights(tmp_path / "weights.pth")
