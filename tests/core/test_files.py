from pathlib import Path

import pytest

from imgpipe.core.errors import PipelineError
from imgpipe.core.files import (
    read_json,
    replace_directory,
    replace_file,
    scratch_directory,
    write_csv,
    write_json,
)


def stop_after_writing(path: Path) -> None:
    path.write_text("half of the n")
    raise ZeroDivisionError


def test_replace_file_keeps_the_old_one_on_an_error(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_text("old")
    with pytest.raises(ZeroDivisionError), replace_file(path) as partial:
        stop_after_writing(partial)
    assert path.read_text() == "old"
    assert [entry.name for entry in tmp_path.iterdir()] == ["file"]


def test_replace_file_moves_what_was_written(tmp_path: Path) -> None:
    """A move within a folder is one step; a copy could be seen half done."""
    path = tmp_path / "file"
    with replace_file(path) as partial:
        partial.write_text("new")
        written = partial.stat().st_ino
        assert not path.exists()
    assert path.stat().st_ino == written


def test_replace_directory_swaps_only_at_the_end(tmp_path: Path) -> None:
    path = tmp_path / "folder"
    with replace_directory(path) as partial:
        (partial / "a").write_text("1")
        assert not path.exists()
    with replace_directory(path) as partial:
        (partial / "b").write_text("2")
        assert (path / "a").exists()
    assert [entry.name for entry in path.iterdir()] == ["b"]


def test_replace_directory_keeps_the_old_one_on_an_error(tmp_path: Path) -> None:
    path = tmp_path / "folder"
    with replace_directory(path) as partial:
        (partial / "a").write_text("1")
    with pytest.raises(ZeroDivisionError), replace_directory(path) as partial:
        stop_after_writing(partial / "b")
    assert [entry.name for entry in path.iterdir()] == ["a"]
    assert [entry.name for entry in tmp_path.iterdir()] == ["folder"]


def test_replace_directory_discards_what_a_killed_process_left(tmp_path: Path) -> None:
    left = tmp_path / "folder.partial"
    left.mkdir()
    (left / "stale").write_text("1")
    with replace_directory(tmp_path / "folder"):
        pass
    assert list((tmp_path / "folder").iterdir()) == []


def test_scratch_directory_is_gone_afterwards(tmp_path: Path) -> None:
    with scratch_directory(tmp_path / "scratch") as scratch:
        (scratch / "a").write_text("1")
    assert list(tmp_path.iterdir()) == []


def test_json_has_stable_bytes_and_reads_back(tmp_path: Path) -> None:
    path = tmp_path / "value.json"
    write_json(path, {"b": 1, "a": [0.5, "ä"]})
    assert path.read_bytes() == '{\n  "b": 1,\n  "a": [\n    0.5,\n    "ä"\n  ]\n}\n'.encode()
    assert read_json(path) == {"b": 1, "a": [0.5, "ä"]}


def test_json_refuses_nan(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="JSON"):
        write_json(tmp_path / "value.json", {"a": float("nan")})
    assert list(tmp_path.iterdir()) == []


def test_missing_json_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(PipelineError, match=r"info\.json: not found; `dvc repro`"):
        read_json(tmp_path / "info.json")


def test_csv_has_unix_line_ends(tmp_path: Path) -> None:
    path = tmp_path / "table.csv"
    write_csv(path, ["name", "value"], [["a,b", 1], ["c", 0.5]])
    assert path.read_bytes() == b'name,value\n"a,b",1\nc,0.5\n'
