"""What a stage uses may not change while it runs; its libraries must be the pinned ones."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from forks import run_process
from support import ROOT

# A stage that edits a file while it runs. CHANGED is a path under `src` or in the project.
STAGE = '''
"""An editing stage."""
import sys
from pathlib import Path

from imgpipe.running.stage import run_stage


def main(run):
    path = Path({changed!r})
    text = path.read_text()
    assert text.count({old!r}) == 1
    path.write_text(text.replace({old!r}, {new!r}))
    return lambda: print("finished")


run_stage(main, __doc__)
'''
# Its entry in dvc.yaml.
ENTRY = """
stages:
  editing:
    cmd: python src/editing.py
    deps: [src/editing.py, src/imgpipe/core, src/imgpipe/reporting]
    params:
      - training
      - arithmetics.native
      - pyproject.toml: [{groups}]
"""


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A copy of the code and the parameters, in which a test may edit."""
    shutil.copytree(ROOT / "src", tmp_path / "src")
    shutil.copy(ROOT / "params.yaml", tmp_path)
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    return tmp_path


def run_editing_stage(
    project: Path,
    *options: str,
    changed: str = "params.yaml",
    old: str = "dpi: 100",
    new: str = "dpi: 99",
    libraries: tuple[str, ...] = ("config",),
) -> subprocess.CompletedProcess[str]:
    script = project / "src" / "editing.py"
    script.write_text(STAGE.format(changed=changed, old=old, new=new))
    groups = ", ".join(f"project.optional-dependencies.{group}" for group in libraries)
    (project / "dvc.yaml").write_text(ENTRY.format(groups=groups))
    return run_process([sys.executable, script, *options], project)


@pytest.mark.parametrize(
    ("changed", "old", "new", "error"),
    [
        ("src/imgpipe/core/errors.py", "import os", "import os ", "imgpipe/core/errors.py"),
        ("src/editing.py", "import sys", "import sys, os", "editing.py"),
        (
            "src/imgpipe/reporting/templates/base.html",
            "<head>",
            "<head >",
            "imgpipe/reporting/templates/base.html",
        ),
        ("params.yaml", "learning_rate: 0.002", "learning_rate: 0.1", "training.learning_rate"),
        ("params.yaml", "threads: 2", "threads: 1", "arithmetics.native.threads"),
        ("pyproject.toml", "pydantic==", "pydantic ==", "project.optional-dependencies.config"),
        # The stage does not depend on these:
        ("src/imgpipe/records/tfrecord.py", "import struct", "import struct ", None),
        ("src/imgpipe/serving/templates/app.html", "<head>", "<head >", None),
        ("params.yaml", "dpi: 100", "dpi: 99", None),
    ],
)
def test_code_and_values_may_not_change_while_a_stage_runs(
    project: Path, changed: str, old: str, new: str, error: str | None
) -> None:
    if changed == "src/editing.py":  # the text is also in the arguments of the edit
        old, new = '"""An editing stage."""\n', '"""Another stage."""\n'
    result = run_editing_stage(project, changed=changed, old=old, new=new)
    if error is None:
        assert (result.returncode, result.stdout, result.stderr) == (0, "finished\n", "")
    else:
        assert result.returncode == 1
        assert result.stdout == ""  # what comes after the check is not done
        assert result.stderr == (
            f"error: {error} changed while the stage was running: the outputs are stale;"
            " run the stage again\n"
        )


def test_several_changes_are_listed(project: Path) -> None:
    epochs = "epochs: 30                          # most passes over the training split"
    result = run_editing_stage(
        project,
        old=f"{epochs}\n  batch_size: 32 ",
        new=f"{epochs.replace('30', '31')}\n  batch_size: 33 ",
    )
    assert result.stderr.startswith("error: training.epochs, training.batch_size changed while")


def test_a_parameter_that_becomes_invalid_is_reported(project: Path) -> None:
    result = run_editing_stage(project, new="dpi: many")
    assert result.returncode == 1
    assert result.stderr.startswith("error: params.yaml: plot.dpi: expected a whole number")


def test_links_to_missing_files_do_not_stop_a_stage(project: Path) -> None:
    """Editors write lock files that are such links."""
    (project / "src" / ".#train.py").symlink_to("person@host.123:456")
    (project / "src" / "imgpipe" / ".#params.html").symlink_to("person@host.123:456")
    (project / "src" / "gone.py").symlink_to("missing.py")
    result = run_editing_stage(project)
    assert (result.returncode, result.stdout, result.stderr) == (0, "finished\n", "")


def test_other_versions_than_the_pinned_ones_stop_a_stage_at_its_start(project: Path) -> None:
    pins = project / "pyproject.toml"
    text = pins.read_text()
    assert text.count('"numpy==') == 1
    pins.write_text(text.replace('"numpy==', '"numpy==0.'))
    before = (project / "params.yaml").read_text()
    result = run_editing_stage(project, libraries=("config", "arrays"))
    assert result.returncode == 1
    assert result.stdout == ""
    assert result.stderr.startswith("error: pyproject.toml: numpy is pinned to 0.")
    assert result.stderr.endswith("is installed; run `make setup`\n")
    assert result.stderr.count("\n") == 1
    assert (project / "params.yaml").read_text() == before
    # A stage that does not import the library runs.
    assert run_editing_stage(project, libraries=("config",)).stdout == "finished\n"


def test_help_shows_the_description_and_does_nothing(project: Path) -> None:
    result = run_editing_stage(project, "--help")
    assert result.returncode == 0
    assert "An editing stage." in result.stdout
    assert "dpi: 100" in (project / "params.yaml").read_text()


def test_an_unknown_option_is_reported(project: Path) -> None:
    result = run_editing_stage(project, "--recrods", "x")
    assert result.returncode == 2
    assert "unrecognized arguments: --recrods x" in result.stderr
