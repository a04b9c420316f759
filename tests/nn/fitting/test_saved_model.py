"""Model files."""

import json
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
from support import (
    EASY_PARAMS,
    NETWORKS,
    SMALL_SPEC,
    build_network,
    change_params,
    save_network,
    train_easily,
)

pytestmark = pytest.mark.tf


def test_equal_seeds_give_equal_weights_and_files(tmp_path: Path) -> None:
    params = change_params(EASY_PARAMS, networks__cnn__conv_dropout_frac=0.3, training__epochs=2)
    for name in ("first", "second"):
        save_network(train_easily(params)[0], tmp_path / name / "model.keras")
    first, second = ((tmp_path / name / "model.keras").read_bytes() for name in ("first", "second"))
    assert first == second
    assert [path.name for path in (tmp_path / "first").iterdir()] == ["model.keras"]


def test_a_model_file_has_one_fixed_date(tmp_path: Path) -> None:
    save_network(build_network("mlp", shape=(12, 12, 1)), tmp_path / "model.keras")
    with zipfile.ZipFile(tmp_path / "model.keras") as archive:
        assert {entry.date_time for entry in archive.infolist()} == {(1980, 1, 1, 0, 0, 0)}
        assert json.loads(archive.read("metadata.json"))["date_saved"] == "1980-01-01@00:00:00"


def test_keras_reads_the_signature(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    import keras

    save_network(build_network("mlp", shape=(12, 12, 1)), tmp_path / "model.keras")
    metadata = keras.saving.KerasFileEditor(str(tmp_path / "model.keras")).metadata
    assert metadata["imgpipe"] == {
        "format_version": 1,
        "dataset": "easy",
        "classes": ["a", "b"],
        "pixels": "0 to 255, float32 or uint8",
        "image_spec": SMALL_SPEC.model_dump(),
    }
    assert f"Saved with Keras {keras.__version__}" in capsys.readouterr().out


@pytest.mark.parametrize("precision", ["float32", "mixed_bfloat16"])
@pytest.mark.parametrize("name", NETWORKS)
def test_a_model_file_has_no_memory_addresses(
    name: str, precision: str, set_precision: Callable[[str], None], tmp_path: Path
) -> None:
    """Keras writes memory addresses for objects that several layers share."""
    set_precision(precision)
    save_network(build_network(name), tmp_path / "model.keras")
    with zipfile.ZipFile(tmp_path / "model.keras") as archive:
        config = archive.read("config.json")
    assert f'"{name}"'.encode() in config
    assert b"shared_object_id" not in config


def test_the_optimizer_is_not_saved(tmp_path: Path) -> None:
    """The optimizer would take two thirds of the file."""
    model, _ = train_easily(change_params(EASY_PARAMS, training__epochs=1))
    save_network(model, tmp_path / "model.keras")
    weights_bytes = 4 * model.count_params()
    assert (tmp_path / "model.keras").stat().st_size < 2 * weights_bytes
