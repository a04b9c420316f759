"""A dataset of a person's folder: its name, its files, its entry, and kills between the steps."""

import errno
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from support import ROOT, SRC, find_error, hash_files

from imgpipe.core.errors import PipelineError
from imgpipe.core.yaml_file import parse_yaml, read_yaml
from imgpipe.datasets.catalog import LocalEntry, load_entry
from imgpipe.intake import adding
from imgpipe.intake.adding import add_dataset, format_choice, plan_dataset

FILES = ["cats/1.jpg", "cats/below/2.jpg", "dogs/1.jpg"]
CLASSES = ["cats", "dogs"]


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project with the catalog, which is the current folder; beside it, the folder `pets`."""
    folder = tmp_path / "project"
    (folder / "data" / "local").mkdir(parents=True)
    shutil.copy(ROOT / "data" / "catalog.yaml", folder / "data")
    for number, name in enumerate(FILES):
        path = tmp_path / "pets" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"image {number}")
    monkeypatch.chdir(folder)
    return folder


def add(source: str = "../pets", name: str = "", splits: dict[str, str] | None = None) -> str:
    new = plan_dataset(source, name)
    return add_dataset(new, new.source, FILES, CLASSES, splits)


def state(project: Path) -> dict[str, str]:
    """All files of the project and of the person's folder."""
    return hash_files(project.parent)


def error_of(source: str = "../pets", name: str = "") -> str:
    return find_error(plan_dataset, source, name)


def test_the_files_are_hard_links_and_the_entry_is_appended(project: Path) -> None:
    before = (project / "data" / "catalog.yaml").read_bytes()
    persons = hash_files(project.parent / "pets")
    (project.parent / "pets" / "cats" / "clip.mov").write_text("not a file of the dataset")
    assert add() == "data/local/pets: hard links to your files; data/catalog.yaml: the entry pets"
    added = project / "data" / "local" / "pets"
    assert hash_files(added) == persons
    for name in FILES:
        assert (added / name).samefile(project.parent / "pets" / name)
    assert (project / "data" / "catalog.yaml").read_bytes() == before + (
        b"\npets:\n"
        b"  title: 'Photographs: cats, dogs'\n"
        b"  files: data/local/pets\n"
        b"  format:\n"
        b"    kind: image_folder\n"
    )
    entry = load_entry("pets")
    assert isinstance(entry, LocalEntry)
    assert entry.folder == Path("data/local/pets")
    assert [path.name for path in (project / "data" / "local").iterdir()] == ["pets"]


def test_splits_are_in_the_entry(project: Path) -> None:
    splits = {"train": "Training", "test": "val"}
    add(splits=splits)
    assert load_entry("pets").format.splits.model_dump(exclude_none=True) == splits


def refuse_links(*_: Any) -> None:
    raise OSError(errno.EXDEV, "Invalid cross-device link")


def test_on_another_disk_the_files_are_copies(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "link", refuse_links)
    assert add().startswith("data/local/pets: copies of your files; ")
    added, persons = project / "data" / "local" / "pets", project.parent / "pets"
    assert hash_files(added) == hash_files(persons)
    (added / FILES[0]).write_text("changed")
    assert (persons / FILES[0]).read_text() == "image 0"


def test_some_files_may_be_on_another_disk(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real_link = os.link

    def link(source: Path, target: Path) -> None:
        if "dogs" in source.parts:
            refuse_links()
        real_link(source, target)

    monkeypatch.setattr(os, "link", link)
    assert add().startswith("data/local/pets: 2 hard links to your files, 1 copies; ")


def test_a_link_to_a_file_becomes_the_file(project: Path) -> None:
    persons = project.parent / "pets" / FILES[0]
    persons.rename(project.parent / "elsewhere.jpg")
    persons.symlink_to("../../elsewhere.jpg")
    add()
    added = project / "data" / "local" / "pets" / FILES[0]
    assert not added.is_symlink()
    assert added.samefile(project.parent / "elsewhere.jpg")


def test_a_folder_in_data_local_becomes_a_dataset_in_place(project: Path) -> None:
    shutil.copytree(project.parent / "pets", project / "data" / "local" / "pets" / "inner")
    before = hash_files(project / "data" / "local")
    new = plan_dataset("data/local/pets")
    line = add_dataset(new, Path("data/local/pets/inner"), FILES, CLASSES, None)
    assert line == "data/local/pets: in place; data/catalog.yaml: the entry pets"
    assert load_entry("pets").format.root == "inner"
    assert hash_files(project / "data" / "local") == before


def test_a_folder_in_data_local_has_the_name_of_its_dataset(project: Path) -> None:
    for name in ("my pets", "my.pets"):
        shutil.copytree(project.parent / "pets", project / "data" / "local" / name)
    assert add("data/local/my pets").startswith("data/local/my pets: in place")
    assert error_of("data/local/my pets").startswith("NAME: the dataset my pets already exists")
    expected = "NAME: expected letters, digits, _ and -; found 'my.pets'"
    assert error_of("data/local/my.pets") == expected


# The name.


@pytest.mark.parametrize(
    ("folder", "name"),
    [
        ("pets", "pets"), ("My pets (2024)", "My_pets_2024"), ("a.b.jpg", "a_b_jpg"),
        ("猫と犬", "猫と犬"), ("cafe\u0301", "caf\u00e9"), ("2024", "2024"), ("-x-", "x"),
        ("it's; $(x) `y`", "it_s_x_y"),
    ],
)  # fmt: skip
def test_the_name_follows_from_the_folder(project: Path, folder: str, name: str) -> None:
    (project.parent / "around" / folder).mkdir(parents=True)
    assert plan_dataset(f"../around/{folder}").name == name


@pytest.mark.parametrize("folder", ["...", "-- - --"])
def test_a_folder_without_letters_needs_a_name(project: Path, folder: str) -> None:
    (project.parent / folder).mkdir()
    expected = f"NAME: choose a name; {folder!r} has no letters or digits"
    assert error_of(f"../{folder}") == expected


@pytest.mark.parametrize(
    "name", ["../x", "a/b", ".hidden", "a.b", "-x", " ", "a\nb", "a:b", "é\u0301"]
)
def test_a_name_that_the_catalog_does_not_allow_is_refused(project: Path, name: str) -> None:
    before = state(project)
    assert error_of(name=name) == f"NAME: expected letters, digits, _ and -; found {name!r}"
    assert state(project) == before


@pytest.mark.parametrize(
    "name",
    ["my pets", "猫", "2024", "007", "12_07", "1e3", "0x10", "2024-01-31", "true", "null", "NULL",
     "on", "a-b", "_", "y"],
)  # fmt: skip
def test_a_name_that_yaml_would_read_as_a_number_stays_text(project: Path, name: str) -> None:
    assert parse_yaml(format_choice(name), "") == {"dataset": name}
    add(name=name)
    assert f" `{format_choice(name)}` in params.yaml" in error_of(name=name)
    assert list(read_yaml(project / "data" / "catalog.yaml"))[-1] == name
    assert load_entry(name).files == f"data/local/{name}"


def test_a_name_has_its_composed_form(project: Path) -> None:
    assert plan_dataset("../pets", "cafe\u0301").name == "caf\u00e9"


def test_a_name_that_is_in_the_catalog_is_refused(project: Path) -> None:
    add()
    before = state(project)
    assert error_of() == (
        "NAME: the dataset pets already exists in data/catalog.yaml; put more photographs into"
        " data/local/pets; `make run` runs it again, with `dataset: pets` in params.yaml; or choose"
        " another NAME"
    )
    assert error_of(name="mnist").startswith("NAME: the dataset mnist already exists")
    assert state(project) == before
    assert add(name="others").startswith("data/local/others: hard links")


def test_a_folder_in_data_local_without_an_entry_is_reported(project: Path) -> None:
    (project / "data" / "local" / "pets").mkdir()
    assert error_of() == (
        "NAME: data/local/pets already exists, without an entry in data/catalog.yaml;"
        " FOLDER=data/local/pets makes a dataset of it; or delete it, or choose another NAME"
    )
    (project / "data" / "local" / "my pets").mkdir()
    assert " FOLDER='data/local/my pets' makes a dataset of it;" in error_of(name="my pets")
    (project / "data" / "local" / "stray").touch()
    assert error_of(name="stray").startswith("NAME: data/local/stray already exists")
    (project / "data" / "local" / "link").symlink_to("nowhere")
    assert error_of(name="link").startswith("NAME: data/local/link already exists")


# The folder.


def test_a_missing_folder_and_a_file_are_refused(project: Path) -> None:
    (project.parent / "pets.zip").touch()
    for source, expected in (
        ("../nowhere", "../nowhere: no such folder"),
        ("../pets.zip", "../pets.zip: expected a folder; found a file; unpack an archive first"),
        ("", "expected a folder: make photographs FOLDER=path/to/folder"),
        (os.fsdecode(b"../\xe4"), r"../\xe4: no such folder"),
    ):
        assert error_of(source) == expected


def test_a_tilde_is_the_home_folder(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", project.parent.as_posix())
    assert plan_dataset("~/pets").source == project.parent / "pets"


@pytest.mark.parametrize(
    "source", ["data", "data/raw", "data/local", "data/local/others", ".", "..", "data/../data/raw"]
)
def test_the_folders_of_the_pipeline_are_refused(project: Path, source: str) -> None:
    for name in ("raw", "local/others"):
        (project / "data" / name).mkdir()
    assert error_of(source, "new") == (
        f"{source}: expected a folder outside of data, which the pipeline writes; or"
        " data/local/NAME, without another NAME"
    )


def test_a_folder_elsewhere_in_the_project_is_accepted(project: Path) -> None:
    (project / "pets").mkdir()
    assert plan_dataset("pets").name == "pets"


# The catalog.

OWN = """\
# My data.
leaves:   # of our street
    title: >
      Leaves,
      folded
    files: data/local/leaves
    format: {kind: image_folder,   root: "x"}
"""


@pytest.mark.parametrize(
    "content",
    [OWN, OWN.rstrip("\n"), OWN + "\n\n# end", OWN.replace("\n", "\r\n"), "# nothing yet\n", ""],
)
def test_a_persons_own_entries_keep_their_bytes(project: Path, content: str) -> None:
    path = project / "data" / "catalog.yaml"
    path.write_bytes(content.encode())
    before = read_yaml(path) or {}
    add()
    assert path.read_bytes().startswith(content.encode())
    assert b"\n\npets:\n" in path.read_bytes()
    after = read_yaml(path)
    assert after == {**before, "pets": after["pets"]}
    load_entry("pets")


@pytest.mark.parametrize("content", ["{leaves: {title: x}}\n", OWN + "...\n", "--- {}\n"])
def test_a_catalog_to_which_no_entry_can_be_appended_is_refused(
    project: Path, content: str
) -> None:
    (project / "data" / "catalog.yaml").write_text(content)
    before = state(project)
    with pytest.raises(PipelineError) as caught:
        add()
    assert str(caught.value) == (
        "data/catalog.yaml: an entry cannot be appended after its last line; expected names of"
        " datasets at the beginning of lines, and nothing that ends the document"
    )
    assert state(project) == before


def test_a_catalog_that_is_missing_or_no_mapping_is_reported(project: Path) -> None:
    (project / "data" / "catalog.yaml").write_text("- leaves\n")
    assert error_of() == "data/catalog.yaml: expected a mapping of names to datasets"
    (project / "data" / "catalog.yaml").unlink()
    assert error_of() == "data/catalog.yaml: not found; run from the project's top folder"


def test_an_entry_that_someone_adds_meanwhile_stays(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = project / "data" / "catalog.yaml"
    real_link = os.link

    def link(source: Path, target: Path) -> None:
        with path.open("a") as stream:
            stream.write("# a note\n")
        real_link(source, target)

    monkeypatch.setattr(os, "link", link)
    add()
    assert path.read_text().count("# a note\n") == len(FILES)


def test_many_classes_have_a_short_title(project: Path) -> None:
    new = plan_dataset("../pets")
    add_dataset(new, new.source, FILES, [f"class {number}" for number in range(9)], None)
    title = "Photographs: class 0, class 1, class 2, class 3, class 4 and 4 more"
    assert load_entry("pets").title == title


# Kills: the process ends at once, without the clean-up of an exception.


def add_and_end_at(step: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Add the folder in a process that ends at a step, and check the catalog."""
    catalog = Path("data/catalog.yaml").read_bytes()
    if (child := os.fork()) == 0:
        monkeypatch.setattr(adding, step, lambda *_: os._exit(9))
        add()
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 9
    assert Path("data/catalog.yaml").read_bytes() == catalog


def test_a_kill_between_two_files_leaves_no_folder_and_no_entry(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    add_and_end_at("_link_or_copy", monkeypatch)
    assert [path.name for path in (project / "data" / "local").iterdir()] == ["pets.partial"]
    add()  # as if nothing had been
    assert [path.name for path in (project / "data" / "local").iterdir()] == ["pets"]


def test_a_kill_between_the_folder_and_the_entry_can_be_completed(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    add_and_end_at("replace_file", monkeypatch)
    assert hash_files(project / "data" / "local" / "pets") == hash_files(project.parent / "pets")
    assert "FOLDER=data/local/pets makes a dataset of it" in error_of()
    assert add("data/local/pets").startswith("data/local/pets: in place")
    assert load_entry("pets").format.root is None


def test_a_full_disk_leaves_nothing(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = state(project)

    def copyfile(_: Path, target: Path) -> None:
        target.touch()
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "link", refuse_links)
    monkeypatch.setattr(shutil, "copyfile", copyfile)
    with pytest.raises(OSError, match="No space left"):
        add()
    assert state(project) == before


ADD = """
import sys
from pathlib import Path
from imgpipe.intake.adding import add_dataset, plan_dataset

sys.stdin.readline()
for number in range(20):
    new = plan_dataset("../pets", f"{sys.argv[1]}-{number}")
    add_dataset(new, new.source, ["cats/1.jpg", "dogs/1.jpg"], ["cats", "dogs"], None)
"""


def test_datasets_that_are_added_at_the_same_time_are_all_in_the_catalog(project: Path) -> None:
    (project / ".dvc").mkdir()
    before = list(read_yaml(project / "data" / "catalog.yaml"))
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", ADD, f"pets{number}"],
            env={**os.environ, "PYTHONPATH": str(SRC)}, stdin=subprocess.PIPE, text=True,
        )
        for number in range(2)
    ]  # fmt: skip
    for process in processes:
        assert process.stdin is not None
        process.stdin.write("\n")
        process.stdin.close()
    assert [process.wait() for process in processes] == [0, 0]
    added = {f"pets{process}-{number}" for process in range(2) for number in range(20)}
    assert set(read_yaml(project / "data" / "catalog.yaml")) == {*before, *added}


ADD_ONE = """
import sys
from pathlib import Path
from imgpipe.core.errors import run_script
from imgpipe.intake import adding

def add():
    new = adding.plan_dataset("../pets")
    print("planned", flush=True)
    sys.stdin.readline()
    adding.add_dataset(new, new.source, ["cats/1.jpg", "dogs/1.jpg"], ["cats", "dogs"], None)

real = adding._write_entry

def write_entry(*arguments):
    print("writes", flush=True)
    sys.stdin.readline()
    real(*arguments)

adding._write_entry = write_entry
run_script(add)
"""


class Adding:
    """A process that adds the folder pets; it waits for a line after each step that it prints."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-c", ADD_ONE],
            env={**os.environ, "PYTHONPATH": str(SRC)}, text=True,
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        )  # fmt: skip

    def next_line(self) -> str:
        assert self._process.stdout is not None
        return self._process.stdout.readline().rstrip()

    def go_on(self) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write("\n")
        self._process.stdin.flush()

    def end(self) -> str:
        _, errors = self._process.communicate()
        return errors.rstrip()


@pytest.mark.parametrize("is_planned", [False, True])
def test_the_same_folder_is_added_once_by_two_runs_at_the_same_time(
    project: Path, is_planned: bool
) -> None:
    """The second run waits, and then says what it would have said after the first one."""
    (project / ".dvc").mkdir()
    first = Adding()
    assert first.next_line() == "planned"
    early = Adding() if is_planned else None
    if early:
        assert early.next_line() == "planned"
    first.go_on()
    assert first.next_line() == "writes"
    if early:
        early.go_on()
    second = early or Adding()
    waits = "dataset: another run uses data/local/pets; waiting for its end"
    assert second.next_line() == waits
    first.go_on()
    assert first.end() == ""
    assert "put more photographs into data/local/pets" in error_of()
    assert second.end() == f"error: {error_of()}"
    assert hash_files(project / "data" / "local" / "pets")
