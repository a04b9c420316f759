"""The commands that the documents show: accepted, and the guides' commands run as written."""

import argparse
import json
import re
import runpy
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from forks import import_libraries, run_process
from support import (
    ROOT,
    git,
    make_copy,
    read_blocks,
    run_document,
    write_random_records,
)

from imgpipe.core.errors import PipelineError
from imgpipe.core.yaml_file import read_yaml
from imgpipe.records.folders import Records
from imgpipe.settings.params import load_params

DOCUMENTS = sorted(
    path
    for pattern in ("README.md", "CONTRIBUTING.md", "docs/*.md", "*/README.md")
    for path in ROOT.glob(pattern)
)
GUIDES = [
    "README",
    "docs/data",
    "docs/records",
    "docs/labels",
    # Minutes each; `make test-slow` runs these three.
    pytest.param("docs/experiments", marks=pytest.mark.slow),
    pytest.param("docs/lessons", marks=pytest.mark.slow),
    pytest.param("docs/reproducibility", marks=pytest.mark.slow),
]

# Reads command lines of DVC as JSON; prints those that DVC refuses, and the parameters that the
# others set: what params.yaml holds in each run of a grid.
ASK_DVC = """
import contextlib, io, json, shutil, sys
from pathlib import Path
from dvc.cli.parser import get_main_parser
from dvc.utils.cli_parse import to_path_overrides
from dvc.utils.hydra import apply_overrides, get_hydra_sweeps

answers = []
for arguments in json.load(sys.stdin):
    shown = io.StringIO()
    try:
        with contextlib.redirect_stderr(shown), contextlib.redirect_stdout(shown):
            options = get_main_parser().parse_args(arguments)
    except SystemExit as stop:
        answers.append({"refused": shown.getvalue().strip() if stop.code else "", "runs": []})
        continue
    except Exception as error:  # DVC prints its help and raises an error of its own
        answers.append({"refused": repr(error), "runs": []})
        continue
    runs = []
    overrides = to_path_overrides(getattr(options, "set_param", None) or [])
    for sweep in get_hydra_sweeps(overrides) if overrides else []:
        shutil.copy(sys.argv[1], sys.argv[2])
        apply_overrides(Path(sys.argv[2]), sweep["params.yaml"])
        runs.append([sweep["params.yaml"], Path(sys.argv[2]).read_text()])
    answers.append({"refused": "", "runs": runs})
json.dump(answers, sys.stdout)
"""


@dataclass(frozen=True)
class Command:
    """A command that a document shows: where, and its words without variables before it."""

    place: str
    words: tuple[str, ...]

    def __str__(self) -> str:
        return f"{self.place}: {shlex.join(self.words)}"


def list_commands(path: Path) -> Iterator[Command]:
    """Yield the commands in the bash blocks of a document, and those in its text."""
    name = path.relative_to(ROOT).as_posix()
    for block in read_blocks(path):
        if block.language == "bash":
            lines = block.code.replace("\\\n", "  ").splitlines()
            for number, line in enumerate(lines, block.line):
                yield from split_commands(f"{name}:{number}", line)
    text = re.sub(r"```.*?```", "", path.read_text(encoding="utf-8"), flags=re.DOTALL)
    for code in re.findall(r"`((?:python src/|dvc |make )[^`<\n]+)`", text):
        if not re.search(r"\.\.\.|\[", code):
            for command in split_commands(name, code):
                # The text may name a group, such as `dvc plots`, or leave out arguments.
                is_bare = command.words[0] == "dvc" and len(command.words) < 4
                yield Command(name, (*command.words, "--help")) if is_bare else command


def split_commands(place: str, line: str) -> Iterator[Command]:
    """Yield the commands of one line of shell."""
    lexer = shlex.shlex(line, posix=True, punctuation_chars="&|;<>")
    lexer.whitespace_split = True
    words: list[str] = []
    for word in [*lexer, ";"]:
        if word in ("&&", "||", "|", ";", "&"):
            while words and re.fullmatch(r"[A-Z_]+=.*", words[0]):
                words.pop(0)
            if ">" in words:
                words = words[: words.index(">")]
            if words:
                yield Command(place, tuple(words))
            words = []
        else:
            words.append(word)


@cache
def all_commands() -> list[Command]:
    """The commands of all documents."""
    return [command for path in DOCUMENTS for command in list_commands(path)]


def commands_of(*start: str) -> list[Command]:
    """The commands of all documents that begin with these words."""
    found = [command for command in all_commands() if command.words[: len(start)] == start]
    assert found, f"no document shows {' '.join(start)}"
    return found


class ParserFoundError(Exception):
    """Carries the parser of a script."""


@cache
def parser_of(script: str) -> argparse.ArgumentParser:
    """Return the parser of a script: the script runs up to the point where it reads its options."""

    def stop(parser: argparse.ArgumentParser, *_: Any) -> None:
        raise ParserFoundError(parser)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(argparse.ArgumentParser, "parse_args", stop)
        with pytest.raises(ParserFoundError) as found:
            runpy.run_path(str(ROOT / script), run_name="__main__")
    parser = found.value.args[0]
    assert isinstance(parser, argparse.ArgumentParser)
    return parser


def test_the_scripts_that_documents_name_accept_the_options() -> None:
    for command in commands_of("python"):
        _, script, *options = command.words
        if not script.startswith("src/"):
            continue
        assert (ROOT / script).is_file(), command
        if "make_parser" not in (ROOT / script).read_text(encoding="utf-8"):
            assert not options, f"{command}: the script has no options"
            continue
        try:
            parser_of(script).parse_args(options)
        except SystemExit as stop:
            if stop.code:
                pytest.fail(f"{command}: the script refuses these options")


def test_the_targets_and_recipes_that_documents_name_exist() -> None:
    targets = re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE)
    for command in commands_of("make"):
        for word in command.words[1:]:
            variable, is_setting, value = word.partition("=")
            if not is_setting:
                assert word in targets, command
            elif variable == "NAME" and "recipe" in command.words and value not in ("NAME", "x"):
                assert (ROOT / "recipes" / f"{value}.yaml").is_file(), command


def test_dvc_accepts_the_commands_and_the_schema_their_values(tmp_path: Path) -> None:
    commands = commands_of("dvc")
    answer = subprocess.run(
        [sys.executable, "-c", ASK_DVC, ROOT / "params.yaml", tmp_path / "try.yaml"],
        input=json.dumps([command.words[1:] for command in commands]),
        check=True, capture_output=True, text=True,
    ).stdout  # fmt: skip
    runs = 0
    for command, found in zip(commands, json.loads(answer), strict=True):
        assert not found["refused"], f"{command}: {found['refused']}"
        for changes, text in found["runs"]:
            (tmp_path / "params.yaml").write_text(text)
            try:
                load_params(tmp_path / "params.yaml")
            except PipelineError as error:
                pytest.fail(f"{command}: {changes}: {error}")
            runs += 1
    assert runs > 20


@cache
def declared_outputs() -> list[str]:
    """The files and folders that stages write, and those that commands for people write."""
    outputs: list[str] = []
    for stage in read_yaml(ROOT / "dvc.yaml")["stages"].values():
        for kind in ("outs", "metrics", "plots"):
            for entry in stage.get(kind, []):
                outputs += [entry] if isinstance(entry, str) else entry
    return [*outputs, "models", "data/evaluation", "data/training", "data/local"]


def check_path(place: str, path: str) -> None:
    """Fail if a path neither exists nor is the output of a stage."""
    path = path.rstrip("/")
    is_output = any(
        path == output or path.startswith(f"{output}/") for output in declared_outputs()
    )
    assert is_output or (ROOT / path).exists(), f"{place}: {path} does not exist"


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_the_paths_that_documents_name_exist(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    place = path.relative_to(ROOT).as_posix()
    for link in re.findall(r"\]\(([^)#\s]+)[^)]*\)", text):
        if "://" not in link:
            target = (path.parent / link).resolve()
            check_path(place, target.relative_to(ROOT).as_posix())
    folders = "src|data|metrics|tests|models|recipes|studies|docs|benchmarks"
    for name in re.findall(rf"(?<![\w/.-])(?:{folders})/[\w/.-]*[\w/]", text):
        if not re.search(r"\bNAME\b", name):
            check_path(place, name)


DOCUMENT = """# A document

```bash
make setup
source .venv/bin/activate
cd docs
```

<!-- not run by the tests: needs a network -->
```bash
exit 3
```

```text
exit 4
```

```bash
python -c 'import numpy, os; print(os.listdir("../recipes")[:0])'   # packages, and `cd`
LAST
```
"""


def test_the_blocks_of_a_document_run_in_one_shell(tmp_path: Path) -> None:
    folder = make_copy(tmp_path / "project")
    document = tmp_path / "document.md"
    document.write_text(DOCUMENT.replace("LAST", "true && cat choices.md | tail -n 0"))
    reasons = [block.reason_not_run for block in read_blocks(document)]
    assert reasons == ["", "needs a network", "", ""]
    printed = run_document(document, folder).splitlines()
    assert [line for line in printed if not line.startswith("line 19: python")] == [
        "line 4: make setup",
        "line 5: source .venv/bin/activate",
        "line 6: cd docs",
        "[]",
        "line 20: true",
        "line 20: cat choices.md",
        "line 20: tail -n 0",
    ]
    for last in ("false", "false && true\necho more", "ls nothing; true", "true\nexit 1"):
        document.write_text(DOCUMENT.replace("LAST", last))
        with pytest.raises(AssertionError, match=r"document\.md"):
            run_document(document, folder)


@pytest.mark.e2e
@pytest.mark.parametrize("name", GUIDES)
def test_the_commands_of_a_guide_run_as_written(finished: Path, tmp_path: Path, name: str) -> None:
    """In a clone that finds the committed results in DVC's cache."""
    folder = tmp_path / "project"
    git(tmp_path, "clone", "--quiet", str(finished), str(folder))
    for key, value in (("user.name", "test"), ("user.email", "test@localhost")):
        git(folder, "config", key, value)
    shutil.copytree(finished / ".dvc" / "cache", folder / ".dvc" / "cache")
    import_libraries()
    print(run_document(ROOT / f"{name}.md", folder))


@pytest.mark.e2e
def test_the_reader_in_the_guide_of_records(tmp_path: Path) -> None:
    """Ten lines of tf.data give the images and labels that the stages read."""
    (block,) = (b for b in read_blocks(ROOT / "docs" / "records.md") if b.language == "python")
    records = tmp_path / "data" / "records"
    info = write_random_records(records, {"train": [5, 3], "test": [2]}, classes=("a", "b", "c"))
    save = """
import numpy
images, labels = zip(*dataset.as_numpy_iterator())
numpy.savez("found.npz", images=images, labels=labels)
"""
    import_libraries()
    result = run_process([sys.executable, "-c", block.code + save], tmp_path)
    assert result.returncode == 0, result.stderr
    found = np.load(tmp_path / "found.npz")
    batches = list(Records(records, info).read("train"))
    images = np.concatenate([batch.images for batch in batches])
    labels = np.concatenate([batch.labels for batch in batches])
    assert images.shape == (8, 12, 17, 3)
    np.testing.assert_array_equal(found["images"], images)
    np.testing.assert_array_equal(found["labels"], labels)
    assert found["images"].dtype == np.uint8
