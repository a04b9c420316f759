"""Helpers that several tests share: the project's files, small runs, DVC and git as commands."""

import copy
import hashlib
import json
import os
import random
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from forks import fork_commands, import_libraries, run_process
from numpy.typing import NDArray
from PIL import Image

from imgpipe.core.errors import PipelineError
from imgpipe.core.files import write_json
from imgpipe.core.yaml_file import format_yaml, read_yaml
from imgpipe.datasets.catalog import DownloadEntry, load_entry
from imgpipe.evaluation.predictions import Predictions, write_predictions
from imgpipe.preprocessing.raw_datasets import RawDataset
from imgpipe.records.info import (
    FIELDS,
    FORMAT_VERSION,
    RecordsInfo,
    SplitInfo,
    name_shard,
    write_info,
)
from imgpipe.records.normalization import Normalization
from imgpipe.records.shards import write_shard
from imgpipe.records.stored_images import Inputs, LabeledInputs
from imgpipe.settings.backbones import BACKBONES
from imgpipe.settings.image_spec import ImageSpec
from imgpipe.settings.params import Params, load_params

ROOT = Path(__file__).resolve().parent.parent
SRC = ROOT / "src"
CATALOG = ROOT / "data" / "catalog.yaml"
STAGES = ["fetch", "preprocess", "augment", "train", "evaluate", "plot"]

# Settings of `augment` that switch on all that it can do.
EVERY_TRANSFORMATION = {
    "rotation_range": 40.0,
    "width_shift_range": 0.3,
    "height_shift_range": 0.2,
    "zoom_range": 0.3,
    "horizontal_flip": True,
    "vertical_flip": True,
    "brightness_range": [0.5, 1.5],
}

# Much longer than any wait takes on a slow machine; only a test that fails waits so long.
LONGEST_WAIT_S = 600

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


def load_download(dataset: str) -> DownloadEntry[Any]:
    """Return the catalog's entry of a dataset that is downloaded."""
    entry = load_entry(dataset, CATALOG)
    assert isinstance(entry, DownloadEntry)
    return entry


def identity(dataset: RawDataset, index: int) -> str:
    """Return the identity of one image."""
    (found,) = dataset.identities(np.array([index]))
    return found


def find_error(action: Callable[..., object], *arguments: Any, **options: Any) -> str:
    """Return the error of an action, which must be one line."""
    with pytest.raises(PipelineError) as caught:
        action(*arguments, **options)
    message = str(caught.value)
    assert "\n" not in message
    return message


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
    (folder / file).write_text(format_yaml(value))


def set_params(folder: Path, value: dict[str, Any]) -> None:
    """Write a whole params.yaml."""
    (folder / "params.yaml").write_text(format_yaml(value))


def attempt(
    folder: Path, script: str, *options: str, **environment: str
) -> subprocess.CompletedProcess[str]:
    """Run a script of `src` in a folder."""
    return run_process([sys.executable, SRC / f"{script}.py", *options], folder, environment)


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
    import_libraries()
    result = run_process(["dvc", *arguments], folder, environment)
    assert result.returncode == 0, result.stdout + result.stderr
    return result.stdout + result.stderr


def find_long_lines(output: str) -> list[str]:
    """Return the lines that have more than 100 characters."""
    return [line for line in output.splitlines() if len(line) > 100]


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


_FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.DOTALL | re.MULTILINE)
_NOT_RUN = re.compile(r"<!-- not run by the tests: (.+?) -->\s*\Z")
# On the line of the title: before each command, stop if the previous one has failed. This includes
# the first command of `a && b`, at which `set -e` does not stop.
_STOP_AT_FAILURE = (
    "trap 'status=$?; if [ $status -ne 0 ]; then exit $status; fi;"
    ' echo "line $LINENO: $BASH_COMMAND"\' DEBUG'
)


@dataclass(frozen=True)
class CodeBlock:
    """A block of code in a document."""

    line: int
    """Of the first line of the code, counted from 1."""
    language: str
    code: str
    reason_not_run: str
    """Empty if the tests run the block."""


def read_blocks(path: Path) -> list[CodeBlock]:
    """Return the blocks of code in a Markdown file.

    The tests do not run a block after the comment `<!-- not run by the tests: REASON -->`.
    """
    text = path.read_text(encoding="utf-8")
    blocks = []
    for fence in _FENCE.finditer(text):
        comment = _NOT_RUN.search(text[: fence.start()])
        line = text[: fence.start(2)].count("\n") + 1
        blocks.append(CodeBlock(line, fence[1], fence[2], comment[1] if comment else ""))
    return blocks


def run_document(path: Path, folder: Path) -> str:
    """Type the bash blocks of a document, in their order, into one shell; return what they print.

    Each command must succeed, as in a terminal in which the environment of `make setup` is active.

    Args:
        path: the Markdown file.
        folder: a copy of the project. It gets a `.venv` that uses the tests' environment, so
            that `make setup` has nothing to do.
    """
    binaries = _stand_in_for_setup(folder)
    lines = [_STOP_AT_FAILURE]  # then the code, on the lines where the document has it
    for block in read_blocks(path):
        if block.language == "bash" and not block.reason_not_run:
            lines += [""] * (block.line - 1 - len(lines)) + block.code.splitlines()
    script = folder / ".dvc" / "tmp" / "document.sh"
    script.parent.mkdir(exist_ok=True)
    script.write_text("\n".join(lines) + "\n", encoding="utf-8")
    # Inside `make test`, make would print the names of folders, too.
    environment = {name: value for name, value in os.environ.items() if not name.startswith("MAKE")}
    search = [str(binaries), os.path.dirname(sys.executable), os.environ["PATH"]]
    with fork_commands(binaries):
        result = subprocess.run(
            ["bash", script],
            cwd=folder,
            env={**environment, "PATH": os.pathsep.join(search)},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )
    assert result.returncode == 0, f"{path.name}, the last line that was run:\n{result.stdout}"
    return result.stdout


def _stand_in_for_setup(folder: Path) -> Path:
    """Make a `.venv` that `make setup` takes for complete; return its folder of commands."""
    binaries = folder / ".venv" / "bin"
    binaries.mkdir(parents=True, exist_ok=True)
    (binaries / "activate").write_text(f'export PATH="{binaries}:$PATH"\n')
    mark = "from install import *; MARKER.write_text(hash_lock(choose_lock(gpu=False)))"
    subprocess.run([sys.executable, "-c", mark], cwd=folder, check=True)
    return binaries


def make_leaves(folder: Path, values: Mapping[str, Any], *, per_class: int, side_px: int) -> Path:
    """Copy the project, with a fetched folder of random images of two classes.

    The shards have at most 1 MiB, and the images 128 x 128 pixels.

    Args:
        folder: where the copy goes.
        values: other parameters, by their dotted keys.
        per_class: the number of images of each class.
        side_px: height and width of the images.
    """
    make_copy(folder)
    for name in ("oak", "pine"):
        leaves = folder / "data" / "local" / "leaves" / name
        leaves.mkdir(parents=True)
        for number, image in enumerate(random_images(per_class, (side_px, side_px, 3))):
            Image.fromarray(image).save(leaves / f"{number}.png")
    with (folder / "data" / "catalog.yaml").open("a") as stream:
        stream.write(
            "leaves:\n  title: Leaves\n  files: data/local/leaves\n  format: {kind: image_folder}\n"
        )
    for key, value in {
        "dataset": "leaves",
        "preprocess.height_px": 128,
        "preprocess.width_px": 128,
        "preprocess.channels": 3,
        "preprocess.shard_size_mib": 1,
        **values,
    }.items():
        set_leaf(folder, key, value)
    run(folder, "fetch")
    return folder


def run_small(folder: Path) -> Path:
    """Copy the project, run the pipeline quickly on some of the digits, and commit it.

    Of each of the ten classes, 32 images are for training and validation, 12 for the test. No line
    of the output may be long.
    """
    make_copy(folder)
    for key, value in {
        "preprocess.max_per_class": 32,
        "preprocess.test_frac": 0.067,
        "augment.copies": 1,
        "training.epochs": 12,
    }.items():
        set_leaf(folder, key, value)
    output = dvc(folder, "repro")
    assert stages_run(output) == STAGES
    assert find_long_lines(output) == []
    git(folder, "add", "--all")
    git(folder, "commit", "--quiet", "--message", "small run")
    return folder


def copy_project(project: Path, folder: Path) -> Path:
    """Copy a project with its outputs, its repository and its cache of DVC; return the folder."""
    return shutil.copytree(project, folder, symlinks=True)


def wait_until(what: Callable[[], Any], pause_s: float = 0.3) -> Any:
    """Return the first true value that a function returns."""
    deadline_s = time.monotonic() + LONGEST_WAIT_S
    while not (found := what()):
        assert time.monotonic() < deadline_s, f"waited {LONGEST_WAIT_S} s without success"
        time.sleep(pause_s)
    return found


def tool(folder: Path, script: str, *arguments: str) -> str:
    """Run a script of a copy of the project, as a person does; return what it prints."""
    import_libraries()
    result = run_process([sys.executable, f"src/{script}.py", *arguments], folder)
    assert result.returncode == 0, result.stderr
    assert result.stderr == ""
    return result.stdout


PARAMS = load_params(ROOT / "params.yaml")
RESCALE = Normalization(method="rescale", scale=[1 / 255], offset=[0.0])
SMALL_SPEC = ImageSpec(height_px=12, width_px=12, channels=1, fit="crop", interpolation="lanczos")


def change_params(params: Params = PARAMS, **changes: Any) -> Params:
    """Return parameters with some dotted keys (`training__epochs=2`) changed, and checked again."""
    value = params.model_dump()
    for dotted, leaf in changes.items():
        section = value
        *path, last = dotted.split("__")
        for key in path:
            section = section[key]
        section[last] = leaf
    return Params.model_validate(value)


# Learns `make_easy_images` in a few short epochs.
EASY_PARAMS = change_params(
    networks__cnn__filters=[8],
    networks__cnn__pool_px=[2],
    networks__cnn__conv_dropout_frac=0.0,
    networks__cnn__dense_dropout_frac=0.0,
    training__epochs=4,
    training__batch_size=16,
    training__learning_rate=0.01,
)

# A pretrained network for small images, with short fits.
TRANSFER_PARAMS = change_params(
    method="transfer",
    network="efficientnet_lite0",
    preprocess__channels=3,
    preprocess__height_px=32,
    preprocess__width_px=32,
    transfer__iterations=30,
    transfer__l2_penalties=[0.01, 0.1],
    transfer__folds=2,
)

NETWORKS = ["mlp", "cnn", "resnet", "efficientnet_lite0"]
"""One network of each builder."""


def make_easy_images(count: int, classes: int = 10) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """Return noise with a bright block whose place shows the class; equal at every call.

    Images (N, 12, 12, 1) and labels (N,).
    """
    labels = np.arange(count) % classes
    images = np.random.default_rng(1).integers(0, 100, (count, 12, 12, 1), dtype=np.uint8)
    for image, label in zip(images, labels, strict=True):
        row, column = 1 + 6 * (label // 5), 2 * (label % 5)
        image[row : row + 4, column : column + 2] = 255
    return images, labels.astype(np.int64)


def write_photographs(folder: Path, counts: Mapping[str, int], side_px: int = 16) -> Path:
    """Write small pictures, the same at every call; return the folder.

    Args:
        folder: where they go.
        counts: number of pictures in each folder below; a bright stripe shows in which one it is.
        side_px: height and width.
    """
    generator = np.random.default_rng(0)
    width_px = side_px // len(counts)
    for number, (name, count) in enumerate(counts.items()):
        (folder / name).mkdir(parents=True, exist_ok=True)
        for image in range(count):
            pixels = generator.integers(0, 120, (side_px, side_px, 3), dtype=np.uint8)
            pixels[:, width_px * number : width_px * (number + 1)] += 130
            Image.fromarray(pixels).save(folder / name / f"{image:03d}.jpg")
    return folder


def make_smooth_picture(seed: int, side_px: int = 240) -> Image.Image:
    """Return a random picture with large areas and some noise, as a photograph has."""
    generator = np.random.default_rng(seed)
    coarse = generator.integers(0, 256, (9, 9, 3), dtype=np.uint8)
    smooth = Image.fromarray(coarse).resize((side_px, side_px), Image.Resampling.BICUBIC)
    noise = generator.integers(-8, 9, (side_px, side_px, 3))
    return Image.fromarray(np.clip(np.asarray(smooth) + noise, 0, 255).astype(np.uint8))


def make_random_images(count: int, *shape: int) -> NDArray[np.uint8]:
    """Return random pixels, (N, H, W, C); equal at every call."""
    return np.random.default_rng(0).integers(0, 256, (count, *shape), dtype=np.uint8)


def build_network(
    name: str,
    params: Params = PARAMS,
    *,
    shape: tuple[int, int, int] = (28, 28, 1),
    classes: int = 10,
    normalization: Normalization = RESCALE,
) -> Any:
    """Return an untrained network with its settings in `params`."""
    from imgpipe.nn.networks import build_model

    backbone = BACKBONES.get(name)
    return build_model(
        name,
        backbone or getattr(params.networks, name),
        image_shape=shape,
        classes=classes,
        normalization=normalization,
        builder=backbone.builder if backbone else None,
    )


def save_network(model: Any, path: Path) -> None:
    """Save a network with some signature."""
    from imgpipe.nn.common.model_signature import PIXELS, ModelSignature
    from imgpipe.nn.fitting.saved_model import save_model

    signature = ModelSignature(
        format_version=1, dataset="easy", classes=["a", "b"], pixels=PIXELS, image_spec=SMALL_SPEC
    )
    save_model(model, signature, path)


def train_network(
    model: Any,
    params: Params,
    images: NDArray[np.uint8],
    labels: NDArray[np.int64],
    validation_labels: NDArray[np.int64] | None = None,
) -> list[Any]:
    """Train a network without copies, validate it on the same images; return its epochs.

    As `train_model` does, but without files and a checkpoint.
    """
    from imgpipe.console.training_table import TrainingProgress
    from imgpipe.nn.common.arithmetic import find_forward
    from imgpipe.nn.fitting.training_set import TrainingSet
    from imgpipe.nn.training.loop import Trainer
    from imgpipe.nn.training.replicas import Replicas

    validation = LabeledInputs(images, labels if validation_labels is None else validation_labels)
    training_set = TrainingSet(images, labels, validation)
    forward = find_forward(params.arithmetic)
    trainer = Trainer(model, training_set, params.training, Replicas(1), forward)
    with TrainingProgress(
        epochs=params.training.epochs, examples=len(labels), finished_epochs=0, may_stop_early=False
    ) as progress:
        while not trainer.is_finished:
            trainer.run_epoch(progress)
    trainer.restore_best_weights()
    return trainer.epochs


def predict_probabilities(
    model: Any, images: Inputs, on_images: Callable[[int], object] = int
) -> NDArray[np.float32]:
    """Return the class probabilities, (N, K), that a model computes natively."""
    from imgpipe.nn.common.arithmetic import find_forward
    from imgpipe.nn.common.prediction import Predictor

    return Predictor(model, find_forward("native")).predict(images, on_images)


def train_easily(
    params: Params = EASY_PARAMS, *, classes: int = 10, misleading: bool = False
) -> tuple[Any, list[Any]]:
    """Train `cnn` on easy images from a fixed seed; return the model and its epochs.

    With `misleading` validation labels, validation gets worse as training gets better.
    """
    import keras

    keras.utils.set_random_seed(params.training.seed)
    images, labels = make_easy_images(200, classes)
    model = build_network("cnn", params, shape=(12, 12, 1), classes=classes)
    wrong_labels = (labels + 1) % classes
    return model, train_network(model, params, images, labels, wrong_labels if misleading else None)


def write_random_records(
    folder: Path,
    counts: dict[str, list[int]],
    *,
    image_shape: tuple[int, int, int] = (12, 17, 3),
    classes: tuple[str, ...] = ("a", "b"),
) -> RecordsInfo:
    """Write records of random images, equal in each call, and their `info.json`.

    Args:
        folder: where the records go; it is made if it is missing.
        counts: number of records in each shard of each split.
        image_shape: (H, W, C).
        classes: labels are dealt in turn.
    """
    generator = np.random.default_rng(0)
    height_px, width_px, channels = image_shape
    splits = {}
    for split, of_shards in counts.items():
        shards, labels = [], [0] * len(classes)
        for number, count in enumerate(of_shards):
            images = generator.integers(0, 256, (count, *image_shape), dtype=np.uint8)
            triples = [
                (image, n % len(classes), f"{split}/{number}#{n}") for n, image in enumerate(images)
            ]
            for _, label, _ in triples:
                labels[label] += 1
            shards.append(write_shard(folder / name_shard(split, number, len(of_shards)), triples))
        splits[split] = SplitInfo(
            examples=sum(of_shards),
            per_class=dict(zip(classes, labels, strict=True)),
            shards=shards,
        )
    info = RecordsInfo(
        format_version=FORMAT_VERSION,
        dataset="random",
        classes=list(classes),
        image_spec=ImageSpec(
            height_px=height_px,
            width_px=width_px,
            channels=3 if channels == 3 else 1,
            fit="stretch",
            interpolation="bilinear",
        ),
        normalization=Normalization(
            method="rescale", scale=[1 / 255] * channels, offset=[0.0] * channels
        ),
        record_fields=FIELDS,
        splits=splits,
    )
    write_info(folder, info)
    return info


RUN_PARAMETERS: dict[str, Any] = {
    "dataset": "digits",
    "preprocess": {"validation_frac": 0.1, "test_fold": "none", "seed": 1},
    "augment": {"copies": 2, "seed": 1},
    "training": {"learning_rate": 0.002, "seed": 1},
    "evaluate": {"top_k": 2, "calibration_bins": 5},
}
RUN_SOURCES = {
    **{f"src/{stage}.py": f"{stage}\n" for stage in STAGES[:5]},
    "src/imgpipe/core/errors.py": "errors\n",
    "src/imgpipe/core/files.py": "files\n",
}


def run_parameters(**changes: Any) -> dict[str, Any]:
    """Return the parameters of `commit_run` with some changed, such as `training__seed=2`."""
    changed = copy.deepcopy(RUN_PARAMETERS)
    for key, value in changes.items():
        section, _, name = key.partition("__")
        changed[section][name] = value
    return changed


def make_predictions(*, skill: float = 2.0, seed: int = 1, images: int = 200) -> Predictions:
    """Return predictions of three classes; more of them are correct if the skill is higher."""
    generator = np.random.default_rng([round(100 * skill), seed])
    labels = np.arange(images) % 3
    powers = np.exp(generator.normal(size=(images, 3)) + skill * np.eye(3)[labels])
    probabilities = (powers / powers.sum(axis=1, keepdims=True)).astype(np.float32)
    identities = [f"image-{number}" for number in range(images)]
    return Predictions(["a", "b", "c"], identities, labels, probabilities)


def commit_run(
    folder: Path,
    *,
    parameters: dict[str, Any] | None = None,
    accuracy: float = 0.9,
    skill: float = 2.0,
    raw: str = "raw",
    sources: Mapping[str, str] | None = None,
    dependencies: Sequence[str] = ("src/{stage}.py", "src/imgpipe/core"),
    pins: Sequence[str] = ("keras==3.1", "numpy==2"),
    images: int = 200,
) -> str:
    """Commit the files that a run leaves, without running anything; return the commit's hash.

    Args:
        folder: a git repository.
        parameters: of the run.
        accuracy: of the validation split; the loss is 1 minus the accuracy.
        skill: of `make_predictions`.
        raw: stands for the hash of the data.
        sources: text of source files, in addition to RUN_SOURCES.
        dependencies: the source files and folders that dvc.lock lists for each stage.
        pins: of libraries.
        images: number of test images.
    """
    parameters = parameters or RUN_PARAMETERS
    shutil.rmtree(folder / "src", ignore_errors=True)
    for path, text in {**RUN_SOURCES, **(sources or {})}.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_text(text)
    predictions = folder / "data/evaluation/predictions.csv"
    seed = parameters["training"]["seed"]
    write_predictions(predictions, make_predictions(skill=skill, seed=seed, images=images))
    outputs = {
        "fetch": {"data/raw": raw},
        "preprocess": {"data/records": raw},
        "augment": {"data/augmented": raw},
        "train": {"models/model.keras": str(accuracy)},
        "evaluate": {predictions.relative_to(folder).as_posix(): _hash_dependency(predictions)},
    }
    stages = {
        stage: {
            "deps": [
                {"path": path, "md5": _hash_dependency(folder / path)}
                for path in (pattern.format(stage=stage) for pattern in dependencies)
            ],
            "params": {
                "params.yaml": {
                    key: parameters[key]
                    for key in ("dataset", {"train": "training"}.get(stage, stage))
                    if key in parameters
                },
                "pyproject.toml": {"project.optional-dependencies.nn": list(pins)},
            },
            "outs": [{"path": path, "md5": digest} for path, digest in outs.items()],
        }
        for stage, outs in outputs.items()
    }
    (folder / "dvc.lock").write_text(format_yaml({"schema": "2.0", "stages": stages}))
    set_params(folder, parameters)
    metrics = {"validation_accuracy": accuracy, "validation_loss_unweighted": 1 - accuracy}
    write_json(folder / "metrics/train.json", metrics)
    git(folder, "add", "--all", "--force")
    git(folder, "commit", "--quiet", "--allow-empty", "--message", "run")
    return git(folder, "rev-parse", "HEAD").strip()


def _hash_dependency(path: Path) -> str:
    """Return the MD5 that DVC gives a file or a folder."""
    if path.is_file():
        return hashlib.md5(path.read_bytes()).hexdigest()
    listed = [
        {"md5": _hash_dependency(file), "relpath": file.relative_to(path).as_posix()}
        for file in sorted(path.rglob("*"))
        if file.is_file()
    ]
    return hashlib.md5(json.dumps(listed).encode()).hexdigest() + ".dir"


def keep_experiment(folder: Path, name: str, **values: Any) -> str:
    """Save a run as `dvc exp run` does, outside of the branch; return the commit's hash."""
    before = git(folder, "rev-parse", "HEAD").strip()
    commit = commit_run(folder, **values)
    git(folder, "update-ref", f"refs/exps/{before[:2]}/{before[2:]}/{name}", commit)
    git(folder, "reset", "--quiet", "--hard", before)
    return commit


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


def random_images(count: int, shape: tuple[int, int, int]) -> list[NDArray[np.uint8]]:
    """Return random images of one shape (H, W, C)."""
    return list(np.random.default_rng(0).integers(0, 256, (count, *shape), dtype=np.uint8))


def texts_in(figure: Any) -> list[str]:
    """Return all texts in a Matplotlib figure, those that drawing makes included."""
    figure.draw_without_rendering()
    return [text.get_text() for text in figure.findobj(lambda artist: hasattr(artist, "get_text"))]


class Page(HTMLParser):
    """A page as a browser reads it: tags that are still open, texts of cells, and addresses."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.cells: list[str] = []
        self.sources: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        """Note an open tag and its addresses."""
        if tag not in ("meta", "img", "br"):
            self.open.append(tag)
        if tag in ("td", "th"):
            self.cells.append("")
        self.sources += [value or "" for name, value in attributes if name in ("src", "href")]

    def handle_endtag(self, tag: str) -> None:
        """Close the tag that was opened last."""
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        """Collect the text of a cell."""
        if self.open and self.open[-1] in ("td", "th"):
            self.cells[-1] += data
