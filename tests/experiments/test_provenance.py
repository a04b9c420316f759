"""Revisions, and what git and DVC recorded about their runs; the tests make the commits."""

import hashlib
import json
from pathlib import Path

import pytest
from support import commit_run, find_error, git, keep_experiment, run_parameters, set_params

from imgpipe.core.errors import PipelineError
from imgpipe.core.yaml_file import format_yaml, read_yaml
from imgpipe.experiments.provenance import (
    STAGES_TO_EVALUATE,
    STAGES_TO_TRAIN,
    Provenance,
    find_parameter_edits,
    find_revision,
    list_changed_files,
    list_experiments,
    open_hasher,
    open_output,
    read_provenance,
    read_text,
)

PREDICTIONS = "data/evaluation/predictions.csv"


def read(name: str) -> Provenance:
    return read_provenance(find_revision(name), STAGES_TO_EVALUATE)


def test_revisions_are_found_by_every_name(repository: Path) -> None:
    head = git(repository, "rev-parse", "HEAD").strip()
    kept = keep_experiment(repository, "brave-cat", accuracy=0.95)
    git(repository, "update-ref", "refs/exps/stash", head)
    git(repository, "update-ref", "refs/exps/celery/stash", head)
    assert [revision.name for revision in list_experiments()] == ["brave-cat"]
    assert find_revision("brave-cat").commit == kept
    for name in ("HEAD", "main", head[:8]):
        assert find_revision(name).commit == head
    assert find_revision("workspace").commit is None


def test_an_unknown_or_ambiguous_name_is_refused(repository: Path) -> None:
    first = keep_experiment(repository, "brave-cat")
    message = (
        "brave-dog: not found; expected a commit, branch or tag, an experiment (existing:"
        " brave-cat), or workspace"
    )
    assert find_error(find_revision, "brave-dog") == message
    git(repository, "commit", "--quiet", "--allow-empty", "--message", "next")
    second = keep_experiment(repository, "brave-cat", accuracy=0.99)
    with pytest.raises(PipelineError, match="brave-cat: several experiments have this name") as two:
        find_revision("brave-cat")
    assert first[:7] in str(two.value)
    assert second[:7] in str(two.value)


def test_a_folder_outside_git_is_refused_in_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(PipelineError, match="git for-each-ref: fatal: not a git repo") as raised:
        find_revision("HEAD")
    assert "\n" not in str(raised.value)


@pytest.fixture(params=["folder", "worktree", "worktree of a bare repository"])
def elsewhere(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Path:
    """A project with a run that is not at the top of a plain repository, as working directory.

    A variable of git names another repository, as in a hook.
    """
    top = tmp_path / "all projects"
    project = top / "team" / "ml" if request.param == "folder" else top
    project.mkdir(parents=True)
    git(top, "init", "--quiet", "--initial-branch=main")
    git(top, "config", "user.name", "test")
    git(top, "config", "user.email", "test@localhost")
    (top / "dvc.lock").write_text("stages: {}\n")  # of another project
    (project / ".dvc").mkdir()
    (project / ".dvc" / "config").touch()
    commit_run(project)
    keep_experiment(
        project, "brave-cat", accuracy=0.95, parameters=run_parameters(training__seed=2)
    )
    if request.param != "folder":
        repository = top
        if "bare" in request.param:
            repository = tmp_path / "bare.git"
            git(tmp_path, "clone", "--quiet", "--mirror", str(top), str(repository))
        project = tmp_path / "worktree"
        git(repository, "worktree", "add", "--quiet", "--detach", str(project), "main")
    git(tmp_path, "init", "--quiet", "another")
    monkeypatch.setenv("GIT_DIR", str(tmp_path / "another" / ".git"))
    monkeypatch.chdir(project)
    return project


def test_a_run_is_found_wherever_the_project_is(elsewhere: Path) -> None:
    for name, seed in (("HEAD", 1), ("main", 1), ("brave-cat", 2)):
        assert read(name).parameters["training.seed"] == seed
    assert [revision.name for revision in list_experiments()] == ["brave-cat"]
    metrics = [
        json.loads(read_text(find_revision(name), "metrics/train.json"))["validation_accuracy"]
        for name in ("HEAD", "brave-cat")
    ]
    assert metrics == [0.9, 0.95]
    for name in ("HEAD", "brave-cat"):
        found = open_output(find_revision(name), read(name), PREDICTIONS)
        assert found.startswith(b"index,")
    head, workspace = find_revision("HEAD"), find_revision("workspace")
    (elsewhere / "src/imgpipe/core/files.py").write_text("edited\n")
    (elsewhere / "src/imgpipe/core/new.py").write_text("new\n")
    with open_hasher(head) as hash_path:
        sources = read("HEAD").sources
        assert {path: hash_path(path) for path in sources} == sources
    assert list_changed_files(head, workspace, "src/imgpipe/core") == [
        "src/imgpipe/core/files.py",
        "src/imgpipe/core/new.py",
    ]


@pytest.mark.parametrize("name", ["-x", "--all", "x';id;'", "--", "a..b", "x\ny", "HEAD:dvc.lock"])
def test_a_name_with_a_meaning_elsewhere_is_a_name(repository: Path, name: str) -> None:
    message = find_error(find_revision, name)
    assert "not found; expected a commit, branch or tag" in message


def test_a_branch_of_any_legal_name_is_found(repository: Path) -> None:
    head = git(repository, "rev-parse", "HEAD").strip()
    for name in ("x';id>PWNED;'", "$(id)", "-x", "ç"):
        git(repository, "update-ref", f"refs/heads/{name}", head)
        assert find_revision(name).commit == head


def test_provenance_has_parameters_libraries_sources_and_outputs(repository: Path) -> None:
    provenance = read("HEAD")
    assert provenance.parameters["training.learning_rate"] == 0.002
    assert provenance.parameters["evaluate.top_k"] == 2
    assert provenance.libraries == {"keras": "3.1", "numpy": "2"}
    assert provenance.sources["src/train.py"] == hashlib.md5(b"train\n").hexdigest()
    assert provenance.sources["src/imgpipe/core"].endswith(".dir")
    assert provenance.outputs["data/raw"] == "raw"
    to_train = read_provenance(find_revision("HEAD"), STAGES_TO_TRAIN)
    assert "evaluate.top_k" not in to_train.parameters
    assert "src/evaluate.py" not in to_train.sources


def test_only_exact_pins_are_versions(repository: Path) -> None:
    commit_run(
        repository,
        pins=[
            "keras==3.1",
            "tensorflow-cpu==2.21.0; sys_platform == 'linux'",
            "dask[distributed] == 2026.8",
            "numpy>=2",
            "pillow",
        ],
    )
    assert read("HEAD").libraries == {
        "keras": "3.1",
        "tensorflow-cpu": "2.21.0",
        "dask[distributed]": "2026.8",
    }


def test_a_revision_without_a_run_is_refused(repository: Path) -> None:
    lock = repository / "dvc.lock"
    for text in ("stages: {fetch: {cmd: fetch}}\n", "schema: '2.0'\n", ""):
        lock.write_text(text)
        with pytest.raises(PipelineError, match=r"^workspace: dvc\.lock: the stage \w+ has not"):
            read("workspace")
    git(repository, "rm", "--quiet", "--cached", "dvc.lock")
    git(repository, "commit", "--quiet", "--message", "no lock")
    with pytest.raises(PipelineError, match=r"^HEAD: dvc\.lock not found$"):
        read("HEAD")
    lock.unlink()
    with pytest.raises(PipelineError, match=r"^workspace: dvc\.lock not found$"):
        read_text(find_revision("workspace"), "dvc.lock")


def test_a_run_with_a_stage_that_is_out_of_date_is_refused(repository: Path) -> None:
    """An experiment that stopped at `train` leaves such a lock."""
    lock = read_yaml(repository / "dvc.lock")
    lock["stages"]["evaluate"]["deps"].append({"path": "models/model.keras", "md5": "other"})
    (repository / "dvc.lock").write_text(format_yaml(lock))
    assert find_error(read, "workspace") == (
        "workspace: dvc.lock: the stage evaluate has not run since models/model.keras changed;"
        " run `dvc repro`"
    )
    to_train = read_provenance(find_revision("workspace"), STAGES_TO_TRAIN)
    assert to_train.outputs["models/model.keras"] == "0.9"


def test_parameters_edited_since_the_run_are_found(repository: Path) -> None:
    provenance = read("workspace")
    assert find_parameter_edits(find_revision("workspace"), provenance) == []
    set_params(repository, run_parameters(training__learning_rate=0.1))
    edits = find_parameter_edits(find_revision("workspace"), provenance)
    assert edits == ["training.learning_rate: 0.1"]
    assert find_parameter_edits(find_revision("HEAD"), provenance) == []


def test_an_output_that_differs_from_the_recorded_one_is_refused(repository: Path) -> None:
    revision, provenance = find_revision("workspace"), read("workspace")
    path = repository / PREDICTIONS
    assert open_output(revision, provenance, PREDICTIONS) == path.read_bytes()
    with path.open("a") as stream:
        stream.write("200,image-200,a,a,1,0,0\n")
    with pytest.raises(PipelineError, match=r"predictions\.csv is not the file that dvc\.lock"):
        open_output(revision, provenance, PREDICTIONS)
    path.unlink()
    with pytest.raises(PipelineError, match=r"workspace: .* is neither in DVC's cache nor in a"):
        open_output(revision, provenance, PREDICTIONS)


def test_files_that_dvc_cannot_read_are_reported_in_one_line(repository: Path) -> None:
    revision, provenance = find_revision("workspace"), read("workspace")
    (repository / PREDICTIONS).unlink()
    (repository / "dvc.yaml").write_text("stages: [\n")
    with pytest.raises(PipelineError, match=r"^workspace: DVC: ") as raised:
        open_output(revision, provenance, PREDICTIONS)
    assert len(str(raised.value).splitlines()) == 1
