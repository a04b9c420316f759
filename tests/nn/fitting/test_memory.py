"""The limit of the memory that images may take."""

from pathlib import Path

import psutil
import pytest

from imgpipe.core.errors import PipelineError
from imgpipe.nn.fitting import training_set
from imgpipe.nn.fitting.training_set import fits_in_memory


@pytest.fixture
def limit_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The path of the file with the memory limit of a container; no file exists there yet."""
    monkeypatch.delenv("IMGPIPE_MEMORY_MIB", raising=False)
    monkeypatch.setattr(training_set, "_CONTAINER_LIMIT_FILE", tmp_path / "memory.max")
    return tmp_path / "memory.max"


@pytest.mark.parametrize("limit", [None, "max"])
def test_images_may_take_half_of_the_memory_of_the_machine(
    limit_file: Path, limit: str | None
) -> None:
    if limit:
        limit_file.write_text(f"{limit}\n")
    largest = psutil.virtual_memory().total // 2
    assert fits_in_memory(largest)
    assert not fits_in_memory(largest + 1)


def test_images_may_take_half_of_the_memory_of_a_container(limit_file: Path) -> None:
    limit_file.write_text("90\n")
    assert fits_in_memory(45)
    assert not fits_in_memory(46)


def test_an_environment_variable_limits_the_memory(
    limit_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("IMGPIPE_MEMORY_MIB", "3")
    assert fits_in_memory(3 << 20)
    assert not fits_in_memory((3 << 20) + 1)
    monkeypatch.setenv("IMGPIPE_MEMORY_MIB", "much")
    with pytest.raises(PipelineError, match="IMGPIPE_MEMORY_MIB: expected a whole number"):
        fits_in_memory(1)


def test_the_memory_limit_is_known_without_sysconf(
    limit_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`os.sysconf` does not exist on Windows."""
    monkeypatch.delattr("os.sysconf")
    assert fits_in_memory(1)
    assert not fits_in_memory(1 << 60)
