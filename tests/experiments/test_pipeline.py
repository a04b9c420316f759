"""A run of the whole pipeline: its errors, its estimated cost, its result."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from support import change_params, find_error, git, write_random_records

from imgpipe.core.errors import PipelineError
from imgpipe.core.files import write_json
from imgpipe.evaluation.label_issues import LabelIssue
from imgpipe.experiments.pipeline import (
    check_git,
    describe_cost,
    describe_result,
    run_dvc,
    run_pipeline,
)


def write_result(folder: Path, *, right: int, rows: str) -> None:
    """Write the outputs of a run on 40 test images, `right` of them classified correctly."""
    write_random_records(folder / "data" / "records", {"train": [2], "test": [2]})
    scores = {"accuracy": right / 40, "accuracy_low": 0.5, "accuracy_high": 0.99, "images": 40}
    write_json(folder / "metrics" / "test.json", scores)
    header = "class,precision,recall,f1,roc_auc,images\n"
    (folder / "metrics" / "per_class.csv").write_text(header + rows)
    suspects = f"{','.join(LabelIssue._fields)}\na.jpg,test,cats,dogs,0.1,0.9\n"
    (folder / "metrics" / "label_issues.csv").write_text(suspects)


def test_the_result_of_a_run_is_reported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    rows = 'cats,0.9,0.95,0.95,1.0,20\n"dogs, large",0.9,0.9,0.96,1.0,20\n'
    write_result(tmp_path, right=37, rows=rows)
    assert list(describe_result()) == [
        "random: test accuracy 0.9250 (95 % interval 0.5000 to 0.9900, 40 images)",
        "worst class: dogs, large, recall 0.9000, 20 images",
        "mistakes: 3 of 40 images; suspected labels: 1",
        "model card: metrics/report.html; pictures: metrics/plots",
    ]


def test_a_result_without_a_run_is_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(PipelineError, match=r"metrics/test.json: not found; `dvc repro`"):
        list(describe_result())


def test_the_estimate_depends_on_the_images_and_their_size_in_the_records() -> None:
    params = change_params(
        preprocess__height_px=200, preprocess__width_px=100, preprocess__channels=3,
        preprocess__test_frac=0.5, preprocess__validation_frac=0.5, augment__copies=4,
    )  # fmt: skip
    # 1,000 images and 1,000 copies of 60,000 bytes: 0.12 GB; photographs: 0.38 GB; all twice.
    assert describe_cost(1000, 380_000_000, params) == (
        "estimate: 1 min on two cores without GPU; 1.0 GB of disk during the run"
    )
    assert describe_cost(20_000, 0, params).startswith("estimate: 6 min")  # 30 s + 20,000 * 15 ms
    assert describe_cost(10, 1000, params) == (
        "estimate: 1 min on two cores without GPU; 2.4 MB of disk during the run"
    )


def test_the_error_of_a_failed_run_says_how_to_resume(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)  # no DVC repository
    assert find_error(run_pipeline) == (
        "`dvc repro` failed; the lines above say why; to resume the run after that: make run"
    )
    assert "not inside of a DVC repository" in capfd.readouterr().err


def test_an_interrupt_waits_for_dvc_and_says_how_to_resume(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A terminal sends Ctrl-C to DVC, too. Here a process takes one second to end."""
    program = tmp_path / "dvc.py"
    program.write_text("import pathlib, time; time.sleep(1); pathlib.Path('cleaned').touch()")
    monkeypatch.setenv("PYTHONPATH", tmp_path.as_posix())
    monkeypatch.chdir(tmp_path)
    real_wait = subprocess.Popen.wait

    def wait(process: subprocess.Popen[bytes], timeout: float | None = None) -> int:
        if not (tmp_path / "interrupted").exists():
            (tmp_path / "interrupted").touch()
            os.kill(os.getpid(), signal.SIGINT)
            time.sleep(0.1)
        return real_wait(process, timeout)

    monkeypatch.setattr(subprocess.Popen, "wait", wait)
    # A shell starts a command in the background with SIGINT ignored.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with pytest.raises(PipelineError, match="interrupted; to resume the run: make run"):
            run_pipeline()
    finally:
        signal.signal(signal.SIGINT, before)
    assert (tmp_path / "cleaned").exists()


def test_stages_use_the_same_python(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "dvc.py").write_text("import os; print(os.environ['PATH'])")
    monkeypatch.setenv("PYTHONPATH", tmp_path.as_posix())
    with (tmp_path / "log").open("wb") as stream:
        assert run_dvc("repro", output=stream) == 0
    first = (tmp_path / "log").read_text().split(os.pathsep)[0]
    assert first == Path(sys.executable).parent.as_posix()


@pytest.fixture
def new_repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty git repository without any user configuration, as working directory."""
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", "/dev/null")
    monkeypatch.setenv("GIT_CONFIG_SYSTEM", "/dev/null")
    for name in ("GIT_AUTHOR_NAME", "GIT_AUTHOR_EMAIL", "GIT_COMMITTER_NAME", "EMAIL"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.chdir(tmp_path)
    git(tmp_path, "init", "--quiet")
    return tmp_path


def test_a_missing_git_name_is_reported(new_repository: Path) -> None:
    with pytest.raises(PipelineError, match=r"^git: user.name and user.email are not set[^\n]*$"):
        check_git()
    git(new_repository, "config", "user.name", "test")
    git(new_repository, "config", "user.email", "test@localhost")
    check_git()


def test_a_file_that_git_does_not_track_is_named(new_repository: Path) -> None:
    git(new_repository, "config", "user.name", "test")
    git(new_repository, "config", "user.email", "test@localhost")
    (new_repository / "src").mkdir()
    (new_repository / "src" / "new.py").touch()
    (new_repository / "notes.txt").touch()
    with pytest.raises(PipelineError, match=r"^src/new.py: git does not track this file"):
        check_git()
    git(new_repository, "add", "src")
    check_git()
