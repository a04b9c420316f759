"""Helpers that several tests share: the project's files, small runs, DVC and git as commands."""

import hashlib
import os
import random
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from imgpipe.core.yaml_file import read_yaml
from imgpipe.datasets.catalog import DownloadEntry, load_entry
from imgpipe.evaluation.predictions import Predictions
from imgpipe.preprocessing.raw_datasets import RawDataset

ROOT = Path(__file__).resolve().parent.parent
SRC = ROOT / "src"
CATALOG = ROOT / "data" / "catalog.yaml"
STAGES = ["fetch", "preprocess", "augment", "train", "evaluate", "plot"]

# The moments at which tests kill stages differ from run to run; the seed repeats them.
KILL_SEED = os.environ.get("IMGPIPE_KILL_SEED") or str(random.SystemRandom().randrange(10**6))


def hash_file(path: Path) -> str:
    """Return the SHA-256 of a file."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


def hash_files(folder: Path) -> dict[str, str]:
    """Return the SHA-256 of every file below a folder, by its path from there."""
    return {
        path.relative_to(folder).as_posix(): hash_file(path)
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def load_download(dataset: str) -> DownloadEntry:
    """Return the catalog's entry of a dataset that is downloaded."""
    entry = load_entry(dataset, CATALOG)
    assert isinstance(entry, DownloadEntry)
    return entry


def identity(dataset: RawDataset, index: int) -> str:
    """Return the identity of one image."""
    (found,) = dataset.identities(np.array([index]))
    return found


def leaves(value: dict[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Yield every leaf of a mapping with its dotted key."""
    for key, item in value.items():
        if isinstance(item, dict) and item:
            yield from leaves(item, f"{prefix}{key}.")
        else:
            yield prefix + key, item


def set_leaf(folder: Path, dotted: str, leaf: Any, file: str = "params.yaml") -> None:
    """Change one value of a YAML file."""
    value = read_yaml(folder / file)
    section = value
    *path, last = dotted.split(".")
    for key in path:
        section = section[key]
    section[last] = leaf
    (folder / file).write_text(yaml.safe_dump(value, sort_keys=False))


def set_params(folder: Path, value: dict[str, Any]) -> None:
    """Write a whole params.yaml."""
    (folder / "params.yaml").write_text(yaml.safe_dump(value))


def attempt(
    folder: Path, script: str, *options: str, **environment: str
) -> subprocess.CompletedProcess[str]:
    """Run a script of `src` in a folder."""
    return subprocess.run(
        [sys.executable, SRC / f"{script}.py", *options],
        cwd=folder,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        check=False,
    )


def run(folder: Path, script: str, *options: str, **environment: str) -> str:
    """Run a script of `src` that must succeed without a warning; return what it prints."""
    result = attempt(folder, script, *options, **environment)
    assert result.returncode == 0, result.stderr
    assert result.stderr == ""
    return result.stdout


def git(folder: Path, *arguments: str) -> str:
    """Run git; return what it prints."""
    return subprocess.run(
        ["git", *arguments], cwd=folder, check=True, capture_output=True, text=True
    ).stdout


def dvc(folder: Path, *arguments: str, **environment: str) -> str:
    """Run DVC, which must succeed; return what it prints."""
    result = subprocess.run(
        ["dvc", *arguments],
        cwd=folder,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 0, result.stdout + result.stderr
    return result.stdout + result.stderr


def stages_run(output: str) -> list[str]:
    """Return the names of the stages that DVC ran."""
    return [
        line.split("'")[1] for line in output.splitlines() if line.startswith("Running stage '")
    ]


def make_copy(folder: Path) -> Path:
    """Copy the files that git tracks, or would track, into a repository of their own."""
    listed = git(ROOT, "ls-files", "-z", "--cached", "--others", "--exclude-standard")
    for name in filter(None, listed.split("\0")):
        if (ROOT / name).is_file():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, folder / name)
    git(folder, "init", "--quiet")
    git(folder, "config", "user.name", "test")  # `dvc exp run` asks for them
    git(folder, "config", "user.email", "test@localhost")
    git(folder, "add", "--all")
    git(folder, "commit", "--quiet", "--message", "copy")
    return folder


def run_small(folder: Path, *, per_class: int, epochs: int) -> Path:
    """Copy the project, run the pipeline quickly on some of the digits, and commit it."""
    make_copy(folder)
    set_leaf(folder, "preprocess.max_per_class", per_class)
    set_leaf(folder, "augment.copies", 1)
    set_leaf(folder, "train.epochs", epochs)
    assert stages_run(dvc(folder, "repro")) == STAGES
    git(folder, "add", "--all")
    git(folder, "commit", "--quiet", "--message", "small run")
    return folder


def wait_until(what: Callable[[], Any], seconds: float = 200) -> Any:
    """Return the first true value that a function returns."""
    deadline_s = time.monotonic() + seconds
    while not (found := what()):
        assert time.monotonic() < deadline_s, "waited in vain"
        time.sleep(0.3)
    return found


def tool(folder: Path, script: str, *arguments: str) -> str:
    """Run a script of a copy of the project, as a person does; return what it prints."""
    result = subprocess.run(
        [sys.executable, f"src/{script}.py", *arguments],
        cwd=folder, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert result.returncode == 0, result.stderr
    assert result.stderr == ""
    return result.stdout


# Test images of three classes, and what a network says of each.
LABELS = np.array([0, 0, 1, 1, 2, 2])
PROBABILITIES = np.array(
    [
        [0.8, 0.1, 0.1],  # right
        [0.3, 0.6, 0.1],  # wrong: 1
        [0.1, 0.9, 0.0],  # right
        [0.1, 0.5, 0.4],  # right
        [0.5, 0.2, 0.3],  # wrong: 0
        [0.5, 0.3, 0.2],  # wrong: 0, and the actual class comes last
    ],
    dtype=np.float32,
)


def draw_predictions(classes: int, *, rounded: bool, examples: int = 400) -> Predictions:
    """Return random predictions; if they are rounded, many probabilities are equal."""
    generator = np.random.default_rng(classes)
    labels = generator.integers(0, classes, examples)
    raw = generator.dirichlet(np.ones(classes), examples) + 0.3 * np.eye(classes)[labels]
    raw = np.maximum(raw.round(1), 0.1) if rounded else raw
    return Predictions(
        classes=[f"class {label}" for label in range(classes)],
        identities=[f"image-{number}" for number in range(examples)],
        labels=labels,
        probabilities=(raw / raw.sum(axis=1, keepdims=True)).astype(np.float32),
    )
