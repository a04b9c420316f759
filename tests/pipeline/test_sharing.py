"""Outputs that share the disk with DVC's cache: later commands must not damage the cache."""

import hashlib
import os
import subprocess
import sys
from pathlib import Path

import pytest
from forks import import_libraries, run_process
from support import SRC, copy_project, dvc, git, hash_files, run, set_leaf, stages_run

pytestmark = pytest.mark.e2e

FOLDERS = ("data/raw", "data/records", "data/augmented")
SHARE = "from imgpipe.experiments.pipeline import share_outputs; share_outputs()"


@pytest.fixture
def project(finished: Path, tmp_path: Path) -> Path:
    """A copy of the project that has run, with outputs that share the disk."""
    folder = copy_project(finished, tmp_path / "project")
    # If outputs shared the disk already, `share` would have nothing to do.
    assert not any(path.stat().st_nlink > 1 for path in outputs(folder))
    assert share(folder).returncode == 0
    check(folder, is_shared=True)
    return folder


def share(folder: Path) -> subprocess.CompletedProcess[str]:
    """Call `share_outputs` in another process."""
    import_libraries()
    return run_process([sys.executable, "-c", SHARE], folder)


def outputs(folder: Path) -> list[Path]:
    """All files in output folders."""
    found = [path for name in FOLDERS for path in (folder / name).rglob("*") if path.is_file()]
    assert len(found) == 7
    return found


def check(folder: Path, *, is_shared: bool) -> None:
    """Check whether the outputs share the disk with the cache, and that no file is damaged."""
    cached = {}
    for path in (folder / ".dvc" / "cache" / "files" / "md5").rglob("*"):
        if path.is_file():
            cached[path.stat().st_ino] = path
            name = path.parent.name + path.name.removesuffix(".dir")
            assert hashlib.md5(path.read_bytes()).hexdigest() == name
            assert path.stat().st_mode & 0o222 == 0
    for path in outputs(folder):
        assert (path.stat().st_ino in cached) == is_shared, path


def test_shared_outputs_are_up_to_date(project: Path) -> None:
    assert stages_run(dvc(project, "repro", "augment")) == []
    assert dvc(project, "status", "fetch", "preprocess", "augment").startswith("Data and pipelines")
    assert git(project, "status", "--porcelain") == ""
    before = [path.stat().st_ctime_ns for path in outputs(project)]
    assert share(project).returncode == 0  # without another `dvc checkout`
    assert [path.stat().st_ctime_ns for path in outputs(project)] == before


def test_a_stage_that_runs_again_does_not_damage_the_cache(project: Path) -> None:
    before = hash_files(project / "data" / "records")
    set_leaf(project, "preprocess.seed", 2)
    assert stages_run(dvc(project, "repro", "augment")) == ["preprocess", "augment"]
    assert hash_files(project / "data" / "records") != before
    check_records_are_copies(project)
    assert share(project).returncode == 0
    check(project, is_shared=True)
    set_leaf(project, "preprocess.seed", 1)
    assert stages_run(dvc(project, "repro", "augment")) == []  # from the cache, linked at once
    assert hash_files(project / "data" / "records") == before
    check(project, is_shared=True)


def check_records_are_copies(project: Path) -> None:
    for name in ("records", "augmented"):
        for path in (project / "data" / name).rglob("*.*"):
            assert path.stat().st_nlink == 1


def test_stages_without_dvc_do_not_damage_the_cache(project: Path) -> None:
    for stage in ("fetch", "preprocess", "augment"):
        run(project, stage)
    check(project, is_shared=False)


def test_after_a_kill_between_two_files_dvc_restores_them(project: Path, tmp_path: Path) -> None:
    before = {path: path.read_bytes() for path in outputs(project)}
    set_leaf(project, "preprocess.seed", 2)
    dvc(project, "repro", "augment")
    expected = {path: path.read_bytes() for path in outputs(project)}
    assert expected != before
    (tmp_path / "sitecustomize.py").write_text(
        "import os\n"
        "links, real_link = [], os.link\n"
        "def link(*arguments, **options):\n"
        "    links.append(arguments) if 'records' in str(arguments[1]) else None\n"
        "    if len(links) > 2: os._exit(9)\n"
        "    real_link(*arguments, **options)\n"
        "os.link = link\n"
    )
    path = os.pathsep.join([tmp_path.as_posix(), SRC.as_posix()])
    killed = subprocess.run(
        [sys.executable, "-c", SHARE],
        cwd=project, env={**os.environ, "PYTHONPATH": path},
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert killed.returncode == 0
    assert "warning: `dvc checkout --relink` failed: " in killed.stderr
    left = [path for path in expected if path.exists()]
    assert 0 < len(left) < len(expected)
    assert stages_run(dvc(project, "repro", "augment")) == []
    assert {path: path.read_bytes() for path in outputs(project)} == expected
    assert share(project).returncode == 0
    check(project, is_shared=True)


def test_other_commands_of_dvc_do_not_damage_the_cache(project: Path) -> None:
    before = {path: path.read_bytes() for path in outputs(project)}
    output = dvc(project, "exp", "run", "--temp", "--set-param=augment.seed=2", "augment")
    assert stages_run(output) == ["augment"]
    check(project, is_shared=True)
    dvc(project, "gc", "--workspace", "--force")
    check(project, is_shared=True)
    for path in outputs(project)[::2]:
        path.unlink()
    dvc(project, "checkout", *FOLDERS)
    assert {path: path.read_bytes() for path in outputs(project)} == before
    check(project, is_shared=True)
