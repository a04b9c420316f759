"""Fixtures for the tests of networks."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest


@pytest.fixture(autouse=True)
def runtime(request: pytest.FixtureRequest) -> None:
    """Import TensorFlow as the stages do: silently, with operations in a fixed order."""
    if request.node.get_closest_marker("tf"):
        from imgpipe.nn.common.runtime import tf

        tf.config.experimental.enable_op_determinism()


@pytest.fixture
def set_precision() -> Iterator[Callable[[str], None]]:
    """Set the precision of the networks that a test builds."""
    from imgpipe.nn.common.runtime import keras

    yield keras.config.set_dtype_policy
    keras.config.set_dtype_policy("float32")


@pytest.fixture
def repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty DVC repository; the working directory is a temporary copy of the repository."""
    (tmp_path / "repository" / ".dvc").mkdir(parents=True)
    (tmp_path / "copy").mkdir()
    monkeypatch.setenv("DVC_ROOT", (tmp_path / "repository").as_posix())
    monkeypatch.chdir(tmp_path / "copy")
    return tmp_path / "repository"
